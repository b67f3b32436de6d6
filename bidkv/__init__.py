"""BidKV: which request gives up its KV cache when there is not enough of it.

Standard library only. Adapters for engines live in `bidkv.adapters` and import them lazily.
"""

from bidkv.admission.base import AdmissionPolicy
from bidkv.bids.gate import BidGate
from bidkv.bids.pool import BidPoolManager
from bidkv.bids.pressure import KVStats, PressureConfig, PressureDetector
from bidkv.bids.protocol import BidAcceptance, BidPool, CompressionBid, make_bid_id
from bidkv.bids.scoring import PositionalScoring, ScoringStrategy, build_bids
from bidkv.bids.solver import GreedyBidSolver
from bidkv.errors import BidKVError, BidValidationError, UnknownNameError
from bidkv.registry import BaselineRegistry, create_default_registry
from bidkv.request import RequestState
from bidkv.strategies.base import Strategy
from bidkv.strategies.triples import (
    BidKVRadixStrategy,
    BidKVStrategy,
    CostAwareStrategy,
    LargestFirstStrategy,
    LcfGuardStrategy,
    LcfStrategy,
    LeastProgressStrategy,
    PreemptEvictSJFStrategy,
    PreemptEvictStrategy,
    PriorityStrategy,
    RatioOracleStrategy,
    SglangDefaultStrategy,
    SlackAwareStrategy,
    SrptOracleStrategy,
    StaticRandomStrategy,
)
from bidkv.utility import compute_utility, disruption
from bidkv.victim.base import ScoredVictim, VictimPolicy, eligible_victims

BidKVConfig = BidGate
"""The gate's former name, which promised more: it gates bids, not strategies on a server."""

__all__ = [
    "AdmissionPolicy",
    "BaselineRegistry",
    "BidAcceptance",
    "BidGate",
    "BidKVConfig",
    "BidKVError",
    "BidKVRadixStrategy",
    "BidKVStrategy",
    "BidPool",
    "BidPoolManager",
    "BidValidationError",
    "CompressionBid",
    "CostAwareStrategy",
    "GreedyBidSolver",
    "KVStats",
    "LargestFirstStrategy",
    "LcfGuardStrategy",
    "LcfStrategy",
    "LeastProgressStrategy",
    "PositionalScoring",
    "PreemptEvictSJFStrategy",
    "PreemptEvictStrategy",
    "PressureConfig",
    "PressureDetector",
    "PriorityStrategy",
    "RatioOracleStrategy",
    "RequestState",
    "ScoredVictim",
    "ScoringStrategy",
    "SglangDefaultStrategy",
    "SlackAwareStrategy",
    "SrptOracleStrategy",
    "StaticRandomStrategy",
    "Strategy",
    "UnknownNameError",
    "VictimPolicy",
    "build_bids",
    "compute_utility",
    "create_default_registry",
    "disruption",
    "eligible_victims",
    "make_bid_id",
]
