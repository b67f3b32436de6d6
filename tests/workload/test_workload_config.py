from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers_workload import freeze, mixture
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf

from ray_jobs.workload.config import ArrivalConfig, DeclaredConfig, SourceConfig, WorkloadConfig

CONF = Path(__file__).resolve().parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "workload").glob("*.yaml"))


@dataclass
class OnlyWorkload:
    workload: WorkloadConfig = MISSING


def composed(name: str, *overrides: str) -> WorkloadConfig:
    ConfigStore.instance().store("test_only_workload", OnlyWorkload)
    with initialize_config_dir(str(CONF), version_base=None):
        return OmegaConf.to_object(compose("test_only_workload", [f"+workload={name}", *overrides])).workload


def test_all_workloads_are_there() -> None:
    wanted = "mixed long_context azure_conv azure_code mooncake sharegpt cnn_dm longbench frozen closed_loop chat_users"
    assert set(NAMES) >= set(wanted.split())


@pytest.mark.parametrize("name", NAMES)
def test_every_workload_composes_under_its_name(name: str) -> None:
    wanted = "file" if name == "csv" else name  # a log of one's own is called as its file
    assert composed(name, "workload.source.path=some/file").name == wanted


@pytest.mark.parametrize("name", ["mixed", "long_context", "closed_loop", "chat_users"])
def test_mixtures_fit_an_8k_model_as_they_are(name: str) -> None:
    workload = composed(name)
    trace = freeze(workload, vocab=32_000, model_len=8_192)
    assert len(trace.requests) == workload.num_requests
    assert all(r.max_tokens in (256, 512, 768) for r in trace.requests)


@pytest.mark.parametrize(
    ("overrides", "rate"),
    [([], 3.8), (["workload.load=low"], 2.0), (["workload.load=high"], 5.7), (["workload.rate=11"], 11.0)],
)
def test_the_rate_comes_from_the_load_or_by_number(overrides: list[str], rate: float) -> None:
    assert composed("mixed", *overrides).rate == rate


def test_parts_can_be_overridden_by_name() -> None:
    workload = composed(
        "mixed",
        "workload.source.components.chat.weight=0",
        "workload.length_scale=0.1",
        "workload.num_requests=40",
    )
    assert {r.kind for r in freeze(workload, model_len=512).requests} == {"summarisation", "qa"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["workload.rate=-1"], r"workload.rate=-1.0: must be > 0"),
        (["workload.load=huge"], r"workload.load='huge': must be one of low, medium, high"),
        (["workload.loads.low=0"], r"workload.loads.low=0.0"),
        (
            ["workload.arrivals.kind=posson"],
            r"workload.arrivals.kind='posson': must be one of poisson, gamma",
        ),
        (
            ["workload.arrivals.kind=replay"],
            r"workload.source.kind='mixture': must be azure, azure_lmm, bailian, burstgpt, csv, frozen, mooncake, recorded, servegen when",
        ),
        (
            ["workload.source.components.qa.output.median=0"],
            r"workload.source.components.qa.output.median=0.0",
        ),
        (["workload.source.kind=azure"], r"workload.source.path=None: must be the path of a azure file"),
        (["workload.num_requests=null"], r"workload.num_requests=None"),
        (
            ["workload.num_requests=20"],
            r"workload.warmup_requests=20: must be below workload.num_requests=20",
        ),
    ],
)
def test_bad_values_name_the_key_the_value_and_what_is_allowed(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        composed("mixed", *overrides)
    assert "\n" not in str(caught.value).split("\n    full_key")[0]


@pytest.mark.parametrize(
    "override", ["workload.rat=2", "workload.num_requests=ten", "workload.source.components.chat.wait=1"]
)
def test_typos_and_wrong_types_fail(override: str) -> None:
    with pytest.raises(HydraException):
        composed("mixed", override)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ArrivalConfig(burstiness=0), "burstiness"),
        (lambda: ArrivalConfig(users=0), "users"),
        (lambda: ArrivalConfig(think_time_s=-1), "think_time_s"),
        (lambda: ArrivalConfig(time_scale=float("nan")), "time_scale"),
        (lambda: SourceConfig(pick="tail"), "pick"),
        (lambda: DeclaredConfig(slack=0.9), "slack"),
        (lambda: DeclaredConfig(max_tokens=0), "max_tokens"),
        (lambda: mixture(length_scale=0), "length_scale"),
        (lambda: mixture(max_prompt_tokens=0), "max_prompt_tokens"),
        (lambda: mixture(fit="stretch"), "fit"),
        (lambda: mixture(warmup_s=-1), "warmup_s"),
        (lambda: mixture(num_requests=0), "num_requests"),
        (lambda: mixture(source=SourceConfig()), "components"),
        (lambda: mixture(rate=None, warmup_s=1, arrivals=ArrivalConfig(kind="closed_loop")), "warmup_s"),
        (lambda: mixture(arrivals=ArrivalConfig(kind="closed_loop")), r"workload\.rate=4\.0: must be null"),
        (lambda: mixture(source=SourceConfig(kind="frozen", path="x")), "arrivals.kind"),
    ],
)
def test_ranges(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
