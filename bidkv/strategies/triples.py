"""Every strategy of this package: its name, its idea, and whose rules it takes.

The same are in `conf/strategy/`, a file each, with the parameters of the rules.
"""

from __future__ import annotations

from bidkv.admission.a_min import AMinAdmission
from bidkv.admission.aged_sjf import AgedSjf
from bidkv.admission.backfill import Backfill
from bidkv.admission.backfill_deep import BackfillDeep
from bidkv.admission.backfill_oracle import BackfillOracle
from bidkv.admission.bidkv2 import AuctionAdmission
from bidkv.admission.bidkv2_oracle import AuctionOracle
from bidkv.admission.boost import Boost
from bidkv.admission.boost_oracle import BoostOracle
from bidkv.admission.engine_order import EngineOrder
from bidkv.admission.fcfs import Fcfs
from bidkv.admission.hrrn import Hrrn
from bidkv.admission.kept_first import KeptFirst
from bidkv.admission.peak_gate import PeakGate
from bidkv.admission.predicted_oracle import PredictedOracle
from bidkv.admission.priority import PriorityAdmission
from bidkv.admission.sjf import Sjf
from bidkv.admission.token_seconds import TokenSeconds
from bidkv.admission.token_seconds_oracle import TokenSecondsOracle
from bidkv.admission.watermark import Watermark
from bidkv.retention.ttl_learned import TtlLearned
from bidkv.strategies.base import Strategy
from bidkv.victim.a_min import AMinVictim
from bidkv.victim.bidkv import BidKVVictim
from bidkv.victim.bidkv2 import AuctionVictim
from bidkv.victim.bidkv_radix import BidKVRadixVictim
from bidkv.victim.cost_aware import CostAware
from bidkv.victim.largest import Largest
from bidkv.victim.lcf import LeastComputedFirst
from bidkv.victim.lcf_guard import GuardedLeastComputedFirst
from bidkv.victim.least_progress import LeastProgress
from bidkv.victim.lifo import Lifo
from bidkv.victim.priority import PriorityVictim
from bidkv.victim.random import RandomVictim
from bidkv.victim.ratio_oracle import RatioOracle
from bidkv.victim.residual_cost import ResidualCost
from bidkv.victim.sglang_default import SglangDefaultVictim
from bidkv.victim.slack_aware import SlackAware
from bidkv.victim.srpt_oracle import SrptOracle

# Engines as they are.


class StockStrategy(Strategy):
    """The engine as it is: what every other strategy is compared with.

    vLLM's default pair. Configured with `kill_switch`, the adapter only keeps records and the engine decides.
    """

    name = "stock"
    admission_class = Fcfs
    victim_class = Lifo


class PreemptEvictStrategy(Strategy):
    """What vLLM v1 does by default: admit in order of arrival, preempt the last of the running list."""

    name = "preempt-evict"
    admission_class = Fcfs
    victim_class = Lifo


class PreemptEvictSJFStrategy(Strategy):
    """vLLM's default victim behind a shortest-job-first queue: what admission alone changes."""

    name = "preempt-evict-sjf"
    admission_class = Sjf
    victim_class = Lifo


class WatermarkStrategy(Strategy):
    """vLLM's own remedy against preemptions: `--watermark`, a share of the pool that admissions leave free."""

    name = "watermark"
    admission_class = Watermark
    victim_class = Lifo


class PriorityStrategy(Strategy):
    """vLLM's priority scheduling: the least important, latest request goes first."""

    name = "priority"
    admission_class = PriorityAdmission
    victim_class = PriorityVictim


class SglangDefaultStrategy(Strategy):
    """What SGLang does by default: its own queue order, and the request with the least output retracted."""

    name = "sglang_default"
    admission_class = EngineOrder
    victim_class = SglangDefaultVictim


# Another victim.


class StaticRandomStrategy(Strategy):
    """A random victim: what a choice without information does."""

    name = "static-random"
    admission_class = Sjf
    victim_class = RandomVictim


class LargestFirstStrategy(Strategy):
    """The largest footprint first: frees most KV, whatever it costs."""

    name = "largest-first"
    admission_class = Sjf
    victim_class = Largest


class LeastProgressStrategy(Strategy):
    """The request that has generated least goes first."""

    name = "least-progress"
    admission_class = Fcfs
    victim_class = LeastProgress


class LcfStrategy(Strategy):
    """Least computed first: the victim with the least KV to lose, which may be the same one again and again."""

    name = "lcf"
    admission_class = Fcfs
    victim_class = LeastComputedFirst


class LcfGuardStrategy(Strategy):
    """Least computed first that leaves a request alone once it was preempted often, as long as there is another."""

    name = "lcf-guard"
    admission_class = Fcfs
    victim_class = GuardedLeastComputedFirst


class ResidualCostStrategy(Strategy):
    """The victim whose eviction really costs least: only what would be computed again counts."""

    name = "residual-cost"
    admission_class = Fcfs
    victim_class = ResidualCost


