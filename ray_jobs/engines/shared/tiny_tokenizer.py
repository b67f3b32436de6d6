"""A tokenizer for the tiny model: a text of N words that it knows is N tokens, and an id is a word."""

from __future__ import annotations

import json
from pathlib import Path

from ray_jobs.engines.shared.words import WORDS

TEMPLATE = "<s> {% for message in messages %}{{ message['content'] }}{% endfor %}"


def add_tokenizer(folder: str | Path, vocab_size: int = 2048) -> None:
    """Writes `tokenizer.json` and its configuration beside a model. Its chat template puts one token
    before a prompt, as real ones put several."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    known = ["<unk>", "<s>", "</s>", *WORDS]
    names = known + [f"w{i}" for i in range(len(known), vocab_size)]
    tokenizer = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    folder = Path(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": TEMPLATE,
        "add_bos_token": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
