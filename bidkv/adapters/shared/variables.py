"""The environment variables that bidkv reads. Another one of its name was meant for it, and would be ignored."""

from __future__ import annotations

import os
from collections.abc import Mapping

from bidkv.errors import UnknownNameError

PREFIX = "BIDKV_"
READ = (
    "BIDKV_STRATEGY", "BIDKV_RECORD", "BIDKV_CONTROL_FILE", "BIDKV_CLIENT_FACTS", "BIDKV_TRUSTED_CONTROL",
)  # fmt: skip
OUR_OWN = ("BIDKV_METRICS_FOLDER", "BIDKV_ENGINE_SCRATCH")
"""What processes that we started tell each other: of a server, and of the benchmark."""


def refuse_unknown(environment: Mapping[str, str] = os.environ) -> None:
    """Raises `UnknownNameError`, in one line, on a variable that nobody reads: a server with a strategy whose name was
    misspelt would serve without it."""
    for variable in sorted(environment):
        if variable.startswith(PREFIX) and variable not in (*READ, *OUR_OWN):
            raise UnknownNameError("environment variable", variable, list(READ))
