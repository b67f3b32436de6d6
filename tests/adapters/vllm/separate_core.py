"""An engine whose core is a process of its own, installed by the plugin: `separate_core.py plan.json`.

Generates without end until it is killed; prints the core's process id first.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

gc.set_threshold(200_000, 20, 100)  # the core, a spawned process, reads this file, too
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"


def main(plan_path: str) -> None:
    import psutil
    from vllm import LLM, SamplingParams

    plan = json.loads(Path(plan_path).read_text())
    llm = LLM(**plan["engine"])
    cores = [p.pid for p in psutil.Process().children(recursive=True) if "EngineCore" in p.name()]
    print(json.dumps({"cores": cores}), flush=True)
    prompts = [{"prompt_token_ids": r["prompt"]} for r in plan["requests"]]
    params = [
        SamplingParams(temperature=0, max_tokens=r["output"], ignore_eos=True, detokenize=False)
        for r in plan["requests"]
    ]
    while True:
        llm.generate(prompts, params, use_tqdm=False)


if __name__ == "__main__":  # vLLM starts its core with spawn
    main(*sys.argv[1:])
