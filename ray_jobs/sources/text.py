"""Prompts and outputs from text files: ShareGPT, CNN/DailyMail, LongBench."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ray_jobs.sources.base import FIRST_TOKEN, Draft, TokenPrompt, bad_record, source_file
from ray_jobs.workload_config import SourceConfig, require

Encode = Callable[[str], np.ndarray]
"""Token ids (int32) of a text."""

_PIECES = re.compile(r"\w{1,6}|[^\w\s]")


def text_drafts(config: SourceConfig, kind: str, vocab_size: int) -> list[Draft]:
    """Every usable record of the file. A record without a prompt or an answer is left out."""
    encode = make_encoder(config.tokenizer, vocab_size)
    drafts = []
    for number, record in enumerate(read_records(config.path), start=1):
        try:
            pair = READERS[config.kind](record)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise bad_record(
                config.path, number, f"no {config.kind} record: {type(error).__name__} {error}"
            ) from error
        prompt, answer = (encode(text) for text in pair)
        if len(prompt) and len(answer):
            drafts.append(Draft(kind, TokenPrompt(prompt), len(answer)))
    require(
        bool(drafts),
        "workload.source.path",
        config.path,
        f"a {config.kind} file with at least one usable record",
    )
    return drafts


def sharegpt_pair(record: dict[str, Any]) -> tuple[str, str]:
    """The first human turn and the answer to it; empty if the conversation begins otherwise."""
    turns = record["conversations"]
    if len(turns) < 2 or (turns[0]["from"], turns[1]["from"]) != ("human", "gpt"):
        return "", ""
    return turns[0]["value"], turns[1]["value"]


def cnn_dm_pair(record: dict[str, Any]) -> tuple[str, str]:
    return f"Sum up this article in a few sentences.\n\n{record['article']}\n\nSummary:", record["highlights"]


def longbench_pair(record: dict[str, Any]) -> tuple[str, str]:
    answers = record["answers"]
    return f"{record['context']}\n\n{record['input']}\n\nAnswer:", answers[0] if answers else ""


READERS: dict[str, Callable[[dict[str, Any]], tuple[str, str]]] = {
    "sharegpt": sharegpt_pair,
    "cnn_dm": cnn_dm_pair,
    "longbench": longbench_pair,
}


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