class CostAwareStrategy(Strategy):
    """Most memory returned for each token to recompute, sparing requests near their end."""

    name = "cost-aware"
    admission_class = Fcfs
    victim_class = CostAware


class SlackAwareStrategy(Strategy):
    """Keeps the requests that are closest to missing their deadline."""

    name = "slack_aware"
    admission_class = Fcfs
    victim_class = SlackAware


class BidKVStrategy(Strategy):
    """BidKV: evict the request that frees most KV per unit of predicted disruption."""

    name = "bidkv"
    admission_class = Sjf
    victim_class = BidKVVictim


class BidKVRadixStrategy(Strategy):
    """BidKV on a radix tree: only the KV that nobody shares counts as freed."""

    name = "bidkv_radix"
    admission_class = Sjf
    victim_class = BidKVRadixVictim


# Another admission.


class AgedSjfStrategy(Strategy):
    """Shortest declared job first, in which waiting makes a job shorter."""

    name = "aged-sjf"
    admission_class = AgedSjf
    victim_class = GuardedLeastComputedFirst


class TokenSecondsStrategy(Strategy):
    """Shortest first, where short is what a request takes of the KV cache integrated over time."""

    name = "token-seconds"
    admission_class = TokenSeconds
    victim_class = GuardedLeastComputedFirst


class BoostStrategy(Strategy):
    """Arrival order with a head start for small requests (Yu and Scully, arXiv 2404.08826)."""

    name = "boost"
    admission_class = Boost
    victim_class = GuardedLeastComputedFirst


class HrrnStrategy(Strategy):
    """Highest response ratio next: waiting counts in units of a request's own length."""

    name = "hrrn"
    admission_class = Hrrn
    victim_class = GuardedLeastComputedFirst


class PeakGateStrategy(Strategy):
    """Holds a request back until the memory that all will need at their peak is there."""

    name = "peak-gate"
    admission_class = PeakGate
    victim_class = GuardedLeastComputedFirst


class BackfillStrategy(Strategy):
    """Arrival order that lets a smaller request pass a first one that does not fit, a bounded number of times."""

    name = "backfill"
    admission_class = Backfill
    victim_class = GuardedLeastComputedFirst


class BackfillDeepStrategy(Strategy):
    """backfill that looks at the whole queue: the lowest mean latency, paid for by the largest requests."""

    name = "backfill-deep"
    admission_class = BackfillDeep
    victim_class = GuardedLeastComputedFirst


# Both, by one idea.


class AMinStrategy(Strategy):
    """A_min: admit and evict by the same lower bound of each output (arXiv 2508.14544)."""

    name = "a-min"
    admission_class = AMinAdmission
    victim_class = AMinVictim


class BidKV2Strategy(Strategy):
    """The BidKV utility with true quantities, and one auction of memory for who waits and who runs."""

    name = "bidkv2"
    admission_class = AuctionAdmission
    victim_class = AuctionVictim


# With a rule of retention.


class KeptFirstStrategy(Strategy):
    """Who finds most of its prompt cached goes first; who would push out conversations that are about to return waits a while."""

    name = "kept-first"
    admission_class = KeptFirst
    victim_class = GuardedLeastComputedFirst
    retention_class = TtlLearned


# Clairvoyant references: what knowledge would be worth, not to run.


class SrptOracleStrategy(Strategy):
    """A clairvoyant reference: the request with most output still to come goes first."""

    name = "srpt_oracle"
    admission_class = Fcfs
    victim_class = SrptOracle


class RatioOracleStrategy(Strategy):
    """A clairvoyant reference: most output still to come for each token of KV that is lost."""

    name = "ratio_oracle"
    admission_class = Fcfs
    victim_class = RatioOracle


class TokenSecondsOracleStrategy(Strategy):
    """token-seconds with the true output lengths: what shortest first could gain at most."""

    name = "token-seconds_oracle"
    admission_class = TokenSecondsOracle
    victim_class = SrptOracle


class PredictedOracleStrategy(Strategy):
    """token-seconds with predicted lengths of a set quality: what a better predictor would be worth."""

    name = "predicted_oracle"
    admission_class = PredictedOracle
    victim_class = GuardedLeastComputedFirst


class BoostOracleStrategy(Strategy):
    """boost with the true output lengths: what better predictions could gain it at most."""

    name = "boost_oracle"
    admission_class = BoostOracle
    victim_class = SrptOracle


class BackfillOracleStrategy(Strategy):
    """backfill with the true output lengths: what better predictions could gain it."""

    name = "backfill_oracle"
    admission_class = BackfillOracle
    victim_class = GuardedLeastComputedFirst


class BidKV2OracleStrategy(Strategy):
    """bidkv2's auction with the true output lengths: what better predictions could gain it."""

    name = "bidkv2_oracle"
    admission_class = AuctionOracle
    victim_class = AuctionVictim
