"""Errors of the library. All derive from `BidKVError`, so one `except` catches them."""


class BidKVError(Exception):
    """Base of every error this library raises on purpose."""


class BidValidationError(BidKVError, ValueError):
    """A bid, a pool or a configuration holds a value outside its range."""


class UnknownNameError(BidKVError, ValueError):
    """A strategy, victim or admission name that no registry entry has."""

    def __init__(self, kind: str, name: str, allowed: list[str]):
        super().__init__(f"{kind}: unknown {name!r}; allowed: {', '.join(sorted(allowed))}")
