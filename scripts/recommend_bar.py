"""How near `ray_jobs.recommend` comes to the best of a full grid, and what it takes of the grid's time.

    python scripts/recommend_bar.py FOLDER [--processes 10] [--seeds 8] [--minutes 8] [--regime NAME ...]

For each regime: the search (its confirmation included), then every point of the space on held-out traces that
neither the search nor the confirmation saw. Every regime's search comes first, then the grids, trace after trace,
so that time that ends early takes whole traces away; --only runs one of the two, and what it writes is added to FOLDER,
since grids know nothing of the search and may run elsewhere. FOLDER gets a JSON Lines file of runs as they end and, at the
end or from what is there (--table), bar.json and the table. Times are CPU seconds of the runs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import TextIO

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

import ray_jobs.recommend  # noqa: F401 (registers the configuration's schema)
from ray_jobs.advise.advise import STOCK, advise_in
from ray_jobs.advise.lab import Lab, sized
from ray_jobs.advise.space import Space
from tracking.cli import CONF

L4 = ["engine=vllm_sim", "hardware@engine.sim.hardware=l4", "workload=mixed"]
REGIMES = {
    "mixed": ["workload=h100_mixed", "workload.rate=11"],
    "bursty": ["workload=h100_bursty", "workload.rate=10"],
    "long context": ["workload=h100_long_context", "workload.rate=1.4"],
    "shared prefix": ["workload=h100_shared_prefix", "workload.rate=9"],
    "overload, no prefix cache": ["workload=h100_mixed", "workload.rate=12.5", "engine.prefix_caching=false"],
    "L4, whole memory": [*L4, "workload.rate=3"],
}
HELD_OUT_FROM = 710_000  # beyond the seeds of ray_jobs/advise/traces.py; those from 700_000 were looked at
RUNS = "runs.jsonl"


def main() -> None:
    arguments = parsed()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if not arguments.table:
        run(arguments, folder / RUNS)
    rows = [row for name in arguments.regime if (row := row_of(name, folder / RUNS))]
    (folder / "bar.json").write_text(json.dumps(rows, indent=1))
    show(rows)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=8, help="held-out traces of each grid")
    parser.add_argument("--minutes", type=float, default=1e6, help="after which no run begins")
    parser.add_argument("--regime", nargs="+", choices=list(REGIMES), default=list(REGIMES))
    parser.add_argument("--set", nargs="*", default=[], help="further overrides, e.g. search.requests=300")
    parser.add_argument("--only", choices=("searches", "grids"))
    parser.add_argument("--table", action="store_true", help="only the table of what is in FOLDER")
    return parser.parse_args()


def run(arguments: argparse.Namespace, path: Path) -> None:
    """Appends a record for each search and each run of a grid."""
    deadline = time.monotonic() + 60 * arguments.minutes
    configs = {
        name: configured(*REGIMES[name], f"processes={arguments.processes}", *arguments.set)
        for name in arguments.regime
    }
    labs = {name: Lab(config, Space(config.space, config.engine)) for name, config in configs.items()}
    first = labs[arguments.regime[0]]
    with open(path, "a" if arguments.only else "w") as file, first:
        for lab in labs.values():
            lab.folder, lab.pool = first.folder, first.pool  # one pool of processes for all regimes
        if arguments.only != "grids":
            searches(labs, file)
        if arguments.only != "searches":
            grids(labs, range(HELD_OUT_FROM, HELD_OUT_FROM + arguments.seeds), deadline, file)


def searches(labs: dict[str, Lab], file: TextIO) -> None:
    with ThreadPoolExecutor(len(labs)) as threads:
        for record in threads.map(searched, labs, labs.values()):
            write(file, record)
            print(f"{record['regime']}: {record['chosen']}, {record['wall_s']:.0f} s", flush=True)


def grids(labs: dict[str, Lab], seeds: range, deadline: float, file: TextIO) -> None:
    for seed in seeds:
        for name, lab in labs.items():
            begun = time.monotonic()
            for record in points(name, lab, seed, deadline):
                write(file, record)
            took = time.monotonic() - begun
            print(f"{name}: {len(lab.done)} points on trace {seed}, {took:.0f} s", flush=True)
            if time.monotonic() >= deadline:
                return


def searched(name: str, lab: Lab) -> dict:
    """Search and confirmation of a regime."""
    begun = time.monotonic()
    advice = advise_in(lab, begun)
    return {
        "regime": name, "kind": "search", "chosen": advice.chosen.label if advice.chosen else "stock",
        "search_cpu_s": advice.search_cpu_s, "cpu_s": advice.run_cpu_s, "runs": advice.runs,
        "tried": len(advice.search.tried), "wall_s": time.monotonic() - begun,
        "finalists": [c.label for c in advice.finalists],
        "verdicts": [done.word for done in advice.confirmations],
        "beyond": [done.beyond for done in advice.confirmations],
    }  # fmt: skip


def points(name: str, lab: Lab, seed: int, deadline: float) -> Iterator[dict]:
    """Every point of the space on one trace, as far as time suffices."""
    lab.done.clear()
    lab.space.put_first(STOCK, lab.config.strategy)
    before = lab.cpu_s
    workload = sized(lab.config.workload, lab.config.search.requests)
    grid = list(lab.space.all())
    found = lab.run(name, [(point, workload, seed) for point in grid], deadline)
    for (point, _), kept in found.items():
        yield {"regime": name, "kind": "point", "seed": seed, "label": point.label, **facts(kept)}
    yield {
        "regime": name, "kind": "trace", "seed": seed, "points": len(grid), "runs": len(found),
        "cpu_s": lab.cpu_s - before,
    }  # fmt: skip


def write(file: TextIO, record: dict) -> None:
    file.write(json.dumps(record) + "\n")
    file.flush()


def configured(*overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = ["budget=10h", "search.rate_seeds=0", *overrides]
        return OmegaConf.to_object(compose("recommend", settings))


def facts(run) -> dict:
    """The objective's metric, those of the guardrails, and the latencies of which a p99 of all traces is taken."""
    names = ("e2e_rmst_s", "completion_rate", "throughput_tok_s")
    numbers = {name: run.metrics.get(name) for name in names}
    tails = {
        column: [] if run.failed else tail(run.latencies[column].dropna().to_numpy(float))
        for column in ("ttft", "e2e")
    }
    return numbers | tails


