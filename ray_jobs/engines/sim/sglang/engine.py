"""One SGLang in this process, hooked as on a server, for any number of runs."""

from __future__ import annotations

import gc
import logging
from dataclasses import replace
from pathlib import Path

import sglang

from ray_jobs.engines.config import EngineConfig, blocks_that_fit
from ray_jobs.engines.sim.sglang.adapter import Hooks, VirtualAdapter
from ray_jobs.engines.sim.sglang.scheduler import World, make_scheduler


class SimulatedSGLang:
    """SGLang keeps its configuration in its process and not in an object: there is one in a process."""

    def __init__(self, engine: EngineConfig, folder: Path):
        """Raises ValueError on arguments that SGLang does not accept, `UnknownLayoutError` on an SGLang that the adapter
        does not know. `folder` takes a model's configuration."""
        logging.getLogger("sglang").setLevel(logging.ERROR)  # it warns of each retraction
        self._hooks = Hooks()
        self._hooks.install()
        sized = replace(engine, num_blocks=engine.num_blocks or blocks_that_fit(engine))
        self.scheduler = make_scheduler(sized, folder)
        self.version: str = sglang.__version__
        gc.collect()
        gc.freeze()  # a collection need not look through all that SGLang imported

    def run(self, world: World, adapter: VirtualAdapter) -> None:
        """Raises what the run raises, RuntimeError after one that was broken off, and `BidKVError` on a strategy that this
        engine cannot follow."""
        self.scheduler.reset()
        self._hooks.adapter = adapter
        adapter.bind(self.scheduler)
        try:
            self.scheduler.run(world)
        finally:
            adapter.close()
