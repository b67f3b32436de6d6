"""A frozen workload: every request with its tokens, arrival and lengths, and a hash of all that."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FORMAT = "bidkv-trace-1"
SESSIONS_FORMAT = "bidkv-trace-2"  # the columns of the first, and those of `_SESSION_FIELDS`
_METADATA_KEY = b"bidkv"
_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("arrival_s", pa.float64()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("output_tokens", pa.int64()),
        ("max_tokens", pa.int64()),
        ("priority", pa.int64()),
        ("deadline_s", pa.float64()),
        ("kind", pa.string()),
        ("warmup", pa.bool_()),
    ]
)
_SESSION_FIELDS = [
    ("session", pa.string()),
    ("turn", pa.int64()),
    ("parents", pa.list_(pa.string())),
    ("think_time_s", pa.float64()),
]
_SCHEMAS = {
    FORMAT: _SCHEMA,
    SESSIONS_FORMAT: pa.schema([*_SCHEMA, *(pa.field(*field) for field in _SESSION_FIELDS)]),
}


@dataclass(frozen=True, eq=False)
class TraceRequest:
    """One request. Times in seconds: `arrival_s` since the run's start, `deadline_s` since the arrival.

    `output_tokens` is the true length, `max_tokens` what the client declares. A larger `priority` is
    less important. `warmup` requests are run but not measured. Raises ValueError if any is impossible.

    A turn of a conversation has a `session`. One with `parents` (request ids) is sent when all of them
    are answered and `think_time_s` has passed since the answer to the first, but not before its
    `arrival_s`: the earliest moment that could be, were every answer there at once, or when it was recorded.
    """

    request_id: str
    arrival_s: float
    prompt_token_ids: np.ndarray  # int32, one dimension, read-only
    output_tokens: int
    max_tokens: int
    priority: int = 0
    deadline_s: float | None = None
    kind: str = ""
    warmup: bool = False
    session: str = ""
    turn: int = 0  # in its session, from 0
    parents: tuple[str, ...] = ()
    think_time_s: float = 0.0

    def __post_init__(self) -> None:
        tokens = np.array(self.prompt_token_ids, dtype=np.int32)
        tokens.setflags(write=False)
        object.__setattr__(self, "prompt_token_ids", tokens)
        object.__setattr__(self, "parents", tuple(self.parents))
        problem = None
        if not self.request_id:
            problem = "request_id must not be empty"
        elif tokens.ndim != 1 or len(tokens) == 0 or tokens.min() < 0:
            problem = "prompt_token_ids must be a list of at least one id >= 0"
        elif not (self.arrival_s >= 0 and math.isfinite(self.arrival_s)):
            problem = f"arrival_s={self.arrival_s} must be >= 0"
        elif self.output_tokens < 1:
            problem = f"output_tokens={self.output_tokens} must be >= 1"
        elif self.max_tokens < self.output_tokens:
            problem = f"max_tokens={self.max_tokens} must be >= output_tokens={self.output_tokens}"
        elif self.deadline_s is not None and not self.deadline_s > 0:
            problem = f"deadline_s={self.deadline_s} must be > 0 or None"
        elif self.turn < 0:
            problem = f"turn={self.turn} must be >= 0"
        elif not (self.think_time_s >= 0 and math.isfinite(self.think_time_s)):
            problem = f"think_time_s={self.think_time_s} must be >= 0"
        elif not self.session and (self.turn or self.parents or self.think_time_s):
            problem = "turn, parents and think_time_s are for requests of a session"
        if problem:
            raise ValueError(f"trace request {self.request_id!r}: {problem}")


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in order of arrival. Two traces are the same if and only if their `hash` is.

    With `closed_loop_users`, arrivals are all 0 and that many users send the requests in order, each
    waiting `think_time_s` after an answer. `meta` says where the trace comes from; it is not hashed.
    """

    name: str
    seed: int
    requests: tuple[TraceRequest, ...]
    closed_loop_users: int | None = None
    think_time_s: float = 0.0
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.requests:
            raise ValueError(f"trace {self.name!r}: it has no requests")
        if len({request.request_id for request in self.requests}) < len(self.requests):
            raise ValueError(f"trace {self.name!r}: a request_id occurs twice")
        if any(a.arrival_s > b.arrival_s for a, b in zip(self.requests, self.requests[1:], strict=False)):
            raise ValueError(f"trace {self.name!r}: requests must be in order of arrival")
        if self.has_sessions:
            self._check_sessions()

    @cached_property
    def has_sessions(self) -> bool:
        """Whether any request is a turn of a conversation."""
        return any(request.session for request in self.requests)

    @cached_property
    def pauses(self) -> dict[str, float]:
        """By turn of a session: seconds from its answer to the turn that goes on from it, inf after the last. A turn
        that also waits for sub-agents may come later."""
        pauses = {request.request_id: math.inf for request in self.requests if request.session}
        turns = {request.request_id: request.turn for request in self.requests}
        for request in self.requests:
            if request.parents and turns[request.parents[0]] == request.turn - 1:
                pauses[request.parents[0]] = min(pauses[request.parents[0]], request.think_time_s)
        return pauses

    def _check_sessions(self) -> None:
        if self.closed_loop_users:
            raise ValueError(f"trace {self.name!r}: users of a closed loop cannot send sessions")
        sessions: dict[str, str] = {}
        for request in self.requests:
            for parent in request.parents:
                if sessions.get(parent) != request.session:
                    raise ValueError(
                        f"trace {self.name!r}: the parent {parent!r} of {request.request_id!r} must be an "
                        "earlier request of its session"
                    )
            sessions[request.request_id] = request.session

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all requests and how they are sent, in hex. Name, seed and meta do not count."""
        digest = hashlib.sha256(self._format.encode())
        digest.update(struct.pack("<qd", self.closed_loop_users or 0, self.think_time_s))
        for request in self.requests:
            names = json.dumps([request.request_id, request.kind]).encode()
            numbers = struct.pack(
                "<dqqqdqqq",
                request.arrival_s,
                request.output_tokens,
                request.max_tokens,
                request.priority,
                -1.0 if request.deadline_s is None else request.deadline_s,
                request.warmup,
                len(names),
                len(request.prompt_token_ids),
            )
            digest.update(numbers + names + request.prompt_token_ids.astype("<i4").tobytes())
            if self.has_sessions:
                turn = [request.session, request.turn, request.parents, request.think_time_s]
                digest.update(json.dumps(turn).encode())
        return digest.hexdigest()

    @cached_property
    def shape(self) -> str:
        """SHA-256 of when requests arrive and how long prompts and outputs are.

        A recorded workload replayed under two seeds has two hashes, since token ids are drawn, and one
        shape: it was observed once, and says no more about other workloads the second time.
        """
        digest = hashlib.sha256(struct.pack("<qd", self.closed_loop_users or 0, self.think_time_s))
        for request in self.requests:
            sizes = (len(request.prompt_token_ids), request.output_tokens)
            digest.update(struct.pack("<ddqq", request.arrival_s, request.think_time_s, *sizes))
        return digest.hexdigest()

    @property
    def _format(self) -> str:
        return SESSIONS_FORMAT if self.has_sessions else FORMAT

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a Parquet file, one row a request; replaces `path` only once all is written."""
        path = Path(path)
        schema = _SCHEMAS[self._format]
        columns = {name: [getattr(r, name) for r in self.requests] for name in schema.names}
        header = {
            "format": self._format,
            "name": self.name,
            "seed": self.seed,
            "hash": self.hash,
            "closed_loop_users": self.closed_loop_users,
            "think_time_s": self.think_time_s,
            "meta": self.meta,
        }
        table = pa.table(columns, schema=schema.with_metadata({_METADATA_KEY: json.dumps(header)}))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            pq.write_table(table, partial, compression="zstd")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trace:
        """Reads what `save` wrote. Raises ValueError if it is no trace or its content was changed."""
        try:
            table = pq.ParquetFile(path).read()
        except (pa.ArrowInvalid, IsADirectoryError) as error:
            raise ValueError(f"{path}: not a trace file ({error})") from error
        header = json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
        schema = _SCHEMAS.get(header.get("format"))
        if schema is None or table.schema.names != schema.names:
            raise ValueError(f"{path}: not a trace file of format {' or '.join(_SCHEMAS)}")
        prompts = table.column("prompt_token_ids").combine_chunks()
        tokens, offsets = prompts.values.to_numpy(), prompts.offsets.to_numpy()
        rest = table.drop_columns("prompt_token_ids").to_pylist()
        requests = tuple(
            TraceRequest(prompt_token_ids=tokens[begin:end], **row)
            for row, begin, end in zip(rest, offsets[:-1], offsets[1:], strict=True)
        )
        trace = cls(
            header["name"],
            header["seed"],
            requests,
            header["closed_loop_users"],
            header["think_time_s"],
            header["meta"],
        )
        if trace.hash != header["hash"]:
            raise ValueError(f"{path}: the requests do not match the trace's hash {header['hash']}")
        return trace
