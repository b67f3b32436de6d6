"""Where the vLLM adapter finds its settings. Imports no vLLM, so that bad settings fail at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from bidkv.adapters.shared.control import ControlFile, updated_settings
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidValidationError

STRATEGY_VARIABLE = "BIDKV_STRATEGY"


@dataclass(frozen=True)
class AdapterConfig:
    """`additional_config` for engines made in Python: `{"bidkv": section}` that vLLM's compile cache ignores.

    vLLM hashes a plain dict into the key of that cache, so that a new path or strategy would compile
    the model again, though no strategy changes the model.
    """

    section: dict[str, Any]

    def compute_hash(self) -> str:
        return "bidkv"


def adapter_config(additional_config: Any) -> tuple[AdapterSettings, ControlFile | None]:
    """The first settings and the control file that may replace them.

    They come from `additional_config["bidkv"]` or else from `BIDKV_STRATEGY`; a control file that is there
    already goes before the rest. Raises `BidValidationError` on anything that does not name a strategy.
    """
    section = None
    if isinstance(additional_config, AdapterConfig):
        section = additional_config.section
    elif isinstance(additional_config, dict):
        section = additional_config.get("bidkv")
    if section is None:
        return environment_settings(), None
    if not isinstance(section, dict):
        raise BidValidationError(f"additional_config['bidkv'] must be an object, got {section!r}")
    values = dict(section)
    path = values.pop("control_file", None)
    if path is None:
        return AdapterSettings.from_dict(values), None
    if not isinstance(path, str):
        raise BidValidationError(f"bidkv settings: control_file must be str or null, got {path!r}")
    control = ControlFile(path)
    settings = AdapterSettings.from_dict(values) if values else None
    update = control.poll()
    if update is not None:
        settings = updated_settings(settings, update)
    if settings is None:
        raise BidValidationError(f"bidkv: no strategy given and no control file at {path}")
    return settings, control


def environment_settings() -> AdapterSettings:
    """Settings for a server that was given `BIDKV_STRATEGY` and nothing else."""
    strategy = os.environ.get(STRATEGY_VARIABLE)
    if not strategy:
        raise BidValidationError(
            "bidkv scheduler: no strategy; give additional_config={'bidkv': {'strategy': ...}} "
            f"or set {STRATEGY_VARIABLE}"
        )
    return AdapterSettings(strategy=strategy)
