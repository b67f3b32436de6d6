"""Names of strategies and of the policies of each axis, and how to add your own."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from bidkv.admission.base import AdmissionPolicy
from bidkv.errors import BidValidationError, UnknownNameError
from bidkv.policy_file import is_reference, load_policy
from bidkv.retention.base import Retention
from bidkv.retention.lru import Lru
from bidkv.strategies.base import Strategy
from bidkv.victim.base import VictimPolicy

ENTRY_POINT_GROUP = "bidkv.strategies"
KINDS = {"strategy": Strategy, "victim": VictimPolicy, "admission": AdmissionPolicy, "retention": Retention}


class BaselineRegistry:
    """Maps names to strategies and policies. Registering a strategy also registers its policies.

    A name like `my_policy.py:MyVictim` needs no registering: it is the class in that file.
    """

    def __init__(self) -> None:
        self._strategies: dict[str, type[Strategy] | Strategy] = {}
        self._victims: dict[str, type[VictimPolicy]] = {}
        self._admissions: dict[str, type[AdmissionPolicy]] = {}
        self._retentions: dict[str, type[Retention]] = {}

    def create_default_registry(self) -> BaselineRegistry:
        """Adds all strategies of this package, then those of installed `bidkv.strategies` entry points."""
        from importlib.metadata import entry_points  # here: it doubles the time of `import bidkv`

        from bidkv import admission, retention, victim
        from bidkv.strategies import BUILT_IN

        for cls in (*BUILT_IN, *admission.RULES, *victim.RULES, *retention.RULES):
            self.register(cls)
        for entry_point in entry_points(group=ENTRY_POINT_GROUP):
            self.register(entry_point.load())
        return self

    def register(self, item: Strategy | type[Strategy | VictimPolicy | AdmissionPolicy | Retention]) -> None:
        """Adds a class, or a strategy with its parameters, under its `name`; the same class again replaces it.

        Raises `BidValidationError` on a name taken by another class.
        """
        cls = type(item) if isinstance(item, Strategy) else item
        if not isinstance(cls, type) or not issubclass(cls, tuple(KINDS.values())):
            raise BidValidationError(
                f"cannot register {item!r}: not a Strategy (class or instance), "
                "nor the class of a VictimPolicy, AdmissionPolicy or Retention"
            )
        if issubclass(cls, Strategy):
            self._add(self._strategies, item)
            self._add(self._victims, cls.victim_class)
            self._add(self._admissions, cls.admission_class)
            self._add(self._retentions, cls.retention_class)
        elif issubclass(cls, Retention):
            self._add(self._retentions, cls)
        else:
            self._add(self._victims if issubclass(cls, VictimPolicy) else self._admissions, cls)

    def get(self, name: str, **params: Any) -> Strategy:
        """A new strategy of that name; `params` are those of its constructor (see `Strategy`).

        Without `params`, a strategy that was registered with its own comes as a copy of it.
        """
        found = self._found("strategy", name, self._strategies)
        if isinstance(found, Strategy):
            return type(found)(**params) if params else deepcopy(found)
        return found(**params)

    def pair(self, admission: str, victim: str, retention: str = Lru.name, **params: Any) -> Strategy:
        """A new strategy from any admission, any victim and any retention; `params` as for `get`."""
        admission_class = self._found("admission", admission, self._admissions)
        victim_class = self._found("victim", victim, self._victims)
        retention_class = self._found("retention", retention, self._retentions)
        kept = "" if retention_class.stock else f"+{retention_class.name}"
        pair = type(
            "PairedStrategy",
            (Strategy,),
            {
                "name": f"{admission_class.name}+{victim_class.name}{kept}",
                "admission_class": admission_class,
                "victim_class": victim_class,
                "retention_class": retention_class,
            },
        )
        return pair(**params)

    def list_strategies(self) -> list[str]:
        return sorted(self._strategies)

    def list_victims(self) -> list[str]:
        return sorted(self._victims)

    def list_admissions(self) -> list[str]:
        return sorted(self._admissions)

    def list_retentions(self) -> list[str]:
        return sorted(self._retentions)

    @staticmethod
    def _found(kind: str, name: str, names: dict[str, Any]) -> Any:
        """What the name stands for; of a strategy in a file its part, where a part is asked for."""
        if is_reference(name):
            cls, wanted = load_policy(name), KINDS[kind]
            if issubclass(cls, Strategy) and wanted is not Strategy:
                return getattr(cls, f"{kind}_class")
            if not issubclass(cls, wanted):
                raise BidValidationError(f"{kind}: {name} must be of the kind {wanted.__name__}")
            return cls
        if name not in names:
            raise UnknownNameError(kind, name, list(names))
        return names[name]

    @staticmethod
    def _add(names: dict[str, Any], item: Any) -> None:
        known = _class(names.get(item.name, item))
        if known is not _class(item):
            raise BidValidationError(f"the name {item.name!r} is taken by {known.__qualname__}")
        names[item.name] = item


def _class(item: Any) -> type:
    return item if isinstance(item, type) else type(item)


def create_default_registry() -> BaselineRegistry:
    """A registry of all strategies of this package and of installed `bidkv.strategies` entry points."""
    return BaselineRegistry().create_default_registry()
