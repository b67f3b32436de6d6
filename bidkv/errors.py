"""Errors of the library. All derive from `BidKVError`, so one `except` catches them."""


class BidKVError(Exception):
    """Base of every error this library raises on purpose."""


class BidValidationError(BidKVError, ValueError):
    """A bid, a pool or a configuration holds a value outside its range."""


class UnknownNameError(BidKVError, ValueError):
    """A strategy, victim or admission name that no registry entry has."""

    def __init__(self, kind: str, name: str, allowed: list[str]):
        from difflib import get_close_matches  # here: it takes a fifth of the time of `import bidkv`

        near = get_close_matches(name, allowed, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        super().__init__(f"{kind}: unknown {name!r}; allowed: {', '.join(sorted(allowed))}{meant}")
