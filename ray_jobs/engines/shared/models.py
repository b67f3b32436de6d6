"""Models by name: a folder or hub name as it is, or one made here from its shape alone."""

from __future__ import annotations

from pathlib import Path

from ray_jobs.engines.config import EngineConfig
from tracking.errors import require

TINY = "tiny-llama"
FROM_SHAPE = "from-shape"
SPARE = 6  # SGLang gives so many tokens of a model's context to no request


def model_folder(config: EngineConfig, folder: Path) -> str:
    """What to pass to the engine as its model.

    `tiny-llama` is written into `folder` first, with weights; of `from-shape` only the `config.json` of
    `engine.sim.model_shape` is, for engines that draw the weights themselves (`load_format=dummy`).
    Raises ValueError for `from-shape` without a shape.
    """
    if config.model == FROM_SHAPE:
        require(config.sim is not None, "engine.model", config.model, "used with engine.sim.model_shape")
        return str(config.sim.model_shape.write_config(folder / FROM_SHAPE, config.max_model_len + SPARE))
    if config.model != TINY:
        return config.model
    from ray_jobs.engines.shared.tiny_model import make_tiny_llama

    path = make_tiny_llama(
        folder / TINY,
        seed=config.seed,
        vocab_size=config.vocab_size,
        hidden=config.tiny.hidden_size,
        layers=config.tiny.layers,
        max_len=config.max_model_len + SPARE,
    )
    return str(path)
