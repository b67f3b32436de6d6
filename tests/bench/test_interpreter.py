"""What an engine needs is looked for where it will run, not where the sweep is typed."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ray_jobs.run  # noqa: F401 (registers the configuration's schema)
from ray_jobs.drive.interpreter import check_interpreters
from tracking.cli import CONF

FLEET = [
    "engine=vllm_cpu",
    "engine.replicas=2",
    "engine.prefix_caching=true",
    "router@engine.router=kv-aware",
]


def job(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("config", [*FLEET, *overrides]))


@pytest.fixture
def python(tmp_path):
    """An interpreter that says of every package what is given."""

    def make(says):
        path = tmp_path / says.split()[0]
        path.write_text(f"#!/bin/sh\n{says}\n")
        path.chmod(0o755)
        return f"engine.python={path}"

    return make


def test_a_router_needs_its_package_where_the_engines_run(python):
    without, having = python("false"), python("echo 1.6.1")
    with pytest.raises(ValueError, match="router.name='kv-aware'.*/false.*pip install ai-dynamo-runtime==1"):
        check_interpreters([job(having), job(without)])
    check_interpreters([job(having), job(without, "cluster.address=ray://head:10001")])
    check_interpreters([job(without, "router@engine.router=prefix-affinity")])
    check_interpreters([job(without, "engine=vllm_sim")])  # the simulator's rule is its own
