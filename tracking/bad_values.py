"""OmegaConf's errors about a value, in words: the key, the value, and what may stand there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

EXPECTED = (
    (r"could not be converted to Integer", "a whole number"),
    (r"could not be converted to Float", "a number"),
    (r"is not a valid bool", "true or false"),
    (r"is not a ListConfig", "a list, such as [A,B]"),
    (r"Cannot assign \w+ to Dict|is not a (?:DictConfig|mapping)|Cannot assign .* to (?:Optional\[)?Dict", "a mapping, such as {KEY: VALUE}"),
    (r"is not a subclass of|Invalid type assigned", "keys of its own, or a name after GROUP="),
    (r"field '.*' is not Optional|is not Optional", "given: null is no value here"),
)  # fmt: skip
NO_LOAD = re.compile(r"Interpolation key 'loads\.(.+?)' not found")
OVERRIDE = re.compile(r"Error merging override (\S+?)=(.*)", re.DOTALL)


def about_value(error: BaseException) -> str | None:
    """In a line, with the cure; None for an error about anything else."""
    override = None
    cause: BaseException | None = error
    while cause is not None:
        override = override or OVERRIDE.search(str(cause))
        if isinstance(cause, MissingMandatoryValue):
            return f"{cause.full_key}: must be given, as {cause.full_key}=…; --help has examples"
        if found := NO_LOAD.search(str(cause)):
            return (
                f"workload.load={found[1]}: must be one of workload.loads (a share of the capacity, such as 95%, is for requests "
                "that are not turns of sessions: workload.rate says how many sessions a second begin)"
            )
        if isinstance(cause, OmegaConfBaseException):
            key = cause.full_key or (override[1].lstrip("+") if override else None)
            if key and "does not support deletion" in str(cause):
                return f"~{key}: cannot be taken out; {key}=null asks for nothing where that is possible"
            for pattern, expected in EXPECTED:
                if key and re.search(pattern, str(cause)):
                    value = f"={override[2].strip()}" if override else ""
                    return f"{key}{value}: must be {expected}"
        cause = cause.__cause__
    return None


def about_null(error: AssertionError, words: Sequence[str]) -> str | None:
    """In a line: a key that was typed of a part that is null here, which OmegaConf only asserts; None for other assertions."""
    if "Unexpected type for root: NoneType" not in str(error):
        return None
    typed = [word for word in words if word.lstrip("+").startswith("engine.sim.")]
    if not typed:
        return None
    if typed[0].lstrip("+").startswith("engine.sim.scheduling."):
        return f"{typed[0]}: engine.sim.scheduling is null here; engine=vllm_sim has it"
    return f"{typed[0]}: this engine is not simulated; engine=vllm_sim has engine.sim, and engine=vllm_shape its model"
