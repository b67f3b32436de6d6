"""Reads recordings, and checks what holds in each of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest


def records(folder: Path) -> list[Any]:
    lines = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.open()]
    assert lines[0]["type"] == "recording"
    return lines


def of_type(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [record for record in records(folder) if isinstance(record, dict) and record["type"] == kind]


def steps(folder: Path) -> list[dict[str, Any]]:
    names = records(folder)[0]["steps"]
    return [dict(zip(names, line, strict=True)) for line in records(folder) if isinstance(line, list)]


def seconds(folder: Path) -> Counter[str]:
    total: Counter[str] = Counter()
    for request in of_type(folder, "request"):
        total.update(request["seconds"])
    return total


def check_sums(folder: Path) -> dict[str, dict[str, Any]]:
    requests = of_type(folder, "request")
    for request in requests:
        e2e = request["finish_t"] - request["arrival_t"]
        assert sum(request["seconds"].values()) == pytest.approx(e2e, rel=1e-3, abs=1e-6), request
        assert min(request["seconds"].values()) >= 0, request
        if request["to_first"] is not None:
            ttft = request["first_token_t"] - request["arrival_t"]
            assert sum(request["to_first"].values()) == pytest.approx(ttft, rel=1e-3, abs=1e-6), request
        assert (request["to_first"] is None) == (request["output"] == 0)
        decoded = sum(end - start for start, end in request["decodes"])
        assert decoded == pytest.approx(request["seconds"].get("decode", 0.0), abs=1e-6)
    return {request["id"]: request for request in requests}
