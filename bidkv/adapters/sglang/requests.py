"""What the adapter knows of one SGLang request from its arrival to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bidkv.adapters.shared.accounting import RequestAccount
from bidkv.adapters.shared.facts import FactsReader
from bidkv.request import RequestState


def declared(req: Any) -> Any:
    """What is under `sampling_params.custom_params["bidkv"]` of an SGLang request."""
    custom = req.sampling_params.custom_params
    return custom.get("bidkv") if isinstance(custom, dict) else None


@dataclass(slots=True)
class SGLangAccount(RequestAccount):
    """`RequestAccount`, and what SGLang does not keep over a retraction."""

    fixed_length: int | None = None  # the output ends here
    computed: int = 0  # tokens with KV now, scheduled ones included
    admitted: int = -1  # number of its latest admission

    def evicted(self, t: float) -> None:
        self.preempted(t)
        self.state.preemptions += 1
        self.computed = 0

    def record_of(self, req: Any, finish_t: float) -> dict[str, Any]:
        """The `request` event, without its type.

        With overlap scheduling a step may be under way when the last token is found to be the
        last; what it computed is `overrun` and not part of `executed`.
        """
        prompt, output = len(req.origin_input_ids), len(req.output_ids)
        overrun = max(0, self.computed - (prompt + output - 1)) if output else 0
        reason = req.finished_reason or req.to_finish
        record = self.record(
            prompt=prompt,
            output=output,
            preemptions=self.state.preemptions,
            reason="abort" if reason is None else reason.to_json()["type"],
            finish_t=finish_t,
        )
        return record | {"executed": self.executed - overrun, "overrun": overrun}


def open_account(req: Any, t: float, reader: FactsReader, sign: int = 1) -> SGLangAccount:
    """An account for a request that just arrived. `sign` makes SGLang's priority one that is smaller if more important.

    A declared `true_output_tokens` also ends the output at exactly that length, whatever token comes:
    SGLang's admission goes on reckoning with `max_new_tokens`.
    """
    most = req.sampling_params.max_new_tokens
    facts = reader.read(declared(req), max(1, most), t)
    state = RequestState(
        request_id=req.rid,
        computed_tokens=0,
        prompt_tokens=len(req.origin_input_ids),
        max_tokens=most if facts.max_tokens is None else facts.max_tokens,
        arrival=t if facts.arrival is None else facts.arrival,
        priority=sign * (req.priority or 0) if facts.priority is None else facts.priority,
        deadline=facts.deadline,
        session=facts.session,
        turn=facts.turn,
    )
    fixed = facts.true_output_tokens
    return SGLangAccount(
        state,
        arrival_t=t,
        true_output_tokens=state.max_tokens if fixed is None else fixed,
        fixed_length=fixed,
    )
