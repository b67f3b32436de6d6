"""The server's control file, for the length of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bidkv.adapters.shared.control import FIXED, write_control
from bidkv.adapters.shared.settings import AdapterSettings


class Switch:
    """A context in which `turn` puts a strategy into the file. Then the file is as it was: same bytes, or none.

    A process that is killed puts nothing back. So a strategy has an `until`, at which the server's own choices
    hold again.
    """

    def __init__(self, path: str | None):
        self._path = Path(path or "")
        self._before: bytes | None = None
        self._turned = False

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_: object) -> None:
        self.put_back()

    def turn(self, settings: AdapterSettings) -> None:
        """What a server keeps from its start is left out."""
        self.write({key: value for key, value in settings.to_dict().items() if key not in FIXED})

    def write(self, values: Mapping[str, Any]) -> None:
        if not self._turned:
            self._before = self._path.read_bytes() if self._path.exists() else None
            self._turned = True
        write_control(self._path, values)

    def put_back(self) -> None:
        if not self._turned:
            return
        self._turned = False
        if self._before is None:
            self._path.unlink(missing_ok=True)
            return
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        draft.write_bytes(self._before)
        os.replace(draft, self._path)
