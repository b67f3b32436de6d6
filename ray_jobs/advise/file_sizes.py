"""How long runs may be on a recording, so that every trace of a part is another window of it."""

from __future__ import annotations

from dataclasses import replace

from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.lab import sized
from ray_jobs.advise.traces import SEARCHED_SHARE, is_parted
from ray_jobs.workload.sources import find_source
from tracking.errors import require

FEWEST = 20  # requests of a run


def fitted_to_file(config: RecommendConfig) -> RecommendConfig:
    """The configuration with runs no longer than the windows of its file; the same for any other workload.

    Raises ValueError if the file is too short.
    """
    search = config.search
    if not is_parted(sized(config.workload, search.requests)):
        return config
    source = config.workload.source
    count = len(find_source(source.kind).drafts(config.workload, config.seed, config.engine.vocab_size))
    windows = max(*(rung.seeds for rung in search.rungs), search.rate_seeds)
    searched = int(SEARCHED_SHARE * count) // windows
    confirmed = int((1 - SEARCHED_SHARE) * count) // search.confirm_seeds
    least = round(FEWEST * max(windows / SEARCHED_SHARE, search.confirm_seeds / (1 - SEARCHED_SHARE)))
    require(
        min(searched, confirmed) >= FEWEST, "workload.source.path", source.path,
        f"a log of at least {least} requests for search.confirm_seeds={search.confirm_seeds}; this has {count}",
    )  # fmt: skip
    return replace(
        config,
        search=replace(
            search,
            requests=_at_most(search.requests, searched),
            rate_requests=_at_most(search.rate_requests, searched),
            confirm_requests=_at_most(search.confirm_requests, confirmed),
        ),
    )


def _at_most(requests: int | None, longest: int) -> int:
    return longest if requests is None else min(requests, longest)
