"""The control file: how a running engine is given new settings."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bidkv.adapters.shared.control_place import check_folder, read_guarded
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidKVError, BidValidationError
from bidkv.policy_file import is_reference

FIXED = ("run_id", "events_path", "steps_path", "log_schedule", "client_facts")
"""Settings that an engine keeps from its start, unless whoever made it trusts the file with them."""
NAMES = ("strategy", "admission", "victim", "retention")
SWITCH = {"kill_switch", "until"}
"""Keys that leave the strategy and its run as they are."""
AS_STARTED = {"as_started": True}
"""All that a control file says to have back what the engine was started with."""
LARGEST = 2**63


def write_control(path: str | Path, settings: AdapterSettings | Mapping[str, Any]) -> None:
    """Replaces the control file in one step, so that no reader ever sees half of it.

    `{"kill_switch": true}` alone switches the current strategy off and leaves the rest as it is. With `until` beside
    it, in seconds since the epoch, a switch that is off turns itself on then.
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


def updated_settings(
    current: AdapterSettings | None,
    update: Mapping[str, Any],
    trusted: bool = False,
    started: AdapterSettings | None = None,
) -> AdapterSettings:
    """The settings that hold after `update`; raises `BidValidationError` if they are not valid.

    Not `trusted`, the update may turn the kill switch or name another registered strategy, with its halves,
    parameters and seed: `FIXED` settings stay what they are, and no FILE.py:CLASS is run but what `current` or
    `started` names. Without `current` an engine starts, and there is nothing to stay. An `until` never stays: an
    update without one has no end.
    """
    if current is not None and "kill_switch" in update and set(update) <= SWITCH:
        return replace(current, kill_switch=update["kill_switch"], until=update.get("until"))
    kept = {} if current is None else {key: getattr(current, key) for key in FIXED}
    if trusted:
        return AdapterSettings.from_dict({"client_facts": kept.get("client_facts", False), **update})
    if current is not None:
        kept["seed"] = current.seed
    settings = AdapterSettings.from_dict({**kept, **update})
    for key in [key for key in FIXED if key in update and key in kept]:
        if update[key] != kept[key]:
            raise BidValidationError(
                f"{key} {update[key]!r}: cannot be changed while the engine runs, is {kept[key]!r}; leave it out"
            )
    known = {getattr(own, key) for own in (current, started) if own is not None for key in NAMES}
    for key in NAMES:
        name = getattr(settings, key)
        if name is not None and is_reference(name) and name not in known:
            raise BidValidationError(
                f"{key} {name!r}: a file of code can be named only where the engine is started; "
                "give the name of a registered one"
            )
    return settings


class ControlFile:
    """Reads a control file again whenever it was replaced. One `stat` per poll.

    The file and its folder must be the server's user's or root's, and nobody else's to write (see
    `read_guarded`). `trusted` is for who makes the engine and writes the file, too: all settings may change.
    `started` are settings that the engine was started with, if others than the file's first ones; a file that says
    `AS_STARTED` has them back.
    """

    def __init__(self, path: str | Path, trusted: bool = False, started: AdapterSettings | None = None):
        self.path = str(path)
        self._trusted, self._started = trusted, started
        self._seen: tuple[int, ...] | None = None
        self._place_is_known = False

    @property
    def trusted(self) -> bool:
        return self._trusted

    def poll(self) -> dict[str, Any] | None:
        """The content if it is new, else None; raises `BidValidationError`, once, on a file that is not accepted."""
        try:
            stat = os.lstat(self.path)
            version = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size)
        except FileNotFoundError:
            return None
        except OSError as error:
            version = (error.errno or 0,)
        if version == self._seen:
            return None
        self._seen = version
        return _parsed(self.path, read_guarded(self.path))

    def update(self, current: AdapterSettings | None) -> AdapterSettings | None:
        """The settings that hold now if the file is new, else None; raises `BidValidationError`, once, as `poll`."""
        values = self.poll()
        if values is None:
            return None
        try:
            if values == AS_STARTED and current is not None and self._started is not None:
                return replace(self._started, **{key: getattr(current, key) for key in FIXED})
            settings = updated_settings(current, values, self._trusted, self._started)
        except BidKVError as error:
            raise BidValidationError(f"control file {self.path}: {error}") from error
        if current is None and self._started is None:
            self._started = settings
        return settings

    def check_folder(self) -> None:
        """Raises `BidValidationError`, once, where no file could be accepted: one may come much later."""
        if not self._place_is_known:
            self._place_is_known = True
            check_folder(self.path)


def _parsed(path: str, content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(
            content,
            object_pairs_hook=_unique,
            parse_constant=_not_finite,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except (ValueError, RecursionError) as error:
        raise BidValidationError(f"control file {path}: {error}") from error
    if not isinstance(values, dict):
        raise BidValidationError(f"control file {path}: must hold a JSON object, got {type(values).__name__}")
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key in values if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return values


def _not_finite(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is larger than any number")
    return number


def _bounded(text: str) -> int:
    number = int(text)
    if abs(number) >= LARGEST:
        raise ValueError(f"an integer must be below 2**63, got one of {len(text)} digits")
    return number
