"""`engine=endpoint` beside `vllm bench serve` (and guidellm): the same load on the same server, one after another.

    python scripts/bench_endpoint.py --url http://127.0.0.1:8000 --tokenizer FOLDER [--rounds 3] [--guidellm PROGRAM]

Each sends as many requests of the same lengths at the same constant rate, with random token ids. Rounds go round who
is first. Printed are the means over rounds of what each says itself, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ray_jobs.run  # noqa: F401  registers the schema
from ray_jobs.engines.endpoint import Backend
from ray_jobs.engines.openai.ask import asked
from ray_jobs.workload.trace import Trace, TraceRequest
from tracking.cli import CONF
from tracking.metrics.catalogue import compute_metrics
from tracking.metrics.config import SloConfig

OURS = {
    "req/s": "throughput_req_s", "tok/s": "throughput_tok_s", "TTFT mean, s": "ttft_mean_s", "TTFT p90, s": "ttft_p90_s",
    "TPOT mean, s": "tpot_mean_s", "E2E mean, s": "e2e_mean_s", "E2E p90, s": "e2e_p90_s",
}  # fmt: skip
VLLM = {
    "req/s": "request_throughput", "tok/s": "output_throughput", "TTFT mean, s": "mean_ttft_ms", "TTFT p90, s": "p90_ttft_ms",
    "TPOT mean, s": "mean_tpot_ms", "E2E mean, s": "mean_e2el_ms", "E2E p90, s": "p90_e2el_ms",
}  # fmt: skip
Load = Callable[[argparse.Namespace, int, Path], dict[str, float]]


def ours(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, float]:
    """`engine=endpoint`, as a sweep runs it, without Ray and the store."""
    ids = np.random.default_rng(seed).integers(
        3, options.vocab, (options.requests, options.prompt), dtype=np.int32
    )
    trace = [
        TraceRequest(f"q-{seed}-{i}", i / options.rate, ids[i], options.output, options.output)
        for i in range(options.requests)
    ]
    words = [
        "engine=endpoint",
        f"engine.url={options.url}",
        f"engine.vocab_size={options.vocab}",
        "strategy=as-served",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        job = OmegaConf.to_object(compose("config", words))

    async def run() -> dict[str, float]:
        backend = Backend(asked(job.engine), folder)
        await backend.start()
        try:
            result = await backend.run(Trace("bench", seed, tuple(trace)), job, f"bench-{seed}")
        finally:
            await backend.stop()
        return compute_metrics(result, SloConfig())

    found = asyncio.run(run())
    return {name: found[metric] for name, metric in OURS.items()} | {
        "send lag max, s": found["send_lag_max_s"]
    }


def vllm_bench(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, float]:
    """`vllm bench serve`; its burstiness of a million is a constant rate."""
    flags = (
        f"--backend openai --base-url {options.url} --model {options.model} --tokenizer {options.tokenizer} "
        f"--dataset-name random --random-input-len {options.prompt} --random-output-len {options.output} "
        f"--num-prompts {options.requests} --request-rate {options.rate} --burstiness 1e6 --ignore-eos --seed {seed} "
        f"--percentile-metrics ttft,tpot,e2el --metric-percentiles 90 --save-result --result-dir {folder} "
        f"--result-filename {seed}.json --disable-tqdm"
    )
    script = "import sys; from vllm.entrypoints.cli.main import main; sys.argv[0] = 'vllm'; main()"
    subprocess.run(
        [sys.executable, "-c", script, "bench", "serve", *flags.split()],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads((folder / f"{seed}.json").read_text())
    assert found["completed"] == options.requests, found["completed"]
    return {name: found[key] / (1000 if key.endswith("_ms") else 1) for name, key in VLLM.items()}


def guidellm(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, float]:
    """guidellm 0.8 at a constant rate, for as many requests; its prompts are text of so many tokens."""
    flags = (
        f"--backend kind=openai_http,target={options.url},model={options.model},request_format=/v1/completions "
        f"--profile kind=constant,rate={options.rate} --constraint kind=max_requests,count={options.requests} "
        f"--tokenizer kind=hf_auto,model={options.tokenizer} --seed kind=static,value={seed} "
        f"--data kind=synthetic_text,prompt_tokens={options.prompt},output_tokens={options.output} "
        f"--output kind=json,path={folder}/g{seed}.json --disable-console"
    )
    subprocess.run([options.guidellm, "run", *flags.split()], check=True, capture_output=True, text=True)
    metrics = json.loads((folder / f"g{seed}.json").read_text())["benchmarks"][0]["metrics"]

    def of(name: str, statistic: str = "mean") -> float:
        found = metrics[name]["successful"]
        return found["mean"] if statistic == "mean" else found["percentiles"][statistic]

    return {
        "req/s": of("requests_per_second"), "tok/s": of("output_tokens_per_second"),
        "TTFT mean, s": of("time_to_first_token_ms") / 1000, "TTFT p90, s": of("time_to_first_token_ms", "p90") / 1000,
        "TPOT mean, s": of("inter_token_latency_ms") / 1000, "E2E mean, s": of("request_latency"),
        "E2E p90, s": of("request_latency", "p90"),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", default="tiny", help="its name on the server")
    parser.add_argument("--tokenizer", required=True, help="a folder; the others count with it")
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--requests", type=int, default=120)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--output", type=int, default=96)
    parser.add_argument("--rate", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--guidellm", help="its program; left out if not given")
    options = parser.parse_args()
    loads: dict[str, Load] = {"engine=endpoint": ours, "vllm bench serve": vllm_bench}
    if options.guidellm:
        loads["guidellm"] = guidellm
    found: dict[str, list[dict[str, float]]] = {name: [] for name in loads}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            turned = list(loads)[number % len(loads) :] + list(loads)[: number % len(loads)]
            for name in turned:
                found[name].append(loads[name](options, 100 * number + len(found[name]), Path(folder)))
                print(f"round {number}: {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    print("| | " + " | ".join(loads) + " |\n|---|" + "--:|" * len(loads))
    for metric in {metric: None for rounds in found.values() for metric in rounds[0]}:
        cells = [
            [each[metric] for each in rounds] if metric in rounds[0] else [] for rounds in found.values()
        ]
        texts = [
            f"{np.mean(values):.4g} ({min(values):.4g} to {max(values):.4g})" if values else "not told"
            for values in cells
        ]
        print(f"| {metric} | " + " | ".join(texts) + " |")


if __name__ == "__main__":
    main()
