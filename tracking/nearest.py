"""What somebody who mistyped a key, a name or a flag probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, InterpolationResolutionError

from tracking.errors import nearest, require_one_of

LEAST_ALIKE = 4  # letters of a name for which one anywhere is looked for: shorter ones are like many
SEVERAL = re.compile(r"Ambiguous value for argument '(.+?)'\s+1\.", re.DOTALL)
NOT_IN_DEFAULTS = re.compile(
    r"Could not override '([^']+)'\.\s+(?:No match in the defaults list|Did you mean to override)"
    r"|config group '([^']+)' does not exist"
)


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """ ", did you mean …?", or which names there are where none is alike; `before` is where they hang."""
    names = [str(each) for each in known]
    near, path = nearest(name, names), f"{before}." if before else ""
    return f", did you mean {path}{near}?" if near else f"; there are {', '.join(names)}" if names else ""


def plain(error: BaseException, conf: Path, words: Sequence[str] = ()) -> str | None:
    """Hydra's error about a key or an option that is not there, in words with the cure; None for any other. `words` are
    what was typed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigAttributeError | ConfigKeyError) and isinstance(
            cause.parent_node, DictConfig
        ):
            return f"{cause.full_key}: there is no such key; {_nearest_key(cause, conf, words)}"
        if isinstance(cause, MissingConfigException) and cause.missing_cfg_file and cause.options:
            group, _, name = str(cause.missing_cfg_file).rpartition("/")
            near = nearest(name, cause.options)
            meant = f"; did you mean {group}={near}?" if near else ""
            return f"could not find {group}/{name}; there are {', '.join(cause.options)}{meant}"
        if isinstance(cause, InterpolationResolutionError):
            own = _resolvers_own(cause)
            if own:
                return own
        several = SEVERAL.search(str(cause))
        if several:
            return f"{several[1]}: must be one value: only bidkv-bench sweeps; a list is [A,B]"
        match = NOT_IN_DEFAULTS.search(str(cause))
        if match:
            group = match[1] or match[2]
            chosen = _experiments_own(group, words)
            return f"{chosen or f'{group}: there is nothing to choose'}; {_place_of(group, conf)}"
        cause = cause.__cause__
    return None


def _experiments_own(group: str, words: Sequence[str]) -> str | None:
    """Where an experiment has chosen from a group that what was typed leaves no room for."""
    if any(word.lstrip("+~").startswith(group) for word in words):
        return None
    experiment = next((word for word in words if word.startswith("experiment=")), None)
    others = [word for word in words if re.match(r"\+?(engine|workload)=", word)]
    if experiment is None or not others:
        return None
    return f"{' '.join(others)}: {experiment} chooses {group}, which that does not have; experiment=null leaves it out"


def _resolvers_own(error: BaseException) -> str | None:
    """What a resolver of this project raised, of which OmegaConf makes an error of its own."""
    found: BaseException | None = error
    while found is not None:
        if type(found) is ValueError:
            return str(found)
        found = found.__cause__ or found.__context__
    return None


def _nearest_key(error: ConfigAttributeError | ConfigKeyError, conf: Path, words: Sequence[str] = ()) -> str:
    """A key of the same name elsewhere, else the nearest beside it, else the nearest below what it hangs on; where that
    is deep, and nothing is alike, what there is beside it."""
    name, before = str(error.key), error.full_key.rpartition(".")[0]
    typed = next((word.partition("=")[0] for word in words if word.lstrip("+").startswith(f"{name}.")), None)
    if typed and not before:
        name = typed.rpartition(".")[2]  # engine.max_model_len, where there is no engine
    everywhere = [path for path in paths(error.parent_node._get_root()) if not path.startswith("hydra")]
    siblings = [str(key) for key in error.parent_node]
    elsewhere = [path for path in everywhere if path.rpartition(".")[2] == name]
    if elsewhere and not before.endswith("]"):  # a list's entries have names of their own
        return f"did you mean {min(elsewhere, key=len)}?"
    beside = nearest(name, siblings)
    if beside:
        return f"did you mean {before + '.' if before else ''}{beside}?"
    group = nearest(name, engine_groups(conf)) if not before and len(name) >= LEAST_ALIKE else None
    if group:
        return _place_of(group, conf)
    below = [path for path in everywhere if not before or path.startswith(f"{before}.")]
    last = {path.rpartition(".")[2]: path for path in below}
    near = nearest(name, last) if "." not in before and len(name) >= LEAST_ALIKE else None
    if near:
        return f"did you mean {last[near]}?"
    return _beside(before, siblings) if before else "--cfg job shows all keys"


