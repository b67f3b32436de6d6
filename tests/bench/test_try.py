"""`bidkv-bench try my_policy.py:MyVictim`: the class reaches the actors, and what is wrong with it is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import ROOT

from ray_jobs.try_policy import cli, planned
from tracking.metrics.catalogue import raised
from tracking.result import RunResult

CODE = """
from bidkv import AdmissionPolicy, ScoredVictim, Strategy, VictimPolicy
from bidkv.admission.sjf import Sjf


class Smallest(ScoredVictim):
    name, source = "smallest", "test"

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def score(self, request, now):
        return -self.weight * request.computed_tokens


class Both(Strategy):
    name, admission_class, victim_class = "both", Sjf, Smallest


class Raises(VictimPolicy):
    name, source = "raises", "test"

    def select(self, candidates, now):
        return candidates[len(candidates)]


class Invents(VictimPolicy):
    name, source = "invents", "test"

    def select(self, candidates, now):
        return None


class Twin(Smallest):
    name = "lcf"


class Number(AdmissionPolicy):
    name, source = "number", "test"

    def key(self, request, now=0.0):
        return request.prompt_tokens


class Named(VictimPolicy):
    name, source = "named", "test"

    def select(self, candidates, now):
        return candidates[0].request_id
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def test_both_run_every_seed_and_only_ones_own_gets_parameters(file: Path) -> None:
    arguments = [f"{file}:Smallest", "baseline=lcf-guard", "seeds=3", "engine.num_blocks=550"]
    jobs = planned([*arguments, "strategy.params.weight=2.5"])
    assert [(job.strategy.label, job.seed) for job in jobs] == [
        (label, seed) for seed in range(3) for label in ("lcf-guard", "smallest")
    ]
    assert {job.engine.num_blocks for job in jobs} == {550}
    theirs, mine = jobs[0].strategy, jobs[1].strategy
    assert (theirs.params, mine.params) == ({}, {"weight": 2.5})
    assert (mine.admission, mine.victim) == ("fcfs", f"{file}:Smallest")
    assert list(mine.files) == ["victim"] and not theirs.files


def test_the_other_half_and_its_parameters_are_the_baselines_and_nothing_else(file: Path) -> None:
    mine = planned([f"{file}:Smallest", "baseline=boost", "strategy.admission_params.gamma=2.0"])[1].strategy
    assert (mine.admission, mine.params, mine.admission_params["gamma"]) == ("boost", {}, 2.0)
    stock, mine = (job.strategy for job in planned([f"{file}:Smallest"])[:2])
    assert (stock.label, stock.kill_switch, mine.kill_switch) == ("stock", True, False)


def test_a_strategy_brings_both_halves(file: Path) -> None:
    mine = planned([f"{file}:Both"])[1].strategy
    assert mine.admission == mine.victim == f"{file}:Both"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mine.py:Raises"], ["mine.py", "line 24", "IndexError"]),
        (["mine.py:Invents"], ["mine.py: line 30", "Invents.select returned None", "return max(candidates"]),
        (["mine.py:Named"], ["mine.py: line 48", "returned 'r0'", "one of the candidates themselves"]),
        (["mine.py:Number"], ["mine.py: line 41", "Number.key returned", "return (request.prompt_tokens,)"]),
        (["mine.py:Twin", "baseline=lcf"], ["name='lcf'", "baseline"]),
        (["mine.py:Smallest", "strategy.params.wait=1"], ["smallest", "wait"]),
        (["mine.py:Smallest", "seeds=1"], ["seeds='1'"]),
        (["mine.py:Smallest", "engine=vllm_cpu"], ["engine='vllm_cpu'", "vllm_sim"]),
        (["mine.py"], ["FILE.py:CLASS"]),
    ],
)
def test_a_mistake_is_a_value_error(
    file: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(file.parent)
    with pytest.raises(ValueError) as caught:
        planned(arguments)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.long
def test_the_command_runs_compares_and_says_it_in_a_sentence(file: Path) -> None:
    small = ["workload.num_requests=40", "workload.warmup_requests=0", "seeds=2", "cluster.max_actors=1"]
    done = subprocess.run(
        [sys.executable, "-m", "ray_jobs.run", "try", "mine.py:Smallest", "baseline=preempt-evict", *small],
        cwd=file.parent, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "smallest seed=1 h100_mixed 11 req/s: 100% of 40 requests ok" in done.stdout
    assert "against preempt-evict, 2 seeds: 0, 1" in done.stdout


def test_what_a_policy_raises_late_is_told_with_its_line() -> None:
    code = 'File "/x/bidkv/adapters/shared/victims.py", line 30, in pick\\n  File "/home/me/mine.py", line 58, in select\\n'
    event = {"type": "strategy_error", "error": "AttributeError('nothing')", "traceback": code}
    result = RunResult("finished", pd.DataFrame(), [event], pd.DataFrame(), 0.0, 1.0)
    assert raised(result) == {
        "strategy_error": "/home/me/mine.py line 58, in select: AttributeError('nothing')"
    }


def test_help_and_a_missing_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli(["--help"])
    assert left.value.code == 0 and "bidkv-bench try my_policy.py:MyVictim" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        cli(["no.py:X"])
    error = capsys.readouterr().err
    assert left.value.code == 2 and error.startswith("error: no such file") and len(error.splitlines()) == 1
