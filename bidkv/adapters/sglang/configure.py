"""Where the SGLang adapter finds its settings. Imports no SGLang, so that bad settings fail at once.

A plugin of SGLang is loaded in processes that SGLang spawns, and only the environment reaches them.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import entry_points

from bidkv.adapters.shared.control import ControlFile
from bidkv.adapters.shared.recording.place import RecordingPlace
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidKVError, BidValidationError

STRATEGY_VARIABLE = "BIDKV_STRATEGY"
PLUGIN_GROUP = "sglang.srt.plugins"
CONTROL_VARIABLE = "BIDKV_CONTROL_FILE"
TRUST_VARIABLE = "BIDKV_TRUSTED_CONTROL"
"""1: the control file may change all settings, for who starts SGLang and writes the file, too."""
RECORD_VARIABLE = "BIDKV_RECORD"
"""A folder in which the server records what it does."""
FACTS_VARIABLE = "BIDKV_CLIENT_FACTS"
"""1: what clients declare about their requests is taken (`AdapterSettings.client_facts`)."""


def is_asked_for() -> bool:
    """Whether the environment names a strategy or a control file."""
    return bool(os.environ.get(CONTROL_VARIABLE) or os.environ.get(STRATEGY_VARIABLE))


def check_installed() -> None:
    """Raises `BidKVError` if SGLang will not find the plugin in this environment."""
    if not any(point.name == "bidkv" for point in entry_points(group=PLUGIN_GROUP)):
        raise BidKVError(
            f"no entry point 'bidkv' in {PLUGIN_GROUP!r}: install bidkv into SGLang's environment"
        )


def read_configuration() -> tuple[AdapterSettings, ControlFile | None]:
    """The first settings, checked, and the control file that may replace them.

    Raises `BidValidationError` or `UnknownNameError` on settings that name no known strategy.
    """
    path, trusted = os.environ.get(CONTROL_VARIABLE), _is_on(TRUST_VARIABLE)
    client_facts = _is_on(FACTS_VARIABLE)
    if path:
        control = ControlFile(path, trusted)
        settings = control.update(None)
        if settings is None:
            raise BidValidationError(f"{CONTROL_VARIABLE}: no control file at {path}")
        named = os.environ.get(STRATEGY_VARIABLE)
        if named and named != settings.strategy:
            raise BidValidationError(
                f"{STRATEGY_VARIABLE}={named} has no effect beside {CONTROL_VARIABLE}={path}, which names "
                f"{settings.strategy!r}; unset one of them"
            )
    elif trusted:
        raise BidValidationError(
            f"{TRUST_VARIABLE}=1: there is no {CONTROL_VARIABLE}; set that, too, or neither"
        )
    else:
        control = None
        settings = AdapterSettings(strategy=os.environ[STRATEGY_VARIABLE])
    if client_facts:
        settings = replace(settings, client_facts=True)
    settings.build()
    return settings, control


def recording_place() -> RecordingPlace | None:
    """Where the engine records what it does; None: nowhere. Raises `BidValidationError` on what is no place for it."""
    folder = os.environ.get(RECORD_VARIABLE)
    if not folder:
        return None
    place = RecordingPlace(folder)
    place.prepare()
    return place


def refuse_alone() -> None:
    """Raises `SystemExit` in one line: nothing is recorded or read by a scheduler that is not hooked."""
    folder = os.environ.get(RECORD_VARIABLE)
    if folder:
        raise SystemExit(
            f"bidkv: {RECORD_VARIABLE}={folder} has no effect without {STRATEGY_VARIABLE}: set "
            f"{STRATEGY_VARIABLE}=sglang_default to record SGLang as it is"
        )
    for variable in (FACTS_VARIABLE, TRUST_VARIABLE):
        value = os.environ.get(variable)
        if value not in (None, "", "0"):
            raise SystemExit(
                f"bidkv: {variable}={value} has no effect without {STRATEGY_VARIABLE} or {CONTROL_VARIABLE}; unset it"
            )


def _is_on(variable: str) -> bool:
    value = os.environ.get(variable, "0")
    if value not in ("0", "1"):
        raise BidValidationError(f"{variable}: must be 0 or 1, got {value!r}")
    return value == "1"
