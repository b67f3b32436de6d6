"""What looks like a secret. Secrets come from the environment; what is configured is stored with every run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlsplit

from tracking.errors import require

# TOKENS are counted, and TOKENIZERS are not secret.
SECRET = re.compile(
    r"TOKEN(?!S|I)|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL|(^|_)(KEY|PWD)$"
)


def looks_secret(name: str) -> bool:
    """Whether a variable or an argument of this name may hold a secret."""
    return SECRET.search(name.upper()) is not None


def check_names(key: str, names: Iterable[str], instead: str) -> None:
    """Raises ValueError, without a value, if one of the names under `key` looks like a secret."""
    for name in names:
        require(
            not looks_secret(str(name)), key, str(name),
            f"a name of something that may be stored with the run (a secret is given by name: {instead.format(name)})",
        )  # fmt: skip


def check_address(key: str, address: str) -> None:
    """Raises ValueError, without repeating it, if an address carries a password: it is stored with each run."""
    if "://" not in address:
        return
    parts = urlsplit(address)
    secret = parts.password is not None or any(looks_secret(name) for name, _ in parse_qsl(parts.query))
    require(
        not secret, key, f"{parts.scheme}://…@{parts.hostname}",
        "without a password (it comes from the environment: MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, PGPASSWORD for a database, AWS_SECRET_ACCESS_KEY for a bucket)",
    )  # fmt: skip
