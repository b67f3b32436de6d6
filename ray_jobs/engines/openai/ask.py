"""What a server says of itself before anything is planned, and what it lacks, in one line each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import requests

from ray_jobs.engines.config import PASS_ENV, EngineConfig
from ray_jobs.engines.openai.counters import CACHE_INFO, Counters, read_counters
from ray_jobs.engines.shared.words import as_text
from tracking.errors import require, require_one_of

ANSWER_TIMEOUT_S = 20.0
AUTO = "auto"
ROUTES = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


def asked(engine: EngineConfig) -> EngineConfig:
    """`engine` with the model, context and facts of the server at its `url`, after one token was asked for.

    Raises ValueError, in one line, if nobody answers there, if it is no such server, serves another model, or
    refuses a prompt.
    """
    card = _served(engine)
    length = card.get("max_model_len")
    require(
        isinstance(length, int), "engine.url", engine.url,
        f"a server that says how long a context {card['id']} has; its /v1/models does not",
    )  # fmt: skip
    known = replace(engine, model=card["id"], max_model_len=length)
    _try_one_token(known)
    return replace(known, server=_facts(engine))


def scrape(engine: EngineConfig) -> Counters | None:
    """The server's `/metrics`; None where it has none."""
    answer = _get(engine, "/metrics")
    if answer is None or answer.status_code != 200:
        return None
    try:
        return read_counters(answer.text)
    except ValueError:  # some other page
        return None


def headers(engine: EngineConfig) -> dict[str, str]:
    """With the API key that is in the variable of `engine.pass_env`, if there is one."""
    name = next(iter(engine.pass_env), None)
    return {"Authorization": f"Bearer {os.environ[name]}"} if name and name in os.environ else {}


def body(engine: EngineConfig, token_ids: list[int], tokens: int) -> dict[str, Any]:
    """A request for exactly so many tokens, without the keys of a stream."""
    if engine.api == "chat":
        prompt = {"messages": [{"role": "user", "content": as_text(token_ids)}]}
    else:
        prompt = {"prompt": token_ids}
    limit = {"max_tokens": tokens, "ignore_eos": True, "temperature": 0.0}
    return {"model": engine.model, **prompt, **limit}


def refusal(text: str) -> str:
    """A server's own words of why not, in one line."""
    try:
        values = requests.models.complexjson.loads(text)
        found = values.get("error", values) if isinstance(values, dict) else values
        text = found.get("message", text) if isinstance(found, dict) else str(found)
    except ValueError:  # it is no JSON: the words as they are
        text = str(text)
    return " ".join(text.split())[:300]


def _served(engine: EngineConfig) -> Mapping[str, Any]:
    """The card of the model, of `/v1/models`."""
    answer = _get(engine, "/v1/models", must=True)
    if answer.status_code in (401, 403):
        require(
            False, "engine.pass_env", engine.pass_env,
            f"[NAME] of a variable that is set to its API key: the server at {engine.url} answers {answer.status_code}",
        )  # fmt: skip
    cards = _cards(answer)
    require(
        bool(cards), "engine.url", engine.url,
        f"the address of an OpenAI server: {engine.url}/v1/models answers HTTP {answer.status_code} and no models",
    )  # fmt: skip
    by_name = {card["id"]: card for card in cards}
    if engine.model == AUTO:
        require(
            len(by_name) == 1,
            "engine.model",
            engine.model,
            "one of those it serves: " + ", ".join(by_name),
        )
        return cards[0]
    require_one_of("engine.model", engine.model, by_name)
    return by_name[engine.model]


def _cards(answer: requests.Response) -> list[Mapping[str, Any]]:
    try:
        found = answer.json()["data"]
        return [card for card in found if isinstance(card["id"], str)]
    except (ValueError, KeyError, TypeError):
        return []


def _try_one_token(engine: EngineConfig) -> None:
    """Before a sweep of hours finds it out: whether it takes such prompts, and counts as we do."""
    route, last = ROUTES[engine.api], engine.vocab_size - 1
    prompt = [last] * 4
    try:
        answer = requests.post(
            engine.url.rstrip("/") + route, json=body(engine, prompt, 1), headers=headers(engine), timeout=ANSWER_TIMEOUT_S * 3
        )  # fmt: skip
    except requests.RequestException as error:
        raise ValueError(f"engine.url={engine.url!r}: {route} did not answer: {_why(error)}") from None
    if answer.status_code in (404, 405):
        require_one_of("engine.api", engine.api, [api for api in ROUTES if api != engine.api])
    words = refusal(answer.text)
    if "vocab" in words.lower():
        require(
            False, "engine.vocab_size", engine.vocab_size, f"at most the model's: the server says {words!r}"
        )
    require(
        answer.status_code == 200, "engine.api", engine.api, f"a route that works: {route} says {words!r}"
    )
    usage = answer.json().get("usage") or {}
    require(
        usage.get("completion_tokens") == 1, "engine.url", engine.url,
        f"a server that counts tokens: of one token it says {usage!r}",
    )  # fmt: skip
    require(
        engine.api == "chat" or usage.get("prompt_tokens") == len(prompt), "engine.url", engine.url,
        f"a server that takes token ids as they are: of {len(prompt)} it counts {usage.get('prompt_tokens')}",
    )  # fmt: skip


def _facts(engine: EngineConfig) -> dict[str, str]:
    """What tells one server from another: `engine`, `version`, and of its memory what `/metrics` says."""
    facts = {"engine": "unknown", "version": "unknown"}
    for name, route in (("vllm", "/version"), ("sglang", "/server_info")):
        answer = _get(engine, route)
        if answer is not None and answer.status_code == 200:
            try:
                facts = {"engine": name, "version": str(answer.json()["version"])}
            except (ValueError, KeyError, TypeError):
                continue
            if name == "sglang":
                return facts | _sglang_memory(answer.json())
            break
    counters = scrape(engine)
    cache = counters.infos.get(CACHE_INFO, {}) if counters else {}
    names = {
        "num_blocks": "num_gpu_blocks",
        "block_size": "block_size",
        "prefix_caching": "enable_prefix_caching",
    }
    return facts | {ours: cache[theirs] for ours, theirs in names.items() if theirs in cache}


def _sglang_memory(info: Mapping[str, Any]) -> dict[str, str]:
    tokens, page = info.get("max_total_num_tokens"), info.get("page_size")
    return {"num_blocks": str(tokens // page), "block_size": str(page)} if tokens and page else {}


def _get(engine: EngineConfig, route: str, must: bool = False) -> requests.Response | None:
    """None if nobody answers; with `must` that raises ValueError."""
    try:
        return requests.get(engine.url.rstrip("/") + route, headers=headers(engine), timeout=ANSWER_TIMEOUT_S)
    except requests.RequestException as error:
        if must:
            cure = f"is the server up? {PASS_ENV.format('NAME')} gives it an API key"
            raise ValueError(
                f"engine.url={engine.url!r}: no server answers there ({_why(error)}): {cure}"
            ) from None
        return None


def _why(error: Exception) -> str:
    """Its last cause: requests and urllib3 wrap it several times."""
    reason = getattr(error.args[0] if error.args else None, "reason", None) or error
    return str(reason).rpartition(": ")[2].strip("'()") or type(error).__name__
