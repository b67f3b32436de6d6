"""Differential fuzz of the SGLang adapter on SGLang's real scheduler: `make fuzz-sglang`, or

$ .venv-sglang/bin/python scripts/fuzz_sglang.py --cases 200 --seed 0

Loads and what must hold of each: tests/adapters/sglang/fuzz_cases.py. Ends with 1 if a case fails, and says how to run it alone.
With `--leak`, 20,000 requests for each strategy as well, of which nothing may be left.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "adapters" / "sglang"
SHIM = ROOT / "ray_jobs" / "engines" / "sim" / "sglang" / "shim"
sys.path[:0] = [str(TESTS), str(SHIM), str(ROOT)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cases", type=int, default=1000, help="shared out among the engine's configurations"
    )
    parser.add_argument("--leak", nargs="?", type=int, const=20_000, default=0, metavar="REQUESTS")
    parser.add_argument("--seed", type=int, default=0, help="of the first case; the others follow")
    parser.add_argument("--engine", type=int, default=None, help="index of one configuration; default all")
    parser.add_argument(
        "--keep-going", action="store_true", help="report all cases that fail, not only the first"
    )
    args = parser.parse_args()
    from conftest import CPU_ENVIRONMENT

    os.environ.update(CPU_ENVIRONMENT)
    from fuzz_cases import ENGINES, Fuzz

    from ray_jobs.engines.shared.tiny_model import make_tiny_llama

    failures, start = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_llama(Path(folder), seed=3, vocab_size=512, max_len=1024)
        chosen = range(len(ENGINES)) if args.engine is None else [args.engine]
        each = -(-args.cases // len(chosen))
        for index in chosen:
            with Fuzz(model, index, Path(folder)) as fuzz:
                for seed in range(args.seed, args.seed + each):
                    try:
                        fuzz.case(seed)
                    except Exception:
                        failures += 1
                        traceback.print_exc()
                        print(
                            f"failed: scripts/fuzz_sglang.py --engine {index} --seed {seed} --cases 1",
                            file=sys.stderr,
                        )
                        if not args.keep_going:
                            return 1
                        fuzz.renew()
            print(
                f"{ENGINES[index]}: {each} cases, {time.monotonic() - start:.0f} s, {fuzz.summary()}",
                flush=True,
            )
        if args.leak:
            failures += leaks(model, args.leak)
    return 1 if failures else 0


def leaks(model: Path, requests: int) -> int:
    """How many strategies keep something of requests that have left."""
    from hooks import Hooks
    from leaks import kept_after
    from real_scheduler import RealScheduler

    from bidkv.adapters.shared.settings import AdapterSettings
    from bidkv.registry import create_default_registry

    keepers, hooks = 0, Hooks()
    seats = 64
    scheduler = RealScheduler(
        model, max_total_tokens=2000, max_running_requests=seats, chunked_prefill_size=512
    )
    gc.freeze()
    registry = create_default_registry()
    for name in registry.list_strategies():
        if registry.get(name).needs_cache:
            continue
        kept = kept_after(scheduler, hooks.install(scheduler, AdapterSettings(name)), requests)
        scheduler.reset()
        limits = {"states": seats + 1, "requests": seats}
        over = {what: count for what, count in kept.items() if count > limits.get(what, 0)}
        keepers += bool(over)
        print(f"{name}: {requests} requests, {over or 'nothing is kept'}", flush=True)
    hooks.remove()
    return keepers


if __name__ == "__main__":
    sys.exit(main())
