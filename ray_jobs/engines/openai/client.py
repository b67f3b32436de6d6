"""Streams answers from an OpenAI-like server, counted in tokens as the server counts them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

import aiohttp

from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.openai.ask import ROUTES, body, headers, refusal

STREAM = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
LINE_BYTES = 2**20


class Client:
    """One for all requests of an engine; `open` inside the loop that uses it.

    `prompt_tokens` are the server's counts of the prompts it was sent, by request id.
    """

    def __init__(self, engine: EngineConfig):
        self._engine = engine
        self._url = engine.url.rstrip("/") + ROUTES[engine.api]
        self.prompt_tokens: dict[str, int] = {}

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # as many connections as requests are under way
            timeout=aiohttp.ClientTimeout(total=None),  # deadlines are the load's
            headers=headers(self._engine),
            read_bufsize=LINE_BYTES,
        )

    async def close(self) -> None:
        await self._session.close()

    async def stream(
        self, request_id: str, token_ids: list[int], tokens: int
    ) -> AsyncIterator[Sequence[int]]:
        """For each chunk the places of its tokens in the answer; which tokens they are nobody asks.

        Closing it closes the connection, on which the server aborts. Raises RuntimeError with the server's own
        words if it refuses, if it counts a prompt of token ids otherwise than we do, and if it does not count.
        """
        seen = None
        async with self._session.post(
            self._url, json=body(self._engine, token_ids, tokens) | STREAM, headers={"X-Request-Id": request_id}
        ) as response:  # fmt: skip
            if response.status != 200:
                raise RuntimeError(f"HTTP {response.status}: {refusal(await response.text())}")
            async for line in response.content:
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    break
                counts = counts_in(data)
                if counts is None:
                    continue
                prompt, answer = counts
                if seen is None:
                    seen = 0
                    self._check_prompt(request_id, len(token_ids), prompt)
                if answer > seen:
                    yield range(seen, answer)
                    seen = answer
        if seen is None:
            raise RuntimeError(
                "the server's stream counts no tokens, though asked to (stream_options.include_usage)"
            )

    def _check_prompt(self, request_id: str, sent: int, counted: int) -> None:
        self.prompt_tokens[request_id] = counted
        if self._engine.api == "completions" and counted != sent:
            raise RuntimeError(f"the server counts {counted} prompt tokens of {sent} that were sent")


def counts_in(data: bytes) -> tuple[int, int] | None:
    """Tokens of the prompt and of the answer so far, by a chunk of a stream; None if it does not say.

    Raises RuntimeError with the server's words if it is an error, and if it is no chunk.
    """
    try:
        chunk = json.loads(data)
        if "error" in chunk:
            raise RuntimeError(refusal(data.decode()))
        usage = chunk.get("usage")
        return (int(usage["prompt_tokens"]), int(usage["completion_tokens"])) if usage else None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RuntimeError(f"the server's stream has what is no chunk of an answer: {data[:80]!r}") from None
