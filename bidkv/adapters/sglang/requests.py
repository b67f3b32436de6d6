"""What the adapter knows of one SGLang request from its arrival to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bidkv.adapters.vllm.accounting import RequestAccount
from bidkv.request import RequestState


def declared_facts(req: Any) -> Mapping[str, Any]:
    """Numbers under `sampling_params.custom_params["bidkv"]`; anything else there is left out.

    `max_tokens` is what a policy sees as declared. `true_output_tokens` ends the output at exactly
    that length, whatever token comes, and is shown to oracle policies alone: SGLang's admission
    goes on reckoning with `max_new_tokens`. `arrival` and `deadline` are `time.time()` seconds.
    """
    custom = req.sampling_params.custom_params
    facts = custom.get("bidkv") if isinstance(custom, dict) else None
    if not isinstance(facts, dict):
        return {}
    return {k: v for k, v in facts.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


@dataclass(slots=True)
class SGLangAccount(RequestAccount):
    """`RequestAccount`, and what SGLang does not keep over a retraction."""

    fixed_length: int | None = None  # the output ends here
    computed: int = 0  # tokens with KV now, scheduled ones included
    admitted: int = -1  # number of its latest admission
    admission_key: tuple[Any, ...] | None = None

    def show_to(self, oracle: bool) -> None:
        """Shows or hides the true length."""
        length = self.fixed_length if self.fixed_length is not None else self.state.max_tokens
        self.state.true_output_tokens = length if oracle else None
        self.admission_key = None

    def evicted(self, t: float) -> None:
        self.preempted(t)
        self.state.preemptions += 1
        self.computed = 0
        self.admission_key = None

    def record_of(self, req: Any, finish_t: float) -> dict[str, Any]:
        """The `request` event, without its type.

        With overlap scheduling a step may be under way when the last token is found to be the
        last; what it computed is `overrun` and not part of `executed`.
        """
        prompt, output = len(req.origin_input_ids), len(req.output_ids)
        overrun = max(0, self.computed - (prompt + output - 1)) if output else 0
        first = self.first_scheduled_t
        waits = list(self.resume_delays)
        if self.preempted_t is not None:  # it ended while it waited
            waits.append(finish_t - self.preempted_t)
        return {
            "id": self.state.request_id,
            "prompt": prompt,
            "output": output,
            "max_tokens": self.state.max_tokens,
            "executed": self.executed - overrun,
            "recomputed": self.recomputed,
            "cached": self.cached,
            "cached_resume": self.cached_resume,
            "overrun": overrun,
            "preemptions": self.state.preemptions,
            "preempted_s": sum(waits),
            "resume_delays": self.resume_delays,
            "queued_s": (finish_t if first is None else first) - self.arrival_t,
            "arrival_t": self.arrival_t,
            "first_scheduled_t": first,
            "finish_t": finish_t,
        }


def open_account(req: Any, t: float) -> SGLangAccount:
    """An account for a request that just arrived."""
    facts = declared_facts(req)
    state = RequestState(
        request_id=req.rid,
        computed_tokens=0,
        prompt_tokens=len(req.origin_input_ids),
        max_tokens=int(facts.get("max_tokens", req.sampling_params.max_new_tokens)),
        arrival=float(facts.get("arrival", t)),
        priority=int(facts.get("priority", req.priority or 0)),
        deadline=facts.get("deadline"),
    )
    length = facts.get("true_output_tokens")
    return SGLangAccount(state, arrival_t=t, fixed_length=None if length is None else int(length))
