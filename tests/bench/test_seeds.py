"""The register of used seeds: a proof takes new ones, enters them, and names the commit that froze the policy."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ray_jobs.drive.seeds import REGISTER, as_text, claim_seeds, from_text

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


def jobs(seeds, proof="HEAD", workload="mixed"):
    label = SimpleNamespace(label="backfill")
    return [
        SimpleNamespace(proof=proof, seed=seed, workload=SimpleNamespace(name=workload), strategy=label)
        for seed in seeds
    ]


def test_a_proof_enters_its_seeds_once_and_goes_on_when_it_was_interrupted(checkout):
    register = checkout / "conf/used_seeds.yaml"
    claim_seeds(jobs([0, 1], proof=None), "sweep", register)
    assert register.read_text() == ENTRY
    claim_seeds(jobs([21, 22, 24]), "sweep", register)
    claim_seeds(jobs([21, 22, 24]), "sweep", register)
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
        claim_seeds(jobs([22, 23]), "another", register)
    claim_seeds(jobs([22, 23], workload="azure"), "another", register)
    assert len(yaml.safe_load(register.read_text())["used"]) == 3


@pytest.mark.parametrize(("seeds", "proof", "message"), [
    ([8, 9], "HEAD", "seed='8': must be new"),
    ([30], "nothing", "proof='nothing': must be the commit that froze the policy"),
])  # fmt: skip
def test_used_seeds_and_unknown_commits_are_refused_and_nothing_is_written(checkout, seeds, proof, message):
    register = checkout / "conf/used_seeds.yaml"
    with pytest.raises(ValueError, match=message):
        claim_seeds(jobs(seeds, proof), "sweep", register)
    assert register.read_text() == ENTRY


def test_a_policy_that_was_changed_since_is_not_the_one_that_was_frozen(checkout):
    register = checkout / "conf/used_seeds.yaml"
    (checkout / "bidkv/adapters/a.py").write_text("adapters may change")
    claim_seeds(jobs([30]), "one", register)
    (checkout / "bidkv/policy.py").write_text("a policy may not")
    with pytest.raises(
        ValueError, match="since which no policy was changed; 1 files were, such as .*bidkv/policy.py"
    ):
        claim_seeds(jobs([31]), "two", register)


def test_the_register_of_this_project_can_be_read():
    entries = yaml.safe_load(REGISTER.read_text())["used"]
    assert all(set(from_text(entry["seeds"])) and entry["what"] in ("tuned", "proved") for entry in entries)
    assert as_text({3, 100, 101, 102}) == "3,100-102" and list(from_text("3,100-102")) == [3, 100, 101, 102]
