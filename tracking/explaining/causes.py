"""What a request's seconds may be due to, in words, and what it is that is lacking there."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY, COMPUTE, SEATS = "memory", "compute", "seats (max_num_seqs)"


@dataclass(frozen=True)
class Cause:
    """`name` as recorded, or one of those that steps and blocks tell; `lacking` None: nothing of the engine."""

    name: str
    words: str
    lacking: str | None = None
    does_work: bool = False  # computes something new for this request: it would take that long alone, too


KNOWN = (
    Cause("behind", "behind the first in line", MEMORY),
    Cause("memory", "first in line, does not fit", MEMORY),
    Cause("preempted", "preempted, waiting again", MEMORY),
    Cause("recompute", "computed again after a preemption", MEMORY),
    Cause("again", "a beginning computed again between turns", MEMORY),
    Cause("seat", "for a seat", SEATS),
    Cause("budget", "for room in a step", COMPUTE),
    Cause("slowed", "decode, slowed by others' prompts", COMPUTE),
    Cause("grammar", "for its grammar", "grammars"),
    Cause("lora", "for a slot of its LoRA adapter", "adapter slots (max_loras)"),
    Cause("load", "for its KV to be loaded", "bandwidth to where KV is kept"),
    Cause("policy", "held back by the strategy"),
    Cause("deferred", "put off by the engine for those that decode", COMPUTE),
    Cause("paused", "the engine was paused"),
    Cause("input", "for its client's next input"),
    Cause("intake", "on its way into a step"),
    Cause("prefill", "prefill", COMPUTE, True),
    Cause("decode", "decode", COMPUTE, True),
)
"""In the order of a table: what could be otherwise first."""
BY_NAME = {cause.name: cause for cause in KNOWN}
DERIVED = ("again", "slowed")