def tail(values) -> list[float]:
    """The largest tenth, rounded: all that a p99 over several runs of one length needs."""
    values = sorted(values)
    return [round(float(value), 4) for value in values[-max(1, len(values) // 10) :]]


def row_of(name: str, path: Path) -> dict | None:
    """The regime's line of the table; None without a complete trace. Of what was run twice, the latest."""
    latest: dict[tuple, dict] = {}
    for record in map(json.loads, path.read_text().splitlines()):
        if record["regime"] == name:
            latest[record["kind"], record.get("seed"), record.get("label")] = record
    records = list(latest.values())
    traces = [r for r in records if r["kind"] == "trace" and r["runs"] == r["points"]]
    search = next((r for r in records if r["kind"] == "search"), None)
    if not traces or search is None:
        return None
    seeds = {trace["seed"] for trace in traces}
    points: dict[str, list[dict]] = {}
    for record in records:
        if record["kind"] == "point" and record["seed"] in seeds:
            points.setdefault(record["label"], []).append(record)
    stock = points["stock"]
    mean = {label: fmean(run["e2e_rmst_s"] or 1e9 for run in runs) for label, runs in points.items()}
    kept = [label for label, runs in points.items() if held(runs, stock)]
    best = min(kept, key=mean.get)
    fastest = min(mean, key=mean.get)
    chosen = search["chosen"]
    grid_s = sum(trace["cpu_s"] for trace in traces)
    return {
        "regime": name, "traces": len(seeds), "points": len(points), "chosen": chosen, "best": best,
        "finalists": search["finalists"], "verdicts": search["verdicts"], "beyond": search["beyond"],
        "gap": mean[chosen] / mean[best] - 1, "to_stock": mean[chosen] / mean["stock"] - 1,
        "best_to_stock": mean[best] / mean["stock"] - 1, "chosen_held": chosen in kept,
        "excess": limits(points[chosen], stock), "without_guardrails": fastest,
        "without_guardrails_to_stock": mean[fastest] / mean["stock"] - 1,
        "grid_cpu_s": grid_s, "search_cpu_s": search["search_cpu_s"], "cpu_s": search["cpu_s"],
        "search_share": search["search_cpu_s"] / grid_s, "share": search["cpu_s"] / grid_s,
    }  # fmt: skip


def limits(runs: list[dict], stock: list[dict]) -> dict[str, float]:
    """What the default guardrails look at, as ratios to stock."""
    ratios = {
        key: fmean(r[key] or 0 for r in runs) / fmean(r[key] for r in stock)
        for key in ("completion_rate", "throughput_tok_s")
    }
    return ratios | {f"{key}_p99": p99(runs, key) / p99(stock, key) for key in ("ttft", "e2e")}


def p99(runs: list[dict], column: str) -> float:
    """Of the requests of all runs: their tails are a tenth each."""
    values = sorted(value for run in runs for value in run[column])
    return values[-max(1, len(values) // 10)] if values else float("inf")


def held(runs: list[dict], stock: list[dict]) -> bool:
    ratio = limits(runs, stock)
    low = ratio["completion_rate"] >= 0.99 and ratio["throughput_tok_s"] >= 0.95
    return low and ratio["ttft_p99"] <= 1.10 and ratio["e2e_p99"] <= 1.10


def show(rows: list[dict]) -> None:
    table = Table(header_style="bold")
    for name in ("regime", "recommended", "best of the grid", "gap", "to stock", "best to stock", "held",
                 "traces", "grid, s", "search", "with confirmation"):  # fmt: skip
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(
            row["regime"], row["chosen"], row["best"], f"{row['gap']:+.1%}", f"{row['to_stock']:+.1%}",
            f"{row['best_to_stock']:+.1%}", "yes" if row["chosen_held"] else "no", str(row["traces"]),
            f"{row['grid_cpu_s']:.0f}", f"{row['search_share']:.1%}", f"{row['share']:.1%}",
        )  # fmt: skip
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
