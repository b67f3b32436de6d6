"""The register of seeds that were used: a proof is on seeds that nothing was tuned or proved on before.

`proof=COMMIT` says that a sweep is a proof, and which commit froze the policy. Before anything starts, the
policies must be as they were then, and no seed may stand in the register for its workload; then they are
entered. The same sweep, interrupted, goes on: it finds its own entry.
"""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from ray_jobs.drive.config import BenchConfig
from tracking.cli import CONF
from tracking.errors import require

REGISTER = CONF / "used_seeds.yaml"
FROZEN = ("bidkv", ":!bidkv/adapters", "conf/strategy")  # what must be as it was in the commit of a proof
ANY = "all"


def claim_seeds(jobs: Sequence[BenchConfig], sweep_hash: str, register: Path = REGISTER) -> None:
    """Enters the seeds of a proof; nothing where the jobs are none. Raises ValueError, in one line."""
    proofs = {job.proof for job in jobs}
    if proofs == {None}:
        return
    require(len(proofs) == 1, "proof", ",".join(map(str, proofs)), "the same for all runs of a sweep")
    commit = check_frozen(str(proofs.pop()), register.parent.parent)
    by_workload: dict[str, set[int]] = {}
    for job in jobs:
        by_workload.setdefault(job.workload.name, set()).add(job.seed)
    with open(register, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        entries = yaml.safe_load(file)["used"]
        if any(entry.get("sweep") == sweep_hash for entry in entries):
            return
        for workload, seeds in sorted(by_workload.items()):
            _check_unused(workload, seeds, entries)
        policies = sorted({job.strategy.label for job in jobs})
        for workload, seeds in sorted(by_workload.items()):
            entry = {
                "what": "proved", "policies": policies, "workloads": [workload], "seeds": as_text(seeds),
                "commit": commit, "on": date.today(), "sweep": sweep_hash,
            }  # fmt: skip
            text = yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=1000)
            file.write(f"- {text.strip()}\n")


def check_frozen(commit: str, root: Path) -> str:
    """The commit's full name. Raises ValueError if there is none, or if policies are not as they were in it."""
    found = _git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    require(found.returncode == 0, "proof", commit, "the commit that froze the policy, in this checkout")
    name = found.stdout.strip()
    changed = _git(root, "diff", "--name-only", name, "--", *FROZEN).stdout.split()
    require(
        not changed, "proof", commit,
        f"a commit since which no policy was changed; {len(changed)} files were, such as {changed[:1]}",
    )  # fmt: skip
    return name


def _check_unused(workload: str, seeds: set[int], entries: Sequence[dict[str, Any]]) -> None:
    used: set[int] = set()
    for entry in entries:
        if workload in entry["workloads"] or ANY in entry["workloads"]:
            used |= set(from_text(entry["seeds"]))
    twice = seeds & used
    free = max(used, default=-1) + 1
    require(
        not twice, "seed", as_text(twice),
        f"new for a proof on {workload}: {REGISTER.name} has it as tuned or proved on; {free} to "
        f"{free + len(seeds) - 1} are free",
    )  # fmt: skip


def as_text(seeds: set[int]) -> str:
    """Seeds as "3,100-111"."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if not runs or seed > runs[-1][-1] + 1:
            runs.append([seed])
        runs[-1][1:] = [seed]
    return ",".join("-".join(map(str, sorted(set(run)))) for run in runs)


def from_text(text: str | int) -> Iterator[int]:
    """What `as_text` wrote."""
    for part in str(text).split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
