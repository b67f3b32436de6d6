"""Coding-agent sessions in TraceLab's replay form: a CSV file with a line a round; lengths and tool waits, no text.

github.com/uw-syfi/TraceLab, Apache-2.0: `replay/examples/multi_session_large.csv` (48 sessions, 303 rounds), or what its
`csv_export` makes of a trace. A round keeps the first `prefix_len` tokens of what came before, prompt and answer, and
adds `input_len`; more than there was (a session that began before the file) is new, too. `tool_wait_after_ms` passes before
the next round. Sessions arrive as `workload.rate` says: the file's `arrival_time` was drawn as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt, TurnDraft, bad_record, source_file
from ray_jobs.workload.sources.shared.files import picked
from tracking.errors import require

NUMBERS = ("round_idx", "prefix_len", "input_len", "output_len", "tool_wait_after_ms")
LEAST = {"input_len": 1, "output_len": 1}  # of the others 0


def sessions(config: WorkloadConfig, seed: int, vocab_size: int) -> Iterator[list[TurnDraft]]:
    """In the order of `workload.source.pick`: of the file, or shuffled."""
    table = _read(config.source.path)
    found = [rounds.sort_values("round_idx") for _, rounds in table.groupby("session", sort=False)]
    for number, rounds in picked(config.source, list(enumerate(found)), seed):
        yield _turns(rounds, number, config.name)


def _turns(rounds: pd.DataFrame, number: int, kind: str) -> list[TurnDraft]:
    context = SegmentPrompt((), (), shared=True)
    turns: list[TurnDraft] = []
    think = 0.0
    for turn, row in enumerate(rounds.itertuples()):
        before = context.cut(row.prefix_len)
        before = _longer(before, (number, turn, "before"), row.prefix_len - len(before))
        prompt = _longer(before, (number, turn, "said"), row.input_len)
        parents = (turn - 1,) if turn else ()
        turns.append(TurnDraft(Draft(kind, prompt, row.output_len), turn, parents, think))
        context = _longer(prompt, (number, turn, "answer"), row.output_len)
        think = row.tool_wait_after_ms / 1000
    return turns


def _longer(prompt: SegmentPrompt, name: tuple[str | int, ...], length: int) -> SegmentPrompt:
    if not length:
        return prompt
    return SegmentPrompt((*prompt.names, ("session", *name)), (*prompt.lengths, length), shared=True)


def _read(path: str) -> pd.DataFrame:
    """A row a round: its session and `NUMBERS`. Raises ValueError, naming the record, for a cell that is none."""
    table = pd.read_csv(source_file(path), encoding="utf-8-sig")
    table = table.rename(columns={"id": "session", "session_id": "session"})
    missing = [name for name in ("session", *NUMBERS) if name not in table.columns]
    require(
        not missing, "workload.source.path", path,
        "a CSV file with the columns session_id (or id), " + ", ".join(NUMBERS),
    )  # fmt: skip
    require(bool(len(table)), "workload.source.path", path, "a file with sessions in it")
    for name in NUMBERS:
        numbers, least = pd.to_numeric(table[name], errors="coerce"), LEAST.get(name, 0)
        wrong = ~((numbers >= least) & (numbers < float("inf")))
        if wrong.any():
            place = int(wrong.to_numpy().argmax())
            raise bad_record(path, place + 1, f"{name}={table[name][place]} must be a number >= {least}")
        table[name] = numbers if name == "tool_wait_after_ms" else numbers.astype(int)
    twice = table.duplicated(["session", "round_idx"])
    if twice.any():
        place = int(twice.to_numpy().argmax())
        raise bad_record(
            path, place + 1, f"round_idx={table['round_idx'][place]} of its session occurs twice"
        )
    return table
