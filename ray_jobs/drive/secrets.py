"""Refuses secrets before Hydra writes down anywhere what was typed or composed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from ray_jobs.engines.config import PASS_ENV
from tracking.secrets import check_address, check_names

NAMES = ("engine.env", "engine.extra", "strategy.engine")  # mappings whose keys are the user's
ADDRESSES = ("tracking.uri", "tracking.artifact_root", "engine.url")


def refuse_secrets(config: DictConfig, overrides: Iterable[str]) -> None:
    """Raises ValueError if the composed configuration or a swept override carries one; it is not repeated."""
    for key in NAMES:
        check_names(key, OmegaConf.select(config, key, throw_on_missing=False) or (), PASS_ENV)
    for key in ADDRESSES:
        check_address(key, _plain(config, key))
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        value = override.value()
        for each in getattr(value, "list", [value]):  # a sweep over a list has it
            _refuse(override.key_or_group, each)


def _refuse(key: str, value: object) -> None:
    for names in NAMES:
        if key.startswith(f"{names}."):
            check_names(names, [key.removeprefix(f"{names}.")], PASS_ENV)
        elif key == names and isinstance(value, Mapping):
            check_names(names, value, PASS_ENV)
    if key in ADDRESSES:
        check_address(key, str(value))


def _plain(config: DictConfig, key: str) -> str:
    return "" if OmegaConf.is_missing(config, key) else str(OmegaConf.select(config, key) or "")
