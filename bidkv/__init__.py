"""BidKV: which request gives up its KV cache when there is not enough of it.

Standard library only. Adapters for engines live in `bidkv.adapters` and import them lazily.
"""

from bidkv.bids.gate import BidGate
from bidkv.bids.pool import BidPoolManager
from bidkv.bids.pressure import KVStats, PressureConfig, PressureDetector
from bidkv.bids.protocol import BidAcceptance, BidPool, CompressionBid, make_bid_id
from bidkv.bids.scoring import PositionalScoring, ScoringStrategy, build_bids
from bidkv.bids.solver import GreedyBidSolver
from bidkv.errors import BidKVError, BidValidationError, UnknownNameError
from bidkv.registry import BaselineRegistry, create_default_registry
from bidkv.request import RequestState
from bidkv.strategies.base import AdmissionPolicy, ScoredVictim, Strategy, VictimPolicy, eligible_victims
from bidkv.strategies.bidkv import BidKVStrategy
from bidkv.strategies.bidkv_radix import BidKVRadixStrategy
from bidkv.strategies.cost_aware import CostAwareStrategy
from bidkv.strategies.largest_first import LargestFirstStrategy
from bidkv.strategies.lcf import LcfStrategy
from bidkv.strategies.lcf_guard import LcfGuardStrategy
from bidkv.strategies.least_progress import LeastProgressStrategy
from bidkv.strategies.preempt_evict import PreemptEvictStrategy
from bidkv.strategies.preempt_evict_sjf import PreemptEvictSJFStrategy
from bidkv.strategies.priority import PriorityStrategy
from bidkv.strategies.ratio_oracle import RatioOracleStrategy
from bidkv.strategies.sglang_default import SglangDefaultStrategy
from bidkv.strategies.slack_aware import SlackAwareStrategy
from bidkv.strategies.srpt_oracle import SrptOracleStrategy
from bidkv.strategies.static_random import StaticRandomStrategy
from bidkv.utility import compute_utility, disruption

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
