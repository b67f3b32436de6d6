"""Prompts and outputs from files of text, whatever form their records have."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import FIRST_TOKEN, Draft, TokenPrompt, bad_record, source_file
from tracking.errors import require

Encode = Callable[[str], np.ndarray]
"""Token ids (int32) of a text."""

Pair = Callable[[dict[str, Any]], tuple[str, str]]
"""Prompt and answer of a record."""

_PIECES = re.compile(r"\w{1,6}|[^\w\s]")


def text_drafts(config: WorkloadConfig, vocab_size: int, pair_of: Pair) -> list[Draft]:
    """Every usable record of the file. A record without a prompt or an answer is left out."""
    source = config.source
    encode = make_encoder(source.tokenizer, vocab_size)
    found = []
    for number, record in enumerate(read_records(source.path), start=1):
        try:
            pair = pair_of(record)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise bad_record(
                source.path, number, f"no {source.kind} record: {type(error).__name__} {error}"
            ) from error
        prompt, answer = (encode(text) for text in pair)
        if len(prompt) and len(answer):
            found.append(Draft(config.name, TokenPrompt(prompt), len(answer)))
    require(
        bool(found),
        "workload.source.path",
        source.path,
        f"a {source.kind} file with at least one usable record",
    )
    return found


def read_records(path: str) -> Iterator[Any]:
    """The records of a JSON file that holds one list, or of a JSON Lines file."""
    text = source_file(path).read_text(encoding="utf-8")
    try:
        if text.lstrip().startswith("["):
            yield from json.loads(text)
        else:
            yield from (json.loads(line) for line in text.split("\n") if line.strip())
    except json.JSONDecodeError as error:
        raise ValueError(f"workload.source.path={path!r}: must be JSON or JSON Lines: {error}") from error


def make_encoder(tokenizer: str | None, vocab_size: int) -> Encode:
    """Encodes with a tokenizer file, or estimates without one.

    The estimate cuts words into pieces of at most six characters and counts punctuation marks; about
    1.3 tokens a word of English, as common tokenizers. A piece's hash is its token id, so that equal
    text becomes equal tokens.
    """
    if tokenizer is None:
        return _estimator(vocab_size)
    from tokenizers import Tokenizer

    file = Path(tokenizer).expanduser()
    file = file / "tokenizer.json" if file.is_dir() else file
    require(file.is_file(), "workload.source.tokenizer", tokenizer, "a tokenizer.json or the folder of one")
    loaded = Tokenizer.from_file(str(file))
    require(
        loaded.get_vocab_size() <= vocab_size, "workload.source.tokenizer", tokenizer,
        f"of at most engine.vocab_size={vocab_size} tokens, it has {loaded.get_vocab_size()}",
    )  # fmt: skip
    return lambda text: np.array(loaded.encode(text).ids, dtype=np.int32)


def _estimator(vocab_size: int) -> Encode:
    @lru_cache(maxsize=1 << 18)
    def token(piece: str) -> int:
        digest = hashlib.blake2b(piece.encode(), digest_size=8).digest()
        return FIRST_TOKEN + int.from_bytes(digest, "little") % (vocab_size - FIRST_TOKEN)

    return lambda text: np.array([token(piece) for piece in _PIECES.findall(text)], dtype=np.int32)
