"""Refuses secrets on the command line before Hydra writes it down anywhere."""

from __future__ import annotations

from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser

from ray_jobs.engines.config import check_environment
from tracking.store.config import check_address

ENVIRONMENT = "engine.env"


def refuse_secrets(overrides: Iterable[str]) -> None:
    """Raises ValueError if an override carries a secret; the message does not repeat it."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key, value = override.key_or_group, override.value()
        if key.startswith(f"{ENVIRONMENT}."):
            check_environment([key.removeprefix(f"{ENVIRONMENT}.")])
        elif key == ENVIRONMENT and isinstance(value, dict):
            check_environment(value)
        elif key == "tracking.uri":
            check_address(str(value))
