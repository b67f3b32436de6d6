"""Strategies, one a file; the file is named like the strategy, with `_` for `-`."""

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

BUILT_IN = (
    PreemptEvictStrategy,
    PreemptEvictSJFStrategy,
    StaticRandomStrategy,
    LargestFirstStrategy,
    BidKVStrategy,
    LcfStrategy,
    LcfGuardStrategy,
    CostAwareStrategy,
    LeastProgressStrategy,
    PriorityStrategy,
    SrptOracleStrategy,
    RatioOracleStrategy,
    SglangDefaultStrategy,
    SlackAwareStrategy,
    BidKVRadixStrategy,
)
"""What `create_default_registry` registers."""

__all__ = ["BUILT_IN", *(cls.__name__ for cls in BUILT_IN)]
