"""Hooks SGLang's classes in this process, as its plugin loader does, and takes the hooks off again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from sglang.srt.plugins import hook_registry
from sglang.srt.plugins.hook_registry import HookRegistry

from bidkv.adapters.sglang import layout
from bidkv.adapters.sglang.plugin import hook
from bidkv.adapters.shared.recording.place import RecordingPlace
from bidkv.adapters.shared.settings import AdapterSettings


class Hooks:
    """One adapter at a time."""

    def __init__(self) -> None:
        self._originals = pytest.MonkeyPatch()

    def install(
        self,
        scheduler: Any,
        settings: AdapterSettings,
        record: Path | None = None,
        clock: Callable[[], float] | None = None,
    ) -> Any:
        """A new adapter, bound to a scheduler, in place of the one before; it records into a folder if one is given, by
        a clock of its own."""
        self.remove()
        self.remember()
        # All are methods: there are no names in other modules to be replaced, which takes SGLang a second to find out.
        self._originals.setattr(hook_registry, "_propagate_patch", lambda *_: 0)
        adapter = hook(settings, None, RecordingPlace(str(record)) if record else None)
        HookRegistry.apply_hooks()
        if clock is not None:
            adapter._own_clock = clock
        adapter.bind(scheduler)
        return adapter

    def remember(self) -> None:
        """Notes how SGLang's classes are, for `remove`: an engine that is started here has them hooked as well."""
        for target in (*layout.HOOKED, *layout.OPTIONAL):
            path, name = target.rsplit(".", 1)
            owner = resolve_name(path)
            self._originals.setattr(owner, name, vars(owner)[name])

    def remove(self) -> None:
        """Takes all hooks off."""
        self._originals.undo()
        HookRegistry.reset()
