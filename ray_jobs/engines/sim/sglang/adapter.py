"""The project's adapter for SGLang with its clock and its records replaced, and nothing it decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sglang.srt.plugins.hook_registry import HookRegistry

from bidkv.adapters.sglang.adapter import SGLangAdapter
from bidkv.adapters.sglang.plugin import known_targets, register_hooks
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.sim.records import StepColumns, VirtualRunLog


class VirtualAdapter(SGLangAdapter):
    """One for each run, bound to a scheduler that serves many. Times of all records come from `clock`."""

    def __init__(self, settings: AdapterSettings, clock: Callable[[], float]):
        super().__init__(settings, clock=clock)

    @property
    def step_columns(self) -> StepColumns:
        """The steps of this run, also when it is over."""
        return self._columns

    @property
    def wall_clock_counters(self) -> dict[str, int]:
        """Real nanoseconds that selecting, the hooks and accounting took in this run."""
        return dict(self._session.log.counters)

    @property
    def accounts(self) -> dict[str, Any]:
        """What is known of each request in the engine, by its id."""
        return self._accounts

    def _run_log(self, settings: AdapterSettings, *args: Any) -> VirtualRunLog:
        return VirtualRunLog(settings, *args)

    def _step_log(self, path: str) -> StepColumns:
        self._columns = StepColumns(path)
        return self._columns

    def _facts(self) -> dict[str, Any]:
        return super()._facts() | {"engine": "sglang_sim"}


class Hooks:
    """SGLang's classes are hooked once in a process, as its plugin loader does; what is called goes to the adapter of the
    run that is under way."""

    def __init__(self) -> None:
        self.adapter: VirtualAdapter | None = None

    def install(self) -> None:
        """Raises `UnknownLayoutError` on an SGLang that the adapter does not know."""
        register_hooks(known_targets(), self, exact_lengths=True)
        HookRegistry.apply_hooks()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def hook(original: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(self.adapter, name)(original, *args, **kwargs)

        return hook
