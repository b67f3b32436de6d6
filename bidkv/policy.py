"""What the policies of all three axes have in common."""

from __future__ import annotations

from abc import ABC
from functools import cached_property
from typing import ClassVar

from bidkv.request import FinishedRequest, PoolState


class Policy(ABC):
    """They may look at the pool and learn from finished requests.

    `oracle` policies see `true_output_tokens` and end in `_oracle`. `pool` is the engine's, kept
    current by the adapter; a policy that no engine runs has one of defaults.
    """

    name: ClassVar[str]
    source: ClassVar[str]  # where the rule comes from, in a few words
    oracle: ClassVar[bool] = False

    @cached_property
    def pool(self) -> PoolState:
        return PoolState()

    def observe(self, finished: FinishedRequest) -> None:  # noqa: B027 (most policies learn nothing)
        """A request got its whole output. Aborted ones are not shown."""

    def forget(self, request_id: str) -> None:  # noqa: B027 (most policies keep nothing of a request)
        """A request left the engine, whether it got its whole output or not; called after `observe`."""
