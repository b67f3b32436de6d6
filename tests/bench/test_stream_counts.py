"""What a chunk of a server's stream counts, and what is none."""

from __future__ import annotations

import pytest

from ray_jobs.engines.openai.client import counts_in


def test_a_chunk_says_how_many_tokens_there_are() -> None:
    assert counts_in(b'{"usage": {"prompt_tokens": 5, "completion_tokens": 2}}') == (5, 2)
    assert counts_in(b'{"choices": []}') is None and counts_in(b'{"usage": null}') is None


@pytest.mark.parametrize(
    "data",
    [b"{half", b"5", b"null", b'"usage"', b'{"usage": 5}', b'{"usage": {"prompt_tokens": 5}}', b"\xff",
     b'{"usage": {"prompt_tokens": 5, "completion_tokens": null}}'],
)  # fmt: skip
def test_what_is_no_chunk_is_one_line(data: bytes) -> None:
    with pytest.raises(RuntimeError, match="no chunk of an answer"):
        counts_in(data)


def test_an_error_has_the_servers_words() -> None:
    with pytest.raises(RuntimeError, match="^out of memory$"):
        counts_in(b'{"error": {"message": "out of memory"}}')