def _beside(before: str, names: Sequence[str]) -> str:
    return (
        f"there are {', '.join(f'{before}.{name}' for name in names)}"
        if names
        else f"{before} has no keys here"
    )


def paths(node: Any, before: str = "") -> Iterator[str]:
    """Every key below a configuration node, those of mappings and their own."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    for key in node:
        path = f"{before}{key}"
        yield path
        if not OmegaConf.is_missing(node, key):
            yield from paths(node._get_node(key), f"{path}.")


def _place_of(group: str, conf: Path) -> str:
    """Where a group that hangs below another key goes, and which engines have it."""
    name = group.partition("@")[0]
    nested = engine_groups(conf)
    name = nearest(name, nested) or name
    place, engines = nested.get(name, (None, []))
    if place is None:
        groups = sorted(path.name for path in conf.iterdir() if path.is_dir())
        near = nearest(name, groups)
        return f"did you mean {near}?" if near and near != name else f"the groups are {', '.join(groups)}"
    return f"write {name}@{place}=… with an engine that has it: {', '.join(f'engine={e}' for e in engines)}"


def engine_groups(conf: Path) -> dict[str, tuple[str, list[str]]]:
    """Groups that `conf/engine/*.yaml` bring along, as hardware: where each hangs, and the engines that have it."""
    found: dict[str, tuple[str, list[str]]] = {}
    for path in sorted((conf / "engine").glob("*.yaml")):
        for name, place in re.findall(r"^\s*- /(\w+)@([\w.]+):", path.read_text(), re.MULTILINE):
            found.setdefault(name, (f"engine.{place}", []))[1].append(path.stem)
    return found


def refuse_words(words: Sequence[str], conf: Path) -> None:
    """Raises ValueError for words of a command line that Hydra could not read, or would fail on without a word."""
    flags = get_args_parser()._option_string_actions
    wanted = None  # the last flag, if its value comes next
    for word in words:
        name = word.partition("=")[0]
        if wanted is not None:
            _refuse_choice(wanted, word)
            wanted = None
        elif word.startswith("-"):
            known = (
                any(flag.startswith(name) for flag in flags) if name.startswith("--") else word[:2] in flags
            )
            if not known:
                raise ValueError(f"{word}: there is no such flag; keys have no dashes: {word.lstrip('-')}")
            action = flags.get(name)
            if "=" in word and action is not None:
                _refuse_choice(action, word.partition("=")[2])
            takes = "=" not in word and action is not None and action.nargs not in (0, "?")
            wanted = action if takes else None
        elif "=" not in word and not word.startswith("~"):
            raise ValueError(f"{word}: must be KEY=VALUE{_as_option(word, conf)}")
        else:
            _refuse_unreadable(word)
            _refuse_a_group_as_key(name, word.partition("=")[2], conf)
    if wanted is not None:
        raise ValueError(f"{words[-1]}: needs a value after it, such as --cfg job")


def _refuse_choice(action: Any, value: str) -> None:
    """A value of a flag that takes one of a few."""
    if action.choices:
        require_one_of(action.option_strings[0], value, action.choices)


def _refuse_unreadable(word: str) -> None:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException as error:
        if "evaluating" in str(error):
            raise  # a function of Hydra's, about which it says all
        key = word.partition("=")[0]
        raise ValueError(
            f"{word}: cannot be read as KEY=VALUE; several values are A,B, a list is [A,B], and what has other signs "
            f"stands in quotes: \"{key}='…'\""
        ) from None


def _as_option(word: str, conf: Path) -> str:
    """The groups that have an option of this name."""
    found = [f"{path.parent.name}={word}" for path in sorted(conf.glob(f"*/{word}.yaml"))]
    return f", such as {' or '.join(found)}" if found else ""


def _refuse_a_group_as_key(key: str, value: str, conf: Path) -> None:
    before, _, name = key.rpartition(".")
    if value.startswith("[") and (conf / key.partition("@")[0]).is_dir():
        raise ValueError(
            f"{key}={value}: must be one file of conf/{key.partition('@')[0]}; A,B without brackets sweeps"
        )
    place, _ = engine_groups(conf).get(name, ("", []))
    if key == place and value and value[0] not in "{$" and value != "null":
        there = sorted(path.stem for path in (conf / name).glob("*.yaml"))
        near = value if value in there else nearest(value, there)
        raise ValueError(f"{key}={value}: must be {name}@{key}={near or 'NAME'}, of {', '.join(there)}")
    if before and "@" not in key and (conf / name / f"{value}.yaml").is_file():
        raise ValueError(f"{key}={value}: must be {name}@{key}={value}, since it is a file of conf/{name}")
