"""What bidkv logs in vLLM's processes goes where vLLM's own lines go, at vLLM's level."""

from __future__ import annotations

import logging


def log_as_vllm() -> None:
    """vLLM configures its own logger and leaves all others at WARNING. Leaves alone what somebody else configured."""
    ours, vllm = logging.getLogger("bidkv"), logging.getLogger("vllm")
    ours.setLevel(min(ours.getEffectiveLevel(), vllm.getEffectiveLevel()))
    if not (ours.handlers or logging.getLogger().handlers):
        for handler in vllm.handlers:
            ours.addHandler(handler)
