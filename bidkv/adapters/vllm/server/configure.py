"""Where the vLLM adapter finds its settings. Imports no vLLM, so that bad settings fail at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bidkv.adapters.shared.control import ControlFile
from bidkv.adapters.shared.recording.place import RecordingPlace
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidValidationError

STRATEGY_VARIABLE = "BIDKV_STRATEGY"
RECORD_VARIABLE = "BIDKV_RECORD"
"""A folder in which the server records what it did, with the default limit."""
RECORD_KEYS = {"record": "folder", "record_mib": "mib"}
NOT_READ = {
    "BIDKV_CONTROL_FILE": "--bidkv-control FILE",
    "BIDKV_CLIENT_FACTS": "--bidkv-client-facts",
    "BIDKV_TRUSTED_CONTROL": "trusted_control in additional_config['bidkv']",
}
"""Variables of SGLang's adapter, and what says the same here."""


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
    already goes before the rest. With `trusted_control`, which only this section can say, it may change all
    settings, paths and files of code too. Raises `BidValidationError` on anything that does not name a strategy.
    """
    section = _section(additional_config)
    if section is None:
        return environment_settings(), None
    values = {key: value for key, value in section.items() if key not in RECORD_KEYS}
    named = os.environ.get(STRATEGY_VARIABLE)
    if named and values.setdefault("strategy", named) != named:
        raise BidValidationError(
            f"{STRATEGY_VARIABLE}={named} has no effect beside additional_config['bidkv'], which names "
            f"{values['strategy']!r}; unset one of them"
        )
    path, trusted = values.pop("control_file", None), values.pop("trusted_control", None)
    if path is None and trusted is not None:
        raise BidValidationError(
            f"bidkv settings: trusted_control {trusted!r} needs a control_file; leave it out"
        )
    if path is None:
        return AdapterSettings.from_dict(values), None
    for key, value, kind in (("control_file", path, str), ("trusted_control", trusted or False, bool)):
        if not isinstance(value, kind):
            raise BidValidationError(f"bidkv settings: {key} must be {kind.__name__} or null, got {value!r}")
    settings = AdapterSettings.from_dict(values) if values else None
    control = ControlFile(path, bool(trusted), started=settings)
    settings = control.update(settings) or settings
    if settings is None:
        raise BidValidationError(f"bidkv: no strategy given and no control file at {path}")
    return settings, control


def recording_place(
    additional_config: Any, environment: Mapping[str, str] = os.environ
) -> RecordingPlace | None:
    """Where the engine records what it does: `record` and `record_mib` of the same section, or `BIDKV_RECORD`. None:
    nowhere. Raises `BidValidationError` on what names no place."""
    section = _section(additional_config) or {}
    values = {key: section[key] for key in RECORD_KEYS if section.get(key) is not None}
    named = environment.get(RECORD_VARIABLE)
    if named and values.setdefault("record", named) != named:
        raise BidValidationError(
            f"{RECORD_VARIABLE}={named} has no effect beside additional_config['bidkv'], which names "
            f"{values['record']!r}; unset one of them"
        )
    if values and "record" not in values:
        raise BidValidationError(
            f"bidkv settings: record_mib {values['record_mib']!r} needs a record; leave it out"
        )
    return RecordingPlace(**{RECORD_KEYS[key]: value for key, value in values.items()}) if values else None


def refuse_not_read(environment: Mapping[str, str] = os.environ) -> None:
    """Raises `BidValidationError`, in one line, on a variable that only SGLang's adapter reads."""
    for variable, instead in NOT_READ.items():
        value = environment.get(variable)
        if value not in (None, "", "0"):
            raise BidValidationError(
                f"{variable}={value} has no effect on vLLM: give {instead} to its server instead, or unset it"
            )


def _section(additional_config: Any) -> dict[str, Any] | None:
    """What is meant for the adapter; None if nothing is."""
    section = None
    if isinstance(additional_config, AdapterConfig):
        section = additional_config.section
    elif isinstance(additional_config, dict):
        section = additional_config.get("bidkv")
    if section is not None and not isinstance(section, dict):
        raise BidValidationError(f"additional_config['bidkv'] must be an object, got {section!r}")
    return section


def rank_facts(parallel_config: Any) -> dict[str, str]:
    """`rank` of a data-parallel engine, as in `dp1`; empty for one that is alone.

    vLLM runs the ranks of a dense model as if each were alone, and only their index is left: the first of them
    is not told from an engine that really is, and its files keep their names.
    """
    index = parallel_config.data_parallel_index
    return {"rank": f"dp{index}"} if index or parallel_config.data_parallel_size > 1 else {}


def environment_settings() -> AdapterSettings:
    """Settings for a server that was given `BIDKV_STRATEGY` and nothing else."""
    strategy = os.environ.get(STRATEGY_VARIABLE)
    if not strategy:
        raise BidValidationError(
            "bidkv scheduler: no strategy; give additional_config={'bidkv': {'strategy': ...}} "
            f"or set {STRATEGY_VARIABLE}"
        )
    return AdapterSettings(strategy=strategy)
