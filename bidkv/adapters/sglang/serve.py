"""SGLang's server with a strategy: `BIDKV_STRATEGY=bidkv_radix python -m bidkv.adapters.sglang.serve ...`.

`--bidkv-client-facts` is read here (see docs/server.md); every other flag goes to `python -m sglang.launch_server`.
A strategy with a rule of retention that SGLang has, too, starts SGLang with it (`--radix-eviction-policy`).
Exit code 2 on a strategy that does not exist or whose retention SGLang does not have, and on a control file that would
be refused.
"""

from __future__ import annotations

import os
import runpy
import sys

from bidkv.adapters.sglang.configure import (
    CONTROL_VARIABLE,
    FACTS_VARIABLE,
    STRATEGY_VARIABLE,
    check_installed,
    is_asked_for,
    read_configuration,
    recording_place,
)
from bidkv.adapters.sglang.eviction import as_flags, server_arguments
from bidkv.adapters.shared.variables import refuse_unknown
from bidkv.errors import BidKVError, BidValidationError

FACTS_FLAG = "--bidkv-client-facts"
RULE_FLAG = "--radix-eviction-policy"


def main() -> None:
    try:
        refuse_unknown()
        if not is_asked_for():
            raise BidValidationError(
                f"set {STRATEGY_VARIABLE} to a strategy, or {CONTROL_VARIABLE} to a control file"
            )
        if FACTS_FLAG in sys.argv[1:]:
            sys.argv = [sys.argv[0], *(flag for flag in sys.argv[1:] if flag != FACTS_FLAG)]
            os.environ[FACTS_VARIABLE] = "1"
        check_installed()
        settings, _ = read_configuration()
        rule = {} if settings.kill_switch else server_arguments(settings.build().retention)
        recording_place()
    except BidKVError as error:
        print(f"bidkv: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    if not any(flag.startswith(RULE_FLAG) for flag in sys.argv[1:]):
        sys.argv += as_flags(rule)
    os.environ["SGLANG_PLUGINS"] = with_ours(os.environ.get("SGLANG_PLUGINS"))
    sys.argv[0] = "sglang.launch_server"
    runpy.run_module("sglang.launch_server", run_name="__main__", alter_sys=True)


def with_ours(allowed: str | None) -> str:
    """SGLang's list of allowed plugins, with this one in it; empty means all."""
    names = [name.strip() for name in (allowed or "").split(",") if name.strip()]
    return ",".join(names if not names or "bidkv" in names else [*names, "bidkv"])


if __name__ == "__main__":
    main()
