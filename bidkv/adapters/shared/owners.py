"""Who left blocks in an engine's prefix cache, found by the chain of block hashes, and who gives up theirs next."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bidkv.errors import BidValidationError
from bidkv.owner import Owner
from bidkv.request import PoolState
from bidkv.retention.base import Retention

Hash = bytes
"""Of a full block: it stands for all tokens up to the block's end."""
Look = Callable[[Any, Hash], bool | None]
"""Whether a block that had this content is idle; None if it has another by now."""
Copies = Callable[[Sequence[Hash], int, int], int]
"""How many of the first so many blocks host memory has copies of; the third is the likely answer."""


class Holding(Owner):
    """An owner with what it holds: the first `length` of `hashes` and of `blocks`, as far as they are cached still."""

    __slots__ = ("blocks", "copies", "hashes", "leaves", "length", "running")

    def __init__(self, name: int, session: str | None, now: float):
        super().__init__(name, session, used=now)
        self.hashes: Sequence[Hash] = ()
        self.blocks: Sequence[Any] = ()
        self.length = 0
        self.copies = 0  # blocks from the beginning that host memory had when it was asked last
        self.leaves: tuple[Hash, ...] = ()  # where its next turn may go on
        self.running: str | None = None  # the request that is its turn, from its arrival to its end


