"""How long runs may be on a recording, so that every trace of a part is another window of it; what is cut of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.lab import sized
from ray_jobs.advise.traces import FIRST_TRACES, SEARCHED_SHARE, is_parted, recorded
from ray_jobs.workload.drafts import fits
from ray_jobs.workload.left_out import left_out
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
    source, count = config.workload.source, recorded_requests(config)
    if config.until == "pressure":
        return _for_pressure(config, count)
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


def refuse_shortened(config: RecommendConfig, fitted: RecommendConfig, typed: Mapping[str, Any]) -> None:
    """Raises ValueError for a length of runs that was typed and is more than the file has windows for."""
    if config.until == "pressure":
        return
    for key in ("requests", "confirm_requests", "rate_requests"):
        wanted, longest = getattr(config.search, key), getattr(fitted.search, key)
        require(
            f"search.{key}" not in typed or wanted == longest, f"search.{key}", wanted,
            f"at most {longest}: so long are the windows that {config.workload.source.path!r} has for this part",
        )  # fmt: skip


def _for_pressure(config: RecommendConfig, count: int) -> RecommendConfig:
    """A few runs of stock need less."""
    longest = int(SEARCHED_SHARE * count) // FIRST_TRACES
    require(
        longest >= FEWEST, "workload.source.path", config.workload.source.path,
        f"a log of at least {round(FEWEST * FIRST_TRACES / SEARCHED_SHARE)} requests; this has {count}",
    )  # fmt: skip
    size = _at_most(config.search.requests, longest)
    search = replace(config.search, requests=size, confirm_requests=size, rate_requests=size)
    return replace(config, search=search)


def recorded_requests(config: RecommendConfig) -> int:
    """How many requests the workload's file has."""
    return len(recorded(config.workload, config.engine.vocab_size))


def cut_line(config: RecommendConfig) -> str | None:
    """What of a recording does not run as it was, in one line; None where nothing is to be said, or nothing recorded."""
    workload, limit = config.workload, config.engine.max_model_len
    if not is_parted(sized(workload, config.search.requests)):
        return None
    drafts = [draft.scaled(workload.length_scale) for draft in recorded(workload, config.engine.vocab_size)]
    unfit = sum(not fits(draft, workload, limit) for draft in drafts)
    source = find_source(workload.source.kind)
    meta = source.facts(workload) if hasattr(source, "facts") else {}
    dropped = unfit if workload.fit == "drop" else 0
    meta |= {"max_model_len": limit, "dropped": dropped, "truncated": unfit - dropped}
    return left_out(workload.name, len(drafts), meta)


def _at_most(requests: int | None, longest: int) -> int:
    return longest if requests is None else min(requests, longest)
