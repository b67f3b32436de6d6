"""Differential fuzz of the vLLM adapter against stock vLLM (tests/fuzz), on any of the releases that it is tested with:

    scripts/fuzz.py --cases 10000 --seed 0 --version 0.26.0 0.32.0 0.33.0
    scripts/fuzz.py --seed 17 --version 0.32.0         (one case again)

One line a failure, with the command that repeats it, then a summary; exit code 1 if anything failed. A version that
is not this environment's runs in `.venv-vllm-VERSION`, which is made if it is missing (scripts/make_version_env.sh).
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
LEAK_REQUESTS = 20_000


def main() -> int:
    args = parsed()
    here = version("vllm").partition("+")[0]
    failed = False
    for wanted in args.version or [here]:
        if wanted == here:
            failed |= fuzz(args, here)
            continue
        python = ROOT / f".venv-vllm-{wanted}" / "bin" / "python"
        if (
            not python.exists()
            and subprocess.run([ROOT / "scripts" / "make_version_env.sh", wanted]).returncode
        ):
            return 2
        command = [str(python), __file__, "--version", wanted, *passed_on(args)]
        failed |= subprocess.run(command).returncode != 0
    return int(failed)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--cases", type=int, default=1, help="how many, from --seed on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--version", nargs="+", metavar="VERSION", help="default: this environment's")
    parser.add_argument(
        "--strategy", help="instead of the drawn one; stock-unmodified-pair: stock against itself"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--leak", action="store_true", help=f"{LEAK_REQUESTS} requests for each strategy too")
    args = parser.parse_args()
    if args.cases < 1 or args.processes < 1:
        parser.error("--cases and --processes must be at least 1")
    return args


def passed_on(args: argparse.Namespace) -> list[str]:
    line = [f"--cases={args.cases}", f"--seed={args.seed}", f"--processes={args.processes}"]
    return line + ([f"--strategy={args.strategy}"] if args.strategy else []) + ["--leak"] * args.leak


def fuzz(args: argparse.Namespace, release: str) -> bool:
    """Runs the cases in this environment; whether any failed."""
    start = time.monotonic()
    seeds = range(args.seed, args.seed + args.cases)
    with tempfile.TemporaryDirectory(prefix="bidkv-fuzz-") as folder:
        worker = Worker(Path(folder), release, args.strategy)
        ran = failed = 0
        skips: Counter[str] = Counter()
        kinds: Counter[str] = Counter()
        for lines, oracles, skipped in spread(worker.case, seeds, args.processes):
            ran += 1
            failed += bool(lines)
            kinds.update(oracles)
            if skipped:
                skips[skipped] += 1
            for line in lines:
                print(line, flush=True)
        if args.leak:
            for lines in spread(worker.leak, worker.strategies, args.processes):
                failed += bool(lines)
                for line in lines:
                    print(line, flush=True)
    for reason, count in skips.most_common():
        print(f"skipped {count}: {reason}")
    seconds = time.monotonic() - start
    found = ", ".join(f"{name} {count}" for name, count in kinds.most_common())
    print(
        f"vllm {release}: {ran} cases from seed {args.seed}, {sum(skips.values())} skipped, {failed} failed "
        f"{f'({found}) ' if found else ''}in {seconds:.0f} s",
        flush=True,
    )
    return failed > 0


class Worker:
    """What a process does. Made before the processes are, which then have what it imported and made."""

    def __init__(self, folder: Path, release: str, strategy: str | None):
        from fuzz.check import STOCK_PAIR, strategies, warm_up

        from ray_jobs.engines.shared.tiny_model import make_tiny_llama

        logging.disable(logging.CRITICAL)  # stock vLLM logs an error for each load that is made to fail
        self.strategies = strategies()
        known = (STOCK_PAIR, *self.strategies)
        if strategy is not None and strategy not in known:
            print(f"--strategy {strategy}: must be one of {', '.join(known)}", file=sys.stderr)
            raise SystemExit(2)
        self._folder, self._release, self._strategy = folder, release, strategy
        self._model = make_tiny_llama(folder / "model")
        warm_up(self._model, folder)

    def case(self, seed: int) -> tuple[list[str], list[str], str | None]:
        """The case's lines, the oracles that failed, and why it was skipped."""
        from fuzz.cases import make_case
        from fuzz.check import check

        scratch = self._folder / str(os.getpid())
        scratch.mkdir(exist_ok=True)
        case = make_case(seed, self.strategies, self._strategy)
        verdict = check(case, self._model, scratch)
        again = f"scripts/fuzz.py --seed {seed} --version {self._release}"
        again += f" --strategy {self._strategy}" if self._strategy else ""
        lines = [f"FAIL {f.oracle}: {f.text} | {case} | {again}" for f in verdict.failures]
        return lines, [failure.oracle for failure in verdict.failures], verdict.skipped

    def leak(self, strategy: str) -> list[str]:
        from fuzz.leak import leftovers

        problems = leftovers(strategy, LEAK_REQUESTS, self._model)
        return [f"FAIL leak: {strategy} after {LEAK_REQUESTS} requests: {problem}" for problem in problems]


def spread(task, items, processes: int) -> Iterator:
    """The results of `task` for each item, from as many processes, in the items' order."""
    if processes == 1 or len(items) == 1:
        yield from map(task, items)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap(task, items, chunksize=max(1, min(16, len(items) // processes)))


if __name__ == "__main__":
    sys.exit(main())
