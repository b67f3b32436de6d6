"""Runs a plan on in-process vLLM engines: `python offline_engine.py plan.json result.json`.

A plan is a list of engines; each has `engine` (arguments of `vllm.LLM`), `adapter` (true: our scheduler,
steered through a control file; false: vLLM's own, only watched) and `runs`. A run has `name`, `settings`,
`requests` and `alone` (one request after the other: no pressure). Results keep every output token.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from tracking.imports import large_imports  # noqa: E402

with large_imports():
    import vllm.distributed
    from vllm import LLM, SamplingParams

from bidkv.adapters.shared.control import write_control  # noqa: E402
from bidkv.adapters.vllm import SCHEDULER  # noqa: E402
from bidkv.adapters.vllm.records.accounting import client_id  # noqa: E402


def main(plan_path: str, result_path: str) -> None:
    results = []
    for number, part in enumerate(json.loads(Path(plan_path).read_text())):
        results.append(run_engine(part, Path(result_path).with_suffix(f".control{number}")))
    Path(result_path).write_text(json.dumps(results))


def run_engine(part: dict[str, Any], control: Path) -> dict[str, Any]:
    arguments = dict(part["engine"])
    if part["adapter"]:
        write_control(control, {"strategy": "preempt-evict", "client_facts": True})
        arguments |= {
            "scheduler_cls": SCHEDULER,
            "additional_config": {"bidkv": {"control_file": str(control), "trusted_control": True}},
        }
    gc.freeze()  # an engine that ends thaws what vLLM imported, and the next one looks through it five times
    llm = LLM(**arguments)
    scheduler = llm.llm_engine.engine_core.engine_core.scheduler
    victims: list[str] = []
    watch(scheduler, victims)
    runs = {}
    for run in part["runs"]:
        if run.get("settings"):
            write_control(control, run["settings"])
        llm.reset_prefix_cache()
        victims.clear()
        runs[run["name"]] = generate(llm, run, victims)
    scheduler_name = type(scheduler).__name__
    llm.llm_engine.engine_core.shutdown()
    del llm
    vllm.distributed.cleanup_dist_env_and_memory()
    return {"scheduler": scheduler_name, "runs": runs}


def watch(scheduler: Any, victims: list[str]) -> None:
    """Notes who is preempted, in any scheduler, and changes nothing."""
    preempt = scheduler._preempt_request

    def noting(request: Any, *args: Any, **kwargs: Any) -> Any:
        victims.append(client_id(request.request_id, True))
        return preempt(request, *args, **kwargs)

    scheduler._preempt_request = noting


def generate(llm: LLM, run: dict[str, Any], victims: list[str]) -> dict[str, Any]:
    prompts = [{"prompt_token_ids": r["prompt"]} for r in run["requests"]]
    params = [
        SamplingParams(
            temperature=0,
            max_tokens=r["output"],
            ignore_eos=True,
            detokenize=False,
            extra_args={"bidkv": {"max_tokens": r["declared"]}},
        )
        for r in run["requests"]
    ]
    start = time.time()
    if run.get("alone"):
        outputs = [llm.generate([p], [s], use_tqdm=False)[0] for p, s in zip(prompts, params, strict=True)]
    else:
        outputs = llm.generate(prompts, params, use_tqdm=False)
    index = {o.request_id: i for i, o in enumerate(outputs)}
    return {
        "outputs": [list(o.outputs[0].token_ids) for o in outputs],
        "ids": list(index),
        "victims": [index[v] for v in victims],
        "seconds": time.time() - start,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
