"""What bidkv logs in vLLM's processes goes where vLLM's own lines go, at vLLM's level."""

from __future__ import annotations

import logging


def log_as_vllm() -> None:
    """vLLM configures its own logger and leaves all others at WARNING. Does nothing where bidkv's has a handler."""
    ours, vllm = logging.getLogger("bidkv"), logging.getLogger("vllm")
    if ours.handlers or not vllm.handlers:
        return
    ours.setLevel(vllm.getEffectiveLevel())
    ours.propagate = False
    for handler in vllm.handlers:
        ours.addHandler(handler)
