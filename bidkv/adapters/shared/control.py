"""The control file: how a running engine is given new settings."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidValidationError


def write_control(path: str | Path, settings: AdapterSettings | Mapping[str, Any]) -> None:
    """Replaces the control file in one step, so that no reader ever sees half of it.

    `{"kill_switch": true}` alone switches the current strategy off and leaves the rest as it is.
    """
    values = settings.to_dict() if isinstance(settings, AdapterSettings) else dict(settings)
    path = Path(path)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(values, file)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def updated_settings(current: AdapterSettings | None, update: Mapping[str, Any]) -> AdapterSettings:
    """The settings that hold after `update`; raises `BidValidationError` if they are not valid."""
    if current is not None and set(update) == {"kill_switch"}:
        return replace(current, kill_switch=update["kill_switch"])
    return AdapterSettings.from_dict(update)


class ControlFile:
    """Reads a control file again whenever it was replaced. One `stat` per poll."""

    def __init__(self, path: str | Path):
        self.path = str(path)
        self._seen: tuple[int, int, int] | None = None

    def poll(self) -> dict[str, Any] | None:
        """The content if it is new, else None; raises `BidValidationError` if it is not a JSON object."""
        try:
            stat = os.stat(self.path)
        except FileNotFoundError:
            return None
        version = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if version == self._seen:
            return None
        self._seen = version
        try:
            values = json.loads(Path(self.path).read_text())
        except (OSError, ValueError) as error:
            raise BidValidationError(f"control file {self.path}: {error}") from error
        if not isinstance(values, dict):
            raise BidValidationError(f"control file {self.path}: must hold a JSON object, got {values!r}")
        return values
