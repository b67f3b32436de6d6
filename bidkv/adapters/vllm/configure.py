"""Where the vLLM adapter finds its settings. Imports no vLLM, so that bad settings fail at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from bidkv.adapters.settings import AdapterSettings
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


def adapter_config(additional_config: Any) -> tuple[AdapterSettings | None, str | None]:
    """Settings and control file from `additional_config["bidkv"]`, or else from `BIDKV_STRATEGY`.

    Settings are None if only a `control_file` is given. Raises `BidValidationError` on anything else
    that does not name a strategy.
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
    control_file = values.pop("control_file", None)
    if control_file is not None and not isinstance(control_file, str):
        raise BidValidationError(f"bidkv settings: control_file must be str or null, got {control_file!r}")
    if control_file is not None and not values:
        return None, control_file
    return AdapterSettings.from_dict(values), control_file


def environment_settings() -> AdapterSettings:
    """Settings for a server that was given `BIDKV_STRATEGY` and nothing else."""
    strategy = os.environ.get(STRATEGY_VARIABLE)
    if not strategy:
        raise BidValidationError(
            "bidkv scheduler: no strategy; give additional_config={'bidkv': {'strategy': ...}} "
            f"or set {STRATEGY_VARIABLE}"
        )
    return AdapterSettings(strategy=strategy)
