"""Which beginnings of SGLang's requests are the same. SGLang finds that in its tree and keeps no hashes of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from bidkv.adapters.sglang.prefixes import TOKEN

LEAST = 16  # tokens: with pages of one token there would be a hash of each


def hash_block_size(page_size: int) -> int:
    """Tokens that get one hash: a page, or as many pages as have `LEAST` tokens."""
    return page_size * -(-LEAST // page_size)


def block_contents(req: Any, size: int) -> Iterator[bytes]:
    """A hash of each full block of a request and all before it, prompt and output so far; of another adapter or namespace
    another one. Worked out when it is gone through, whatever has become of the request by then."""
    namespace = (req.extra_key, getattr(req, "cache_salt", None), req.lora_id)
    return _hashes(repr(namespace).encode(), req.origin_input_ids, req.output_ids, len(req.output_ids), size)


def _hashes(
    namespace: bytes, prompt: Sequence[int], output: Sequence[int], answered: int, size: int
) -> Iterator[bytes]:
    tokens = np.asarray(prompt, TOKEN).tobytes() + np.asarray(output[:answered], TOKEN).tobytes()
    state, width = blake2b(namespace, digest_size=16), size * TOKEN.itemsize
    for end in range(width, len(tokens) + 1, width):
        state.update(tokens[end - width : end])
        yield state.copy().digest()
