"""`bidkv-recommend workload=… engine=…`: which policy and settings to run, and what that brings.

Searches on the simulator within `budget`, confirms on fresh traces, and prints the command to run; "keep
stock" where nothing was shown to be better.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import hydra
import psutil
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.no_effect import idle_recommend_keys
from tracking.cli import CONF, exit_on_bad_input, interrupt_on_sigterm, run_command
from tracking.typed import refuse_idle, refuse_unknown, typed, typed_keys

INTERRUPTED = 130

ConfigStore.instance().store(name="recommend_schema", node=RecommendConfig)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="recommend")
def main(config: DictConfig) -> None:
    with exit_on_bad_input():
        settings: RecommendConfig = OmegaConf.to_object(config)
        keys = typed()
        refuse_unknown(keys, RecommendConfig)
        refuse_idle(keys, idle_recommend_keys(settings))
        recommend(settings, Console(stderr=True), HydraConfig.get().overrides.task)


def recommend(config: RecommendConfig, console: Console, words: Sequence[str] = ()) -> None:
    """Prints the answer to stdout, what happens meanwhile to `console`. `words` are what was typed.

    Raises ValueError if workload or engine cannot be simulated, or cannot be run with confirm=real.
    """
    # Imported here: the worker processes import this file as well, and need none of these.
    from ray_jobs.advise.advise import advise
    from ray_jobs.advise.answer import answer, write_json
    from ray_jobs.advise.file_sizes import fitted_to_file, refuse_shortened
    from ray_jobs.advise.from_recording import fitted_engine, is_recorded
    from ray_jobs.advise.progress import AdviceProgress
    from ray_jobs.advise.render import print_answer
    from ray_jobs.advise.traces import SEARCH, SEEDS_OF_A_RUN, trace_of
    from ray_jobs.workload.left_out import left_out_line

    real = config.confirm == "real"
    if real:
        from ray_jobs.advise.real import check_real, confirm_real

        check_real(config)
    begun = process_began()
    if config.workload.rate is None:
        from ray_jobs.advise.loads import with_rate

        config = replace(config, workload=with_rate(config, console))
        begun = time.monotonic()  # looking for the capacity takes minutes that are not of the budget
    recording = None
    if is_recorded(config):
        recording = fitted_engine(config)
        config = replace(config, engine=recording.engine)
    fitted = fitted_to_file(config)
    refuse_shortened(config, fitted, typed_keys(words))
    config = fitted
    with AdviceProgress(console, config.budget_s) as progress:
        advice = advise(config, progress, begun, recording)
    found = answer(config, advice, confirm_real(config, advice, console) if real else None, words)
    first = trace_of(
        config.workload,
        config.seed * SEEDS_OF_A_RUN + SEARCH,
        config.engine.vocab_size,
        config.engine.max_model_len,
    )
    lost = first.meta.get("dropped") or first.meta.get("truncated")
    if lost and (line := left_out_line(first)):
        console.print(f"note: {line}", markup=False)
    if config.out:
        write_json(found, config.out)
    print_answer(found, config.format)


def process_began() -> float:
    """When this process was started, as a time of `time.monotonic`: imports take seconds, too."""
    return time.monotonic() - (time.time() - psutil.Process().create_time())


def cli() -> None:
    """The command: 0, 1 if a simulator's process dies, 2 on bad input, 130 if interrupted."""
    interrupt_on_sigterm()
    try:
        run_command(main)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenProcessPool:
        print(
            "error: a simulator's process was ended from outside (out of memory? try processes=1)",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    cli()
