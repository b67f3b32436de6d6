"""The register of used seeds: a proof takes new ones, enters them, and names the commit that froze the policy."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ray_jobs.drive.seeds import REGISTER, as_text, claim_seeds, from_text, frozen_jobs
from ray_jobs.workload.config import SessionsConfig, SourceConfig
from ray_jobs.workload.windows import Rows, rows_of

ENTRY = "used:\n- { what: tuned, policies: [lcf], workloads: [mixed], seeds: '0-8,20', commit: null, on: 2026-01-01 }\n"


@pytest.fixture()
def checkout(tmp_path: Path) -> Path:
    """A repository with a policy, its configuration and a register."""
    for name in ("bidkv/adapters/a.py", "bidkv/policy.py", "conf/strategy/lcf.yaml", "conf/used_seeds.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ENTRY if name.endswith("seeds.yaml") else "")
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "frozen"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


@dataclass(frozen=True)
class Job:
    """What the register asks of a job."""

    proof: str | None
    seed: int
    workload: SimpleNamespace
    strategy: SimpleNamespace


def jobs(seeds, proof="HEAD", workload="mixed", path=None) -> list[Job]:
    of = SimpleNamespace(
        name=workload,
        source=SourceConfig(kind="azure", path=path) if path else SourceConfig(),
        sessions=SessionsConfig(),
    )
    policy = SimpleNamespace(label="backfill", admission="backfill", victim="lcf", retention="lru")
    return [Job(proof, seed, of, policy) for seed in seeds]


def claim(some: list[Job], sweep: str, register: Path, **options) -> None:
    claim_seeds(frozen_jobs(some, register.parent.parent), sweep, register, **options)


def test_a_proof_enters_its_seeds_once_and_goes_on_when_it_was_interrupted(checkout):
    register = checkout / "conf/used_seeds.yaml"
    claim(jobs([0, 1], proof=None), "sweep", register)
    assert register.read_text() == ENTRY
    claim(jobs([21, 22, 24]), "sweep", register)
    claim(jobs([21, 22, 24]), "sweep", register)
    old, new = yaml.safe_load(register.read_text())["used"]
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True
    ).stdout.strip()
    assert (new["seeds"], new["commit"], new["policies"], new["workloads"]) == (
        "21-22,24",
        head,
        ["backfill"],
        ["mixed"],
    )
    with pytest.raises(
        ValueError, match="seed='22': must be new for a proof on mixed: .*; 25 to 26 are free"
    ):
        claim(jobs([22, 23]), "another", register)
    with pytest.raises(ValueError, match="seed='22': must be new for a proof on renamed"):
        claim(jobs([22, 23], workload="renamed"), "another", register)
    claim(jobs([22, 23], workload="azure", path="azure.csv"), "another", register)
    assert len(yaml.safe_load(register.read_text())["used"]) == 3


@pytest.mark.parametrize(("seeds", "proof", "message"), [
    ([8, 9], "HEAD", "seed='8': must be new"),
    ([30], "nothing", "proof='nothing': must be the commit that froze the policy"),
])  # fmt: skip
def test_used_seeds_and_unknown_commits_are_refused_and_nothing_is_written(checkout, seeds, proof, message):
    register = checkout / "conf/used_seeds.yaml"
    with pytest.raises(ValueError, match=message):
        claim(jobs(seeds, proof), "sweep", register)
    assert register.read_text() == ENTRY


def test_a_policy_that_was_changed_since_is_not_the_one_that_was_frozen(checkout):
    register = checkout / "conf/used_seeds.yaml"
    (checkout / "bidkv/adapters/a.py").write_text("adapters may change")
    claim(jobs([30]), "one", register)
    (checkout / "bidkv/policy.py").write_text("a policy may not")
    with pytest.raises(
        ValueError, match="since which no policy was changed; 1 files were, such as .*bidkv/policy.py"
    ):
        claim(jobs([31]), "two", register)


def commit(checkout: Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, "commit", "-qam", "changed"], cwd=checkout, check=True)


def test_an_interrupted_proof_does_not_go_on_with_another_policy(checkout):
    register = checkout / "conf/used_seeds.yaml"
    claim(jobs([30]), "sweep", register)
    commit(checkout)  # the register alone
    claim(jobs([30]), "sweep", register)
    (checkout / "bidkv/policy.py").write_text("changed on what the proof showed")
    commit(checkout)
    with pytest.raises(ValueError, match="since which no policy was changed; 1 files were"):
        claim(jobs([30]), "sweep", register)


def test_a_policy_that_nobody_committed_is_not_frozen(checkout):
    (checkout / "conf/strategy/new.yaml").write_text("not in the commit")
    with pytest.raises(ValueError, match="1 files were, such as .*new.yaml"):
        claim(jobs([30]), "sweep", checkout / "conf/used_seeds.yaml")


def test_windows_of_a_recording_are_used_once_whatever_the_seed(checkout):
    register = checkout / "conf/used_seeds.yaml"
    register.write_text(ENTRY.rstrip("\n"))  # as an editor may leave it

    def windows(seed: int, size: int = 100) -> dict[str, list[Rows]]:
        return {"azure": [rows_of(seed, size, 900)], "other name": [rows_of(seed, size, 900)]}

    claim(jobs([30], workload="azure", path="a/azure.csv"), "one", register, windows=windows(30))
    claim(jobs([31], workload="azure", path="a/azure.csv"), "two", register, windows=windows(31))
    for seed, name, size in ((39, "azure", 100), (39, "other name", 100), (38, "azure", 900)):
        with pytest.raises(
            ValueError, match=f"seed='{seed}': must be of other windows for a proof on {name}"
        ):
            claim(
                jobs([seed], workload=name, path="b/azure.csv"),
                "again",
                register,
                windows=windows(seed, size),
            )
    assert len(yaml.safe_load(register.read_text())["used"]) == 3


def test_the_register_of_this_project_can_be_read():
    entries = yaml.safe_load(REGISTER.read_text())["used"]
    assert all(set(from_text(entry["seeds"])) and entry["what"] in ("tuned", "proved") for entry in entries)
    assert as_text({3, 100, 101, 102}) == "3,100-102" and list(from_text("3,100-102")) == [3, 100, 101, 102]
