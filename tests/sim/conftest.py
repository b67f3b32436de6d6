from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory):
    """vLLM's configuration of a tiny model, built once; `sim_bench.variant` makes others of it."""
    from ray_jobs.sim.build import build_parts
    from sim_bench import tiny_job

    return build_parts(tiny_job().engine, tmp_path_factory.mktemp("tiny"))
