"""The third axis of a strategy: whose cached blocks are given up first while nobody runs on them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from bidkv.owner import Owner
from bidkv.policy import Policy


class Retention(Policy):
    """Orders idle owners. `stock` rules leave the order to the engine, whose pool is then not touched at all."""

    stock: ClassVar[bool] = False
    weighs_cost: ClassVar[bool] = False
    """Whether it asks what a return would cost (`Owner.seconds`). Of any other, those go first, in its order, all of whose
    tokens have copies in host memory: they are loaded back, not computed again."""

    @abstractmethod
    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        """The same owners, the one that gives up its blocks next in front. Of one owner the last blocks go first."""

    def kept_tokens(self, owner: Owner) -> int:
        """Of its cached tokens, those that it gives up only when it is its turn; what it has beyond, all owners give up
        before, in the same order. All, as a rule."""
        return owner.held

    def arrived(self, owner: Owner, prompt_tokens: int, now: float) -> None:
        """A turn of the owner arrived: its pause, which began at `owner.used`, is over. Not told of first turns."""

    def hit(self, owner: Owner, cached_tokens: int, prompt_tokens: int) -> None:
        """A turn starts to run, and finds so many tokens of its prompt in the cache. First turns too."""

    def finished(self, owner: Owner, prompt_tokens: int, output_tokens: int, now: float) -> None:
        """A turn of the owner ended, and a pause begins."""

    def given_up(self, owner: Owner, now: float) -> None:
        """The owner's blocks are being given up, some or all; told when it is its turn, not for every block."""

    def forgotten(self, owner: Owner) -> None:
        """Nothing of the owner is cached any more, and whether it returns will not be seen."""
