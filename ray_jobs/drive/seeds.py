"""The register of seeds that were used: a proof is on seeds that nothing was tuned or proved on before.

`proof=COMMIT` says that a sweep is a proof, and which commit froze the policy. Before anything starts, the
policies must be as they were then, and no seed may stand in the register for its workload, or for another name
of the same requests; then they are entered. Of a recording it is the windows that count: another seed may have
the same. The same sweep, interrupted, goes on: it finds its own entry, if policies are still as it froze them.
"""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from bidkv.policy_file import is_reference
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.plan import digest
from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.windows import Rows
from tracking.cli import CONF
from tracking.errors import require

REGISTER = CONF / "used_seeds.yaml"
FROZEN = ("bidkv", ":!bidkv/adapters", "conf/strategy")  # what must be as it was in the commit of a proof
ANY = "all"


def frozen_jobs(jobs: Sequence[BenchConfig], root: Path = CONF.parent) -> list[BenchConfig]:
    """The jobs with the full name of the commit that froze their policies; as they are where they are no proof.

    Raises ValueError, in one line, if a policy is not as it was in that commit.
    """
    proofs = {job.proof for job in jobs}
    if proofs == {None}:
        return list(jobs)
    require(len(proofs) == 1, "proof", ",".join(map(str, proofs)), "the same for all runs of a sweep")
    commit = check_frozen(str(proofs.pop()), root, own_files(jobs))
    return [replace(job, proof=commit) for job in jobs]


def claim_seeds(
    jobs: Sequence[BenchConfig],
    sweep_hash: str,
    register: Path = REGISTER,
    windows: Mapping[str, Iterable[Rows]] | None = None,
) -> None:
    """Enters the seeds of a proof; nothing where the jobs are none. Raises ValueError, in one line.

    `jobs` come from `frozen_jobs`; `windows` are those of a recording that a workload, by name, replays.
    """
    if all(job.proof is None for job in jobs):
        return
    commit = str(jobs[0].proof)
    workloads = {job.workload.name: job.workload for job in jobs}
    claims = []
    for name, workload in sorted(workloads.items()):
        seeds = {job.seed for job in jobs if job.workload.name == name}
        rows = {window.text for window in (windows or {}).get(name, ())}
        claims.append(Claim(name, seeds, requests_of(workload), rows))
    with open(register, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        entries = yaml.safe_load(file)["used"]
        begun = {entry["commit"] for entry in entries if entry.get("sweep") == sweep_hash}
        if begun:
            for earlier in begun - {commit}:
                check_frozen(earlier, register.parent.parent, own_files(jobs))
            return
        for claim in claims:
            _check_unused(claim, entries)
        policies = sorted({job.strategy.label for job in jobs})
        lines = []
        for claim in claims:
            entry = {
                "what": "proved", "policies": policies, "workloads": [claim.workload], "seeds": as_text(claim.seeds),
                "commit": commit, "on": date.today(), "sweep": sweep_hash, "requests": claim.requests,
            } | ({"windows": sorted(claim.windows)} if claim.windows else {})  # fmt: skip
            text = yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=100_000)
            lines.append(f"- {text.strip()}\n")
        file.seek(0)
        ends = file.read().endswith("\n")
        file.write(("" if ends else "\n") + "".join(lines))  # at once: a sweep that is cut short enters all


@dataclass(frozen=True)
class Claim:
    """What a proof takes for itself: seeds of a workload; `requests` say which those are under any name."""

    workload: str
    seeds: set[int]
    requests: str
    windows: set[str]  # of a recording, as `Rows.text` has them


def requests_of(workload: WorkloadConfig) -> str:
    """A short hash of where requests come from: the same for a workload by another name, load or length."""
    source = asdict(workload.source)
    if source["path"]:
        source["path"] = Path(source["path"]).name
    return digest([source, asdict(workload.sessions)])[:8]


def own_files(jobs: Sequence[BenchConfig]) -> list[str]:
    """The files of policies that are classes in files."""
    halves = {
        half for job in jobs for half in (job.strategy.admission, job.strategy.victim, job.strategy.retention)
    }
    return sorted({half.rpartition(":")[0] for half in halves if is_reference(half)})


def check_frozen(commit: str, root: Path, files: Sequence[str] = ()) -> str:
    """The commit's full name. Raises ValueError if there is none, or if policies are not as they were in it.

    Policies are those of the package and of `conf/strategy`, and `files`.
    """
    found = _git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    require(found.returncode == 0, "proof", commit, "the commit that froze the policy, in this checkout")
    name = found.stdout.strip()
    changed = _git(root, "diff", "--name-only", name, "--", *FROZEN, *files)
    new = _git(root, "ls-files", "--others", "--exclude-standard", "--", *FROZEN, *files)
    require(
        changed.returncode == 0, "strategy", ",".join(files), "classes in files of this checkout, for a proof"
    )
    changed = changed.stdout.split() + new.stdout.split()
    require(
        not changed, "proof", commit,
        f"a commit since which no policy was changed; {len(changed)} files were, such as {changed[:1]}",
    )  # fmt: skip
    return name


def _check_unused(claim: Claim, entries: Sequence[dict[str, Any]]) -> None:
    used: set[int] = set()
    for entry in entries:
        same = entry.get("requests") == claim.requests
        if same or claim.workload in entry["workloads"] or ANY in entry["workloads"]:
            used |= set(from_text(entry["seeds"]))
        shared = [
            text for text in claim.windows if any(overlap(text, old) for old in entry.get("windows", ()))
        ]
        require(
            not (same and shared), "seed", as_text(claim.seeds),
            f"of other windows for a proof on {claim.workload}: {REGISTER.name} has {len(shared)} of them under "
            f"seeds {entry['seeds']}, such as {shared[:1]}",
        )  # fmt: skip
    twice = claim.seeds & used
    free = max(used, default=-1) + 1
    require(
        not twice, "seed", as_text(twice),
        f"new for a proof on {claim.workload}: {REGISTER.name} has it as tuned or proved on; {free} to "
        f"{free + len(claim.seeds) - 1} are free",
    )  # fmt: skip


def overlap(one: str, other: str) -> bool:
    """Whether two windows of a file, as `Rows.text` writes them, share a row."""
    (begin, end), (start, stop) = (map(int, text.partition("/")[0].split(":")) for text in (one, other))
    return begin < stop and start < end


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
