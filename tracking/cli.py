"""How commands start and end: one clear line and exit code 2 for what the user got wrong."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from hydra.errors import CompactHydraException
from omegaconf.errors import OmegaConfBaseException

from tracking.bad_values import about_null, about_value
from tracking.nearest import plain, refuse_words

BAD_INPUT = 2
BAD_INPUT_ERRORS = (
    CompactHydraException, OmegaConfBaseException, ValueError,
    FileNotFoundError, PermissionError, ConnectionError,
)  # fmt: skip


def conf_folder() -> Path:
    """The folder of Hydra's configuration files: what the wheel carries, else the checkout's `conf/`."""
    package = Path(__file__).resolve().parent
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parent / "conf"


CONF = conf_folder()


@contextmanager
def exit_on_bad_input() -> Iterator[None]:
    """Turns errors of configuration into one line and exit 2: Hydra's, OmegaConf's, our ValueErrors,
    files that are not there or not ours, servers that do not answer."""
    try:
        yield
    except BAD_INPUT_ERRORS as error:
        _refuse(about_value(error) or plain(error, CONF, sys.argv[1:]) or one_line(error))
    except AssertionError as error:
        text = about_null(error, sys.argv[1:])
        if text is None:
            raise
        _refuse(text)


def _refuse(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
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


def run_command(main: Callable[[], None]) -> None:
    """Runs a Hydra app; bad input is one line on stderr and exit code 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and we print one line instead of its several
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"  # a bar for every small file
    with exit_on_bad_input():
        refuse_words(sys.argv[1:], CONF)
        main()


def interrupt_on_sigterm() -> None:
    """From here on SIGTERM ends the command as an interrupt does: in order."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: object) -> None:
    """Also where SIGINT is ignored, as in whatever a script starts in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)
