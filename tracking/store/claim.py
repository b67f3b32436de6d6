"""Who decides next: of several commands that look whether a sweep is running, one at a time."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.tracking import MlflowClient

from tracking.store.lease import Lease

PREFIX = "bidkv.claim."
LOOK_S = 0.2
PATIENCE_S = 60.0  # somebody else decides in a second or two


@contextmanager
def claimed(client: MlflowClient, experiment_id: str, sweep_hash: str) -> Iterator[None]:
    """Inside, this command alone reads who runs the sweep of this hash and says that it does.

    Claims are tags of the experiment, which any store shows to all at once. Whoever sees no other claim
    beside its own goes on; of two that see each other the one whose name sorts first keeps its claim
    and waits, the other takes its own back (Burns and Lynch's mutual exclusion with one bit). Claims of
    dead processes do not count. Raises ValueError if the others do not end.
    """
    prefix = f"{PREFIX}{sweep_hash}."
    mine, lease = prefix + secrets.token_hex(4), Lease.mine()
    deadline, made = time.monotonic() + PATIENCE_S, False
    try:
        while True:
            if not made:
                client.set_experiment_tag(experiment_id, mine, json.dumps(lease.tags))
                made = True
            others = _living(client.get_experiment(experiment_id).tags, prefix, mine)
            if not others:
                break
            if time.monotonic() > deadline:
                raise ValueError(f"this sweep is being started already: {next(iter(others.values()))}")
            if min(others) < mine:
                client.delete_experiment_tag(experiment_id, mine)
                made = False
            time.sleep(LOOK_S)
        yield
    finally:
        if made:
            client.delete_experiment_tag(experiment_id, mine)


def _living(tags: dict[str, str], prefix: str, mine: str) -> dict[str, Lease]:
    """The claims of other processes that still run."""
    claims = {name: json.loads(text) for name, text in tags.items() if name.startswith(prefix)}
    leases = {name: Lease.of(claim) for name, claim in claims.items() if name != mine}
    return {name: lease for name, lease in leases.items() if lease is not None and lease.alive()}
