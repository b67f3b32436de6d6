"""Where the requests of a workload come from: `sources/<kind>.py` is a source and needs naming nowhere else.

Such a file defines `drafts(config, seed, vocab_size)`: the requests of a `WorkloadConfig` before any is
picked, scaled or cut, as a list of `Draft`. It may say
- `HAS_TIMES = True`: its drafts have `recorded_s`, so they can be replayed;
- `HAS_FILE = False`: it reads no `workload.source.path`;
- `HAS_TEXT = True`: it has texts, for which there may be a tokenizer;
- `OF_THE_FILE = True`: its drafts depend on `config.name`, `config.source` and `vocab_size` alone, so one sweep
  reads them once;
- `facts(config)`: what a trace of its file is told of it, as a mapping.

A source that hands out a whole trace defines `trace(config, vocab_size, max_model_len)` instead, and one of
conversations `sessions(config, seed, vocab_size)`: an iterator over sessions, each a list of `TurnDraft`, of which
`workload.sessions.count` are taken.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from tracking.errors import require_one_of


def source_kinds() -> list[str]:
    """The sources there are: the modules of this folder; what they share is in the folder `shared`."""
    return sorted(module.name for module in iter_modules(__path__) if not module.ispkg)


def find_source(kind: str) -> ModuleType:
    """The module of a source; ValueError if there is none of this kind."""
    require_one_of("workload.source.kind", kind, source_kinds())
    return import_module(f"{__name__}.{kind}")


def has_times(kind: str) -> bool:
    """Whether the source records when its requests arrived."""
    return getattr(find_source(kind), "HAS_TIMES", False)


def has_file(kind: str) -> bool:
    """Whether the source reads `workload.source.path`."""
    return getattr(find_source(kind), "HAS_FILE", True)


def has_text(kind: str) -> bool:
    """Whether the source has texts, so that a tokenizer counts."""
    return getattr(find_source(kind), "HAS_TEXT", False)


def of_the_file(kind: str) -> bool:
    """Whether the source's requests are those of its file, whatever the seed."""
    return getattr(find_source(kind), "OF_THE_FILE", False)


def has_sessions(kind: str) -> bool:
    """Whether the source hands out conversations."""
    return hasattr(find_source(kind), "sessions")
