"""Which column of a log says what: by the names that people give them, or as `workload.source.columns` says."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from csv import Error as SnifferError
from csv import Sniffer, reader
from dataclasses import fields

from ray_jobs.workload.source_config import ColumnsConfig
from ray_jobs.workload.sources.shared.base import source_file
from tracking.errors import nearest, require

NEEDED = ("arrival", "prompt", "output")
USUAL = {
    "arrival": (
        "arrival", "arrival_time", "arrived", "arrived_at", "timestamp", "time", "ts", "start", "start_time", "started_at",
        "created", "created_at", "request_time", "date", "datetime",
    ),
    "prompt": (
        "prompt_tokens", "input_tokens", "context_tokens", "prompt_length", "input_length", "prompt_len", "input_len",
        "num_prompt_tokens", "prompt", "input",
    ),
    "output": (
        "output_tokens", "completion_tokens", "generated_tokens", "response_tokens", "output_length", "output_len",
        "num_output_tokens", "num_generation_tokens", "output", "completion",
    ),
    "session": ("session", "session_id", "conversation", "conversation_id"),
    "kind": ("class", "kind"),
    "declared": ("max_tokens", "declared", "max_new_tokens", "max_completion_tokens"),
}  # fmt: skip
"""As `plain_name` writes them; those of `arrival` also with a unit behind them, such as `time_ms`."""
UNITS = {
    "s": 1,
    "sec": 1,
    "seconds": 1,
    "ms": 1e3,
    "msec": 1e3,
    "millis": 1e3,
    "us": 1e6,
    "micros": 1e6,
    "ns": 1e9,
}
DELIMITERS = ",;\t|"


def header_of(path: str) -> tuple[str, list[str]]:
    """What separates the fields, and the names in the first line that is not empty, without spaces around them."""
    unpacked = gzip.open if path.endswith(".gz") else open  # as pandas reads the rest of it
    with unpacked(source_file(path), "rt", encoding="utf-8-sig") as file:
        line = next((line for line in file if line.strip()), "")
    require(
        bool(line), "workload.source.path", path, "a CSV file whose first line names its columns; it is empty"
    )
    try:
        delimiter = Sniffer().sniff(line, DELIMITERS).delimiter
    except SnifferError:
        delimiter = ","  # one column: what is missing is said with its name
    return delimiter, [name.strip() for name in next(reader([line], delimiter=delimiter), [])]


def columns_of(columns: ColumnsConfig, there: Sequence[str], path: str) -> dict[str, str]:
    """The file's name of each column that is named, or has a usual name. Raises ValueError for one that is needed and not
    there, and for a name that two columns have."""
    plain: dict[str, str] = {}
    for name in there:
        for form in (name.rpartition(".")[2], name):  # gen_ai.usage.input_tokens, as OpenTelemetry has it
            plain.setdefault(plain_name(form), name)
    bare = {split_unit(form)[0]: name for form, name in plain.items()} | plain
    found: dict[str, str] = {}
    for field in fields(columns):
        key, named = field.name, getattr(columns, field.name)
        if named is not None:
            near = nearest(named, there)
            require(
                named.strip() in there, f"workload.source.columns.{key}", named,
                f"one of {', '.join(there)}" + (f" (did you mean {near}?)" if near else ""),
            )  # fmt: skip
            found[key] = named.strip()
            continue
        known = bare if key == "arrival" else plain
        usual = next((known[name] for name in USUAL[key] if name in known), None)
        if usual is not None and usual not in found.values():
            found[key] = usual
    missing = [key for key in NEEDED if key not in found]
    require(
        not missing, "workload.source.path", path,
        "a CSV file whose first line names its columns; say which has "
        + " and which ".join(f"{key}: workload.source.columns.{key}=NAME" for key in missing)
        + f" (the file has {', '.join(there)})",
    )  # fmt: skip
    for name in found.values():
        require(
            list(there).count(name) == 1, "workload.source.path", path,
            f"a file with one column {name}: it has {list(there).count(name)}, and they may differ; rename one",
        )  # fmt: skip
    return found


def plain_name(name: str) -> str:
    """ "Prompt Tokens", "promptTokens" and "prompt-tokens" as "prompt_tokens"."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", apart.lower()).strip("_")


def split_unit(name: str) -> tuple[str, float | None]:
    """ "time_ms" as "time" and how many of the unit are in a second; None where the name ends in no unit."""
    before, _, last = plain_name(name).rpartition("_")
    return (before, UNITS[last]) if before and last in UNITS else (plain_name(name), None)
