"""Prompts as text, for routes that take no token ids."""

from __future__ import annotations

from collections.abc import Sequence

# Words that are one token, with the space before them, in the vocabularies of Llama, Qwen, GPT and Gemma.
WORDS = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name president team minute idea body information "
    "back parent face others level office door health person art war history party result change morning reason "
    "research girl guy moment air teacher force education foot boy age policy music market sense nation plan college "
    "interest death experience effect use class control field development role effort rate heart drug show leader "
    "light voice wife police mind price report decision son view relationship town road arm difference value building "
    "action season society tax director position player record paper space ground form event official matter center "
    "couple site project activity star table need court oil situation cost industry figure street image phone data "
    "picture practice piece land product doctor wall patient worker news test movie north love step baby computer type "
    "attention film tree source hair window culture chance brother energy period course summer plant opportunity term"
).split()


def as_text(token_ids: Sequence[int]) -> str:
    """A word for each id, so that prompts that begin alike still do. How many tokens it is the server says."""
    return " ".join(WORDS[token % len(WORDS)] for token in token_ids)
