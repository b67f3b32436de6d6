"""One clear line and exit code 2 for what the user got wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import CompactHydraException
from omegaconf.errors import OmegaConfBaseException

BAD_INPUT = 2
BAD_INPUT_ERRORS = (
    CompactHydraException, OmegaConfBaseException, ValueError,
    FileNotFoundError, PermissionError, ConnectionError,
)  # fmt: skip


@contextmanager
def exit_on_bad_input() -> Iterator[None]:
    """Turns errors of configuration into one line and exit 2: Hydra's, OmegaConf's, our ValueErrors,
    files that are not there or not ours, servers that do not answer."""
    try:
        yield
    except BAD_INPUT_ERRORS as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def one_line(error: BaseException) -> str:
    """The error's message and the cause's, if it says more, without line breaks."""
    parts = []
    while error is not None:
        text = " ".join(str(error).split())
        if text and not any(text in part for part in parts):
            parts.append(text)
        error = error.__cause__
    return "; ".join(parts)
