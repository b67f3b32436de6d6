"""A strategy: a named triple of an admission, a victim and a retention policy."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from bidkv.admission.base import AdmissionPolicy
from bidkv.errors import BidValidationError
from bidkv.request import FinishedRequest, PoolState, RequestState
from bidkv.retention.base import Retention
from bidkv.retention.lru import Lru
from bidkv.victim.base import VictimPolicy


class Strategy:
    """A named triple of an admission, a victim and a retention policy. Subclass it to add your own.

    Keyword arguments go to the victim policy, `admission_params` and `retention_params` to the others:
    `BidKVStrategy(completion_weight=1.0)`. Without a `retention_class` the engine keeps what it keeps by itself.
    """

    name: ClassVar[str]
    admission_class: ClassVar[type[AdmissionPolicy]]
    victim_class: ClassVar[type[VictimPolicy]]
    retention_class: ClassVar[type[Retention]] = Lru

    def __init__(
        self,
        admission_params: Mapping[str, Any] | None = None,
        retention_params: Mapping[str, Any] | None = None,
        **params: Any,
    ):
        self.admission = self._made(self.admission_class, "admission parameters", admission_params or {})
        self.victim = self._made(self.victim_class, "parameters", params)
        self.retention = self._made(self.retention_class, "retention parameters", retention_params or {})

    def _made(self, policy: type, what: str, params: Mapping[str, Any]) -> Any:
        try:
            return policy(**params)
        except TypeError as error:
            known = [name for name in inspect.signature(policy).parameters if name not in ("args", "kwargs")]
            there = f"; {policy.name} has {', '.join(known)}" if known else f"; {policy.name} has none"
            raise BidValidationError(
                f"strategy {self.name!r}: bad {what} {dict(params)}: {error}{there}"
            ) from error

    @property
    def policies(self) -> tuple[AdmissionPolicy, VictimPolicy, Retention]:
        return self.admission, self.victim, self.retention

    @property
    def oracle(self) -> bool:
        """Whether any of the three sees what a real server cannot know."""
        return any(policy.oracle for policy in self.policies)

    @property
    def needs_cache(self) -> bool:
        """Whether a part of it goes by a prefix cache: engines without one, or that tell nothing of it, refuse it."""
        return self.admission.sees_cache or not self.retention.stock

    def bind(self, pool: PoolState) -> None:
        """Gives all policies the engine's pool."""
        for policy in self.policies:
            policy.pool = pool

    def observe(self, finished: FinishedRequest) -> None:
        """Tells all policies."""
        for policy in self.policies:
            policy.observe(finished)

    def forget(self, request_id: str) -> None:
        """Tells all policies."""
        for policy in self.policies:
            policy.forget(request_id)

    def select_victims(
        self, running: Sequence[RequestState], needed_tokens: int, now: float = 0.0
    ) -> list[RequestState]:
        """Victims in order of choice until `needed_tokens` KV tokens are freed or nobody is left."""
        return self.victim.select_batch(running, needed_tokens, now)

    def __repr__(self) -> str:
        kept = "" if self.retention.stock else f"+{self.retention.name}"
        return f"{type(self).__name__}({self.admission.name}+{self.victim.name}{kept})"
