"""Which rules of retention SGLang's radix tree has, too, and whether it was started with the one that a strategy wants.

The tree gives up nodes by its own rule, which it has from its start: nothing of it is replaced. It goes by the hits of each
node where bidkv's rules go by the turns of a conversation.
"""

from __future__ import annotations

import json
from typing import Any

from bidkv.errors import BidValidationError
from bidkv.retention.base import Retention

POLICY, CONFIG = "radix_eviction_policy", "radix_eviction_policy_config"
COUNTERPARTS: dict[str, dict[str, str]] = {
    "lru": {},
    "lfu": {},
    "slru": {"protected": "protected_threshold"},
    "tlru": {"threshold": "threshold", "next_prompt": "next_prompt_estimate"},
}
"""By its name, which is SGLang's as well, a rule's parameters and what SGLang calls them."""


def server_arguments(retention: Retention) -> dict[str, Any]:
    """What SGLang is started with for the rule; nothing for the engine's own.

    Raises `BidValidationError` on a rule that it does not have.
    """
    if retention.stock:
        return {}
    names = COUNTERPARTS.get(retention.name)
    if names is None:
        raise BidValidationError(
            f"retention {retention.name!r} has no counterpart in SGLang's radix tree; choose one of {', '.join(COUNTERPARTS)}"
        )
    config = {theirs: getattr(retention, ours) for ours, theirs in names.items()}
    return {POLICY: retention.name} | ({CONFIG: config} if config else {})


def as_flags(arguments: dict[str, Any]) -> list[str]:
    """The same on SGLang's command line."""
    words = []
    for key, value in arguments.items():
        words += [f"--{key.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value)]
    return words


def check_followed(started: Any, retention: Retention) -> None:
    """Raises `BidValidationError`, in one line, on a rule that an engine with these `ServerArgs` does not follow."""
    wanted = server_arguments(retention)
    if not wanted:
        return
    if started.disable_radix_cache:
        raise BidValidationError(
            f"retention {retention.name!r} has no effect: nothing is kept with --disable-radix-cache; leave that out"
        )
    own = {POLICY: getattr(started, POLICY, None), CONFIG: getattr(started, CONFIG, None)}
    if any(own[key] != value for key, value in wanted.items()):
        flags = " ".join(
            word if word.startswith("--") or word.isalnum() else f"'{word}'" for word in as_flags(wanted)
        )
        raise BidValidationError(
            f"retention {retention.name!r} has no effect on this engine, whose radix tree has another rule from its start; "
            f"start it with {flags}, or choose 'lru'"
        )
