"""The example for Kubernetes against KubeRay's own schema, and its command against our configuration."""

from __future__ import annotations

import copy
import json
import shlex
from importlib.metadata import version

import jsonschema
import pytest
import yaml
from environment import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ray_jobs.run  # noqa: F401  registers the schema
from tracking.cli import CONF

EXAMPLE = ROOT / "examples" / "kuberay" / "rayjob.yaml"
SCHEMA = json.loads((ROOT / "tests" / "packaging" / "kuberay_rayjob_1.7.json").read_text())


@pytest.fixture
def job() -> dict:
    job, claim = yaml.safe_load_all(EXAMPLE.read_text())
    volumes = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    assert volumes[0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    return job


def test_kuberay_takes_it(job: dict) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(job)
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"], 0),  # a string in KubeRay
        (["rayClusterSpec", "authOptions", "mode"], "tokens"),
        (["rayClusterSpec", "workerGroups"], []),
        (["backoffLimit"], "2"),
    ],
)
def test_the_schema_finds_mistakes(job: dict, path: list[str], value: object) -> None:
    wrong = copy.deepcopy(job)
    place = wrong["spec"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(wrong)


def test_its_command_is_one_of_ours(job: dict) -> None:
    command, *overrides = shlex.split(job["spec"]["entrypoint"])
    assert command == "bidkv-bench"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(compose("config", overrides))
    worker = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    assert int(worker["resources"]["limits"]["nvidia.com/gpu"]) >= config.engine.num_gpus
    assert config.engine.pass_env == ["HF_TOKEN"] and config.tracking.spool == "/spool"
