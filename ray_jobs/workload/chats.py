"""The chats of a recording: which requests of a trace are turns of one, and which answers they wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import Draft


def chat_fields(
    workload: WorkloadConfig, drafts: Sequence[Draft], ids: Sequence[str]
) -> list[dict[str, Any]]:
    """Fields of each draft's TraceRequest, whose id is that of `ids`: session, turn, and whose answer it waits for.

    None where arrivals are not the recording's: a turn could then come before the one that it goes on from.
    A turn whose chat began before the trace waits for nothing.
    """
    if workload.arrivals.kind != "replay":
        return [{} for _ in drafts]
    sent: dict[int, str] = {}
    fields: list[dict[str, Any]] = []
    for draft, request_id in zip(drafts, ids, strict=True):
        chat = draft.chat
        if chat is None:
            fields.append({})
            continue
        parents = (sent[chat.after],) if chat.after in sent else ()
        sent[chat.own] = request_id
        fields.append(
            {"session": f"{workload.name}-{chat.session:05d}", "turn": chat.turn, "parents": parents}
        )
    return fields
