"""BidKV: which request gives up its KV cache when there is not enough of it.

Standard library only. Adapters for engines live in `bidkv.adapters` and import them lazily.
"""

from bidkv.config import BidKVConfig
from bidkv.errors import BidKVError, BidValidationError, UnknownNameError
from bidkv.pool import BidPoolManager
from bidkv.pressure import KVStats, PressureConfig, PressureDetector
from bidkv.protocol import BidAcceptance, BidPool, CompressionBid, make_bid_id
from bidkv.registry import BaselineRegistry, create_default_registry
from bidkv.request import RequestState
from bidkv.scoring import PositionalScoring, ScoringStrategy, build_bids
from bidkv.solver import GreedyBidSolver
from bidkv.strategies import (
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
from bidkv.strategies.base import AdmissionPolicy, ScoredVictim, Strategy, VictimPolicy, eligible_victims
from bidkv.utility import compute_utility, disruption

__all__ = [
    "AdmissionPolicy",
    "BaselineRegistry",
    "BidAcceptance",
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
