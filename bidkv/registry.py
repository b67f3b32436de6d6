"""Names of strategies, victims and admissions, and how to add your own."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from bidkv.errors import BidValidationError, UnknownNameError
from bidkv.strategies.base import AdmissionPolicy, Strategy, VictimPolicy

ENTRY_POINT_GROUP = "bidkv.strategies"


class BaselineRegistry:
    """Maps names to classes. Registering a strategy also registers the two policies it pairs."""

    def __init__(self) -> None:
        self._strategies: dict[str, type[Strategy]] = {}
        self._victims: dict[str, type[VictimPolicy]] = {}
        self._admissions: dict[str, type[AdmissionPolicy]] = {}

    def register(self, cls: type[Strategy] | type[VictimPolicy] | type[AdmissionPolicy]) -> None:
        """Adds a class under its `name`; raises `BidValidationError` on a name taken by another class."""
        if issubclass(cls, Strategy):
            self._add(self._strategies, cls)
            self._add(self._victims, cls.victim_class)
            self._add(self._admissions, cls.admission_class)
        elif issubclass(cls, VictimPolicy):
            self._add(self._victims, cls)
        elif issubclass(cls, AdmissionPolicy):
            self._add(self._admissions, cls)
        else:
            raise BidValidationError(
                f"cannot register {cls!r}: not a Strategy, VictimPolicy or AdmissionPolicy"
            )

    def get(self, name: str, **params: Any) -> Strategy:
        """A new strategy of that name; `params` go to its victim policy."""
        if name not in self._strategies:
            raise UnknownNameError("strategy", name, list(self._strategies))
        return self._strategies[name](**params)

    def pair(self, admission: str, victim: str, **params: Any) -> Strategy:
        """A new strategy from any admission and any victim; `params` go to the victim policy."""
        if admission not in self._admissions:
            raise UnknownNameError("admission", admission, list(self._admissions))
        if victim not in self._victims:
            raise UnknownNameError("victim", victim, list(self._victims))
        pair = type(
            "PairedStrategy",
            (Strategy,),
            {
                "name": f"{admission}+{victim}",
                "admission_class": self._admissions[admission],
                "victim_class": self._victims[victim],
            },
        )
        return pair(**params)

    def list_strategies(self) -> list[str]:
        return sorted(self._strategies)

    def list_victims(self) -> list[str]:
        return sorted(self._victims)

    def list_admissions(self) -> list[str]:
        return sorted(self._admissions)

    @staticmethod
    def _add(names: dict[str, Any], cls: Any) -> None:
        if names.setdefault(cls.name, cls) is not cls:
            raise BidValidationError(f"the name {cls.name!r} is taken by {names[cls.name].__qualname__}")


def create_default_registry() -> BaselineRegistry:
    """All strategies of this package, then those of installed `bidkv.strategies` entry points."""
    from bidkv.strategies import BUILT_IN

    registry = BaselineRegistry()
    for cls in BUILT_IN:
        registry.register(cls)
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        registry.register(entry_point.load())
    return registry
