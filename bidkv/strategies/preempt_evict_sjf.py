"""vLLM's default victim behind a shortest-job-first queue: what admission alone changes."""

from __future__ import annotations

from bidkv.strategies.admission import Sjf
from bidkv.strategies.base import Strategy
from bidkv.strategies.preempt_evict import Lifo


class PreemptEvictSJFStrategy(Strategy):
    name = "preempt-evict-sjf"
    admission_class = Sjf
    victim_class = Lifo