class Owners:
    """All owners of one engine's cached blocks, for one retention policy.

    Blocks that several owners have are those of a common beginning; they are nobody's own until all but one gave
    up theirs. Engines say when a turn arrives, starts, is preempted and ends, and ask `take` for blocks.
    """

    KEPT_PAUSES = 16  # of each owner, the latest ones
    REMEMBERED = 4096  # owners of whom nothing is cached, so that their return is seen
    FRESH_S = 0.25  # for how long an order holds if nothing happens
    FRESH_BLOCKS = 256  # that may be given up in it
    SWEPT = 2  # idle owners that are looked at whenever one begins to rest

    def __init__(
        self,
        policy: Retention,
        pool: PoolState,
        block_size: int,
        look: Look,
        copies: Copies | None = None,
        in_flight: bool = False,
    ):
        self.policy, self._pool, self._block_size, self._look = policy, pool, block_size, look
        self._copies = copies  # None where what leaves the device is computed again
        self._in_flight = in_flight  # a block in use is only on its way, and stays its owner's; else a request has taken it over
        self.holders: dict[Hash, int] = {}  # how many owners have a block of this content
        self._names = 0
        self._idle: dict[int, Holding] = {}
        self._gone: OrderedDict[int, Holding] = OrderedDict()
        self._leaves: dict[Hash, Holding] = {}
        self._turns: dict[str, Holding] = {}  # by request, from its arrival to its end
        self._order: list[Holding] = []  # the next one last
        self._spare: list[
            Holding
        ] = []  # who has more than the policy has it keep until then; the next one last
        self._ordered_t, self._given = 0.0, 0
        self._stale = True  # the order is from before something that happened
        self._to_sweep: deque[int] = deque()

    @property
    def tracked(self) -> int:
        """Entries of any kind but of those remembered, for checks that nothing is kept."""
        return len(self.holders) + len(self._idle) + len(self._turns)

    # -- turns ---------------------------------------------------------------------------------

    def arrived(
        self, request_id: str, hashes: Sequence[Hash], session: str | None, prompt: int, now: float
    ) -> None:
        """A request joined the queue; `hashes` are of its prompt's full blocks."""
        owner, agrees = self._found(hashes)
        if owner is None:
            owner = Holding(self._names, session, now)
            self._names += 1
        else:
            owner.session = session or owner.session
            owner.pauses = [*owner.pauses[1 - self.KEPT_PAUSES :], now - owner.used]
            self.policy.arrived(owner, prompt, now)
            self._release(owner, min(owner.length, agrees))  # an answer that its client left out is of no use
        owner.running, owner.waiting_since = request_id, now
        self._turns[request_id] = owner
        self._stale = True

    def started(self, request_id: str, cached_tokens: int, prompt: int) -> None:
        """A request was given memory, and found so many tokens in the cache."""
        owner = self._turns.get(request_id)
        if owner is None or owner.waiting_since is None:
            return
        owner.waiting_since = None
        self._idle.pop(owner.name, None)
        self._gone.pop(owner.name, None)
        self.policy.hit(owner, cached_tokens, prompt)
        self._stale = True

    def preempted(self, request_id: str, hashes: Sequence[Hash], blocks: Sequence[Any], now: float) -> None:
        """A request gives its blocks back and waits again; `hashes` and `blocks` are of those that are cached."""
        owner = self._turns.get(request_id)
        if owner is not None:
            self._claim(owner, hashes, blocks)
            owner.waiting_since = now
            self._rests(owner)

    def ended(
        self,
        request_id: str,
        hashes: Sequence[Hash],
        blocks: Sequence[Any],
        prompt: int,
        output: int,
        now: float,
        true_next: float | None = None,
        pause_s: float | None = None,
    ) -> None:
        """A request is about to give its blocks back for good. One that never started has none."""
        owner = self._turns.pop(request_id, None)
        if owner is None:
            return
        owner.running = None
        if blocks:
            self._claim(owner, hashes, blocks)
        if not owner.hashes:  # nothing of it was ever cached
            return
        owner.waiting_since, owner.used, owner.true_next, owner.pause_s = None, now, true_next, pause_s
        owner.history = prompt + output
        owner.turns += 1
        self._put_leaves(owner, prompt)
        self.policy.finished(owner, prompt, output, now)
        self._rests(owner)
        self._sweep()

    def cleared(self) -> None:
        """Nothing is cached any more."""
        for owner in [*self._idle.values()]:
            self._release(owner, 0)
            self._leave(owner)
        self._stale = True

    def _found(self, hashes: Sequence[Hash]) -> tuple[Holding | None, int]:
        """Whose next turn this is, and how many blocks of the prompt it had: who has the longest beginning of it."""
        for place in range(len(hashes) - 1, -1, -1):
            owner = self._leaves.get(hashes[place])
            if owner is not None and owner.running is None:
                return owner, place + 1
        return None, 0

    def _put_leaves(self, owner: Holding, prompt: int) -> None:
        self._drop_leaves(owner)
        # An engine's client may leave the answer, or the thinking in it, out of the next prompt.
        ends = {owner.length, min(owner.length, prompt // self._block_size)} - {0}
        owner.leaves = tuple(owner.hashes[end - 1] for end in ends)
        for leaf in owner.leaves:
            self._leaves[leaf] = owner

    def _drop_leaves(self, owner: Holding) -> None:
        for leaf in owner.leaves:
            if self._leaves.get(leaf) is owner:
                del self._leaves[leaf]

    def _rests(self, owner: Holding) -> None:
        self._stale = True
        if owner.length:
            self._gone.pop(owner.name, None)
            self._idle[owner.name] = owner
            owner.tokens = (owner.length - self._shared(owner)) * self._block_size
        else:
            self._leave(owner)

    def _leave(self, owner: Holding) -> None:
        """Nothing that it had is kept for it. A request that waits still is seen to return."""
        self._idle.pop(owner.name, None)
        owner.hashes, owner.blocks = (), ()
        self._gone[owner.name] = owner
        if len(self._gone) > self.REMEMBERED:
            _, oldest = self._gone.popitem(last=False)
            self._drop_leaves(oldest)
            self.policy.forgotten(oldest)

    # -- who rests -----------------------------------------------------------------------------

    def resting(self) -> Iterator[Owner]:
        """Those whose next turn has not come, whose turn ended last first."""
        for owner in [*reversed(self._idle.values())]:
            if owner.waiting_since is None and self._trim(owner):
                yield owner

    def _sweep(self) -> None:
        """Looks at some idle owners in turn: where the engine gives up blocks in its own order, nobody tells."""
        for _ in range(min(self.SWEPT, len(self._idle))):
            if not self._to_sweep:
                self._to_sweep.extend(self._idle)
            owner = self._idle.get(self._to_sweep.popleft())
            if owner is not None:
                self._trim(owner)

    def _trim(self, owner: Holding) -> bool:
        """Forgets blocks that the engine has given up, the last ones first as it does. False if nothing of its own is left."""
        look, blocks, hashes, length = self._look, owner.blocks, owner.hashes, owner.length
        if length and look(blocks[length - 1], hashes[length - 1]) is None:
            gone = bisect_left(
                range(length), True, key=lambda place: look(blocks[place], hashes[place]) is None
            )
            self._release(owner, gone)
            shared = self._shared(owner)
            owner.tokens = (owner.length - shared) * self._block_size
            if owner.length == shared:
                self._release(owner, 0)
                self._leave(owner)
        return owner.length > 0

    # -- blocks --------------------------------------------------------------------------------

    def _claim(self, owner: Holding, hashes: Sequence[Hash], blocks: Sequence[Any]) -> None:
        """From now on it has these; what it had before is most often their beginning."""
        had, length = owner.length, min(len(hashes), len(blocks))
        if had > length or (had and hashes[had - 1] != owner.hashes[had - 1]):
            self._release(owner, 0)
            had = 0
        holders = self.holders
        for place in range(had, length):
            block_hash = hashes[place]
            holders[block_hash] = holders.get(block_hash, 0) + 1
        owner.hashes, owner.blocks, owner.length = hashes, blocks, length

    def _release(self, owner: Holding, length: int) -> None:
        """It has only the first `length` of what it had."""
        holders, hashes = self.holders, owner.hashes
        for place in range(length, owner.length):
            left = holders[hashes[place]] - 1
            if left:
                holders[hashes[place]] = left
            else:
                del holders[hashes[place]]
        owner.length = length

    def _shared(self, owner: Holding) -> int:
        """How many of its first blocks other owners have too."""
        holders, hashes = self.holders, owner.hashes
        return bisect_left(range(owner.length), True, key=lambda place: holders[hashes[place]] == 1)

    def take(self, count: int, now: float) -> list[Any]:
        """So many blocks that are given up next, in order; fewer if the idle owners have no more.

        Raises what the policy raises, and `BidValidationError` on an order that is none.
        """
        taken: list[Any] = []
        if self._stale or self._given >= self.FRESH_BLOCKS or now - self._ordered_t > self.FRESH_S:
            self._put_in_order(now)
        while len(taken) < count and self._spare:
            owner = self._spare[-1]
            if owner.name in self._idle:
                taken += self._take_of(owner, count - len(taken), self._kept(owner))
            if len(taken) < count:
                self._spare.pop()
        while len(taken) < count and self._order:
            owner = self._order[-1]
            if owner.name in self._idle:
                taken += self._take_of(owner, count - len(taken))
            if owner.name not in self._idle or len(taken) < count:
                self._order.pop()
                if self._order:
                    self.policy.given_up(self._order[-1], now)
        self._given += len(taken)
        return taken

    def _kept(self, owner: Holding) -> int:
        """Blocks that it gives up only when it is its turn."""
        return max(0, -(-self.policy.kept_tokens(owner) // self._block_size))

    def _take_of(self, owner: Holding, count: int, kept: int = 0) -> list[Any]:
        """The last blocks of its own, last first, as far as no request runs on them; not the first `kept`. Without any, it
        has nothing more: what others have too is theirs."""
        shared, place, taken, waits = self._shared(owner), owner.length, [], False
        hashes, blocks, look = owner.hashes, owner.blocks, self._look
        while place > max(shared, kept) and len(taken) < count:
            idle = look(blocks[place - 1], hashes[place - 1])
            if idle is False:
                waits = self._in_flight
                break
            if idle:
                taken.append(blocks[place - 1])
            place -= 1
        stays = waits or place == kept > shared
        if not place or (len(taken) < count and not stays):
            self._release(owner, 0)
            self._leave(owner)
        else:
            self._release(owner, place)
            owner.tokens = (place - shared) * self._block_size
        return taken

    def _put_in_order(self, now: float) -> None:
        idle, size, price = [*self._idle.values()], self._block_size, self._pool.compute_s_per_token
        for owner in idle:
            owner.seconds, owner.held = owner.tokens * price, owner.length * size
        if self._copies is not None:
            self._look_for_copies(idle)
        order = list(self.policy.keep_order(idle, now))
        if len(order) != len(idle) or set(map(id, order)) != set(map(id, idle)):
            raise BidValidationError(
                f"{self.policy.name}: keep_order must return the owners that it was given"
            )
        if self._copies is not None and not self.policy.weighs_cost:
            order.sort(key=lambda owner: owner.copied < owner.tokens)
        self._order = order[::-1]
        self._spare = [owner for owner in self._order if self._kept(owner) < owner.length]
        self._ordered_t, self._given, self._stale = now, 0, False
        if order:
            self.policy.given_up(order[0], now)

    def _look_for_copies(self, idle: Sequence[Holding]) -> None:
        """What each owner's own blocks would cost where host memory has some: blocks behind one that it lacks are of no use."""
        size, compute = self._block_size, self._pool.compute_s_per_token
        load = min(self._pool.load_s_per_token or 0.0, compute)  # taken as free until the first load was seen
        for owner in idle:
            owner.copies = self._copies(owner.hashes, owner.length, owner.copies)
            others = owner.length * size - owner.tokens  # before its own
            owner.copied = max(0, owner.copies * size - others)
            owner.seconds = owner.copied * load + (owner.tokens - owner.copied) * compute
