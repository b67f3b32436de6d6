"""How the commands of this package start."""

from __future__ import annotations

import os
from collections.abc import Callable

from ray_jobs.cli import exit_on_bad_input


def run_command(main: Callable[[], None]) -> None:
    """Runs a Hydra app; bad input is one line on stderr and exit code 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and we print one line instead of its several
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"  # a bar for every small file
    with exit_on_bad_input():
        main()
