"""What host memory is worth: the recommendation beside the same without it, on the same fresh traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ray_jobs.advise.config import RecommendConfig, metric_of
from ray_jobs.advise.confirm import Effect, effect_of
from ray_jobs.advise.space import Candidate
from tracking.evidence.outcomes import Block
from tracking.reporting.words import change, short_name

GIB = "kv_offload_gib"


@dataclass(frozen=True)
class MemoryWorth:
    """`gib` of host memory that the engine has not now. In both effects `stock` is the same strategy without them.

    `gib_a_gpu`: how many GiB spare one device's time, None where these traces do not show that any is spared: memory
    pays for itself where so many cost less than a device.
    """

    gib: float
    objective: Effect
    prompt_gpus: Effect
    gib_a_gpu: float | None

    @property
    def text(self) -> str:
        """One sentence."""
        metric, ratio = short_name(self.objective.metric), self.objective.ratio
        text = f"{self.gib:g} GiB of host memory bring {metric} {change(ratio) if ratio else 'no change'}"
        spared = self.prompt_gpus.difference
        if self.gib_a_gpu is None:
            return f"{text}; that they spare the device any prompts these traces do not show"
        return (
            f"{text}, and spare {-spared.value:.2g} GPUs [{-spared.high:.2g}, {-spared.low:.2g}] of computing prompts: "
            f"they pay for themselves where {self.gib_a_gpu:.0f} GiB cost less than a GPU"
        )


def without_host_memory(candidate: Candidate) -> Candidate | None:
    """The same without the host memory that it adds; None if it adds none."""
    settings = dict(candidate.settings)
    if GIB not in settings:
        return None
    return replace(candidate, settings=tuple(item for item in candidate.settings if item[0] != GIB))


def memory_worth(
    blocks: Mapping[str, Block], without: str, chosen: str, gib: float, config: RecommendConfig
) -> MemoryWorth | None:
    """From runs by trace and strategy, on the traces that both have; None if there is none."""
    both = {key: block for key, block in blocks.items() if block.get(without) and block.get(chosen)}
    if not both:
        return None
    spared = effect_of(both, without, chosen, "prompt_gpus")
    shown = spared.difference.high < 0
    return MemoryWorth(
        gib, effect_of(both, without, chosen, metric_of(config)), spared,
        gib / -spared.difference.value if shown else None,
    )  # fmt: skip
