"""Models by name: a folder or hub name as it is, or one made here from its shape alone."""

from __future__ import annotations

from pathlib import Path

from ray_jobs.config import EngineConfig

TINY = "tiny-llama"


def model_folder(config: EngineConfig, folder: Path) -> str:
    """What to pass to the engine as its model. `tiny-llama` is written into `folder` first."""
    if config.model != TINY:
        return config.model
    from ray_jobs.tiny_model import make_tiny_llama

    path = make_tiny_llama(
        folder / TINY,
        seed=config.seed,
        vocab_size=config.vocab_size,
        hidden=config.tiny.hidden_size,
        layers=config.tiny.layers,
        max_len=config.max_model_len,
    )
    return str(path)
