"""Evicts the request that gives back the most KV blocks, leaving those it shares out."""

from bidkv import RequestState, ScoredVictim, Strategy
from bidkv.admission.fcfs import Fcfs


class MostBlocks(ScoredVictim):
    """Highest count of blocks that nobody else holds; ties go to the last admitted."""

    name = "most-blocks"
    source = "bidkv's examples"

    def score(self, request: RequestState, now: float) -> int:
        return request.private_blocks or 0  # None where the engine does not say


class MostBlocksStrategy(Strategy):
    name = "most-blocks"
    admission_class = Fcfs
    victim_class = MostBlocks
