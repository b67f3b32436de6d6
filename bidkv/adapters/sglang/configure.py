"""Where the SGLang adapter finds its settings. Imports no SGLang, so that bad settings fail at once.

A plugin of SGLang is loaded in processes that SGLang spawns, and only the environment reaches them.
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points

from bidkv.adapters.shared.control import ControlFile
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidKVError, BidValidationError

STRATEGY_VARIABLE = "BIDKV_STRATEGY"
PLUGIN_GROUP = "sglang.srt.plugins"
CONTROL_VARIABLE = "BIDKV_CONTROL_FILE"


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
    path = os.environ.get(CONTROL_VARIABLE)
    if path:
        control = ControlFile(path)
        values = control.poll()
        if values is None:
            raise BidValidationError(f"{CONTROL_VARIABLE}: no control file at {path}")
        settings = AdapterSettings.from_dict(values)
    else:
        control = None
        settings = AdapterSettings(strategy=os.environ[STRATEGY_VARIABLE])
    settings.build()
    return settings, control
