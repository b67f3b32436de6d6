"""The proof on the simulator: one sweep a workload, several at a time, each with a store of its own.

    python scripts/proof.py FOLDER TRACES [--at-once 2] [--cores 1] [--strategies stock,backfill] [PART ...]

TRACES holds azure2023_conv.csv and mooncake_conversation_trace.jsonl, the hold-out workloads. Strategies, seeds
and rules are those of conf/experiment/proof_sim.yaml and proof_whole.yaml. A part that was interrupted goes on
when given again; FOLDER/PART/run.log is what it printed. Then: python scripts/proof_table.py FOLDER
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WHOLE = ("engine.num_blocks=null", "engine.max_num_seqs=256")
FOUR = "strategy=stock,stock-watermark-0.05,backfill,bidkv2"


def parts(traces: Path) -> dict[str, tuple[str, ...]]:
    """Overrides of each part, the most wanted first."""
    sim, azure = "experiment=proof_sim", traces / "azure2023_conv.csv"
    mooncake = traces / "mooncake_conversation_trace.jsonl"
    return {
        "mixed": (sim, "workload=h100_mixed"),
        "azure": (
            sim, FOUR, "workload=azure_conv", f"workload.source.path={azure}", "workload.num_requests=1600",
        ),  # twelve windows, all that the file holds
        "sessions": (
            sim, FOUR, "workload=sessions", "workload.load=medium,high", "workload.num_requests=null",
            "workload.warmup_requests=0", *WHOLE,
        ),
        "reasoning": ("experiment=proof_whole",),
        "shared": (sim, "workload=h100_shared_prefix"),
        "bursty": (sim, "workload=h100_bursty"),
        "mooncake": (
            sim, FOUR, "workload=mooncake", f"workload.source.path={mooncake}", "workload.num_requests=1000",
            "workload.warmup_requests=100", "engine.max_model_len=32768", *WHOLE,
        ),
        "long": (sim, "workload=h100_long_context"),
        "mixed-nocache": (sim, "workload=h100_mixed", "engine.prefix_caching=false", FOUR),
        "shared-nocache": (sim, "workload=h100_shared_prefix", "engine.prefix_caching=false", FOUR),
    }  # fmt: skip


def with_strategies(overrides: tuple[str, ...], names: str | None) -> tuple[str, ...]:
    """The part with these strategies instead of its own."""
    others = tuple(word for word in overrides if not word.startswith("strategy="))
    return (*others, f"strategy={names}") if names else overrides


def run(name: str, overrides: tuple[str, ...], folder: Path, cores: int) -> int:
    """One sweep; its exit code."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ray_jobs.run", *overrides, f"cluster.num_cpus={cores}"]
    with open(place / "run.log", "a") as log:
        code = subprocess.run(command, cwd=place, stdout=log, stderr=subprocess.STDOUT).returncode
    print(f"{name}: exit code {code}", flush=True)
    return code


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("traces", type=Path)
    parser.add_argument("part", nargs="*")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--cores", type=int, default=1, help="simulations at a time in each")
    parser.add_argument("--strategies", help="instead of those of each part, separated by commas")
    given = parser.parse_args()
    known = {
        name: with_strategies(overrides, given.strategies)
        for name, overrides in parts(given.traces.resolve()).items()
    }
    for name in given.part:
        if name not in known:
            parser.error(f"part={name!r}: must be one of {', '.join(known)}")
    with ThreadPoolExecutor(given.at_once) as pool:
        wanted = given.part or known
        codes = pool.map(lambda name: run(name, known[name], given.folder.resolve(), given.cores), wanted)
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
