"""What clients declare about their requests, read in one place: whatever they send, valid values come out or none."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bidkv.adapters.shared.session import Session

logger = logging.getLogger(__name__)

KEYS = (
    "max_tokens", "true_output_tokens", "arrival", "deadline", "priority", "session", "turn", "pause_s", "true_pause_s",
)  # fmt: skip
MOST_KEYS = 32
ARRIVAL_S = 60.0
"""How far a declared arrival may be from the engine's: what a gateway in front of it may have held a request."""
DEADLINE_S = 1e9
LARGEST = 2**31 - 1
LONGEST_SESSION = 256


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """What one request declares; None where it declares nothing that can be used.

    `max_tokens` is what a policy sees as declared, `true_output_tokens` what an oracle sees (on SGLang it also
    ends the output), both at least 1 and no more than the engine would generate. `arrival` and `deadline` are
    `time.time()` seconds, the first within `ARRIVAL_S` of the engine's own. `priority` is read on SGLang alone.
    `session` names a conversation and `turn`, from 0, the request's place in it; `pause_s` is for how many seconds its
    client expects to be away after the answer (a tool's usual time), `true_pause_s` is how many seconds
    after its answer the next turn arrives, which an oracle sees (`DEADLINE_S` stands for never).
    """

    max_tokens: int | None = None
    true_output_tokens: int | None = None
    arrival: float | None = None
    deadline: float | None = None
    priority: int | None = None
    session: str | None = None
    turn: int | None = None
    pause_s: float | None = None
    true_pause_s: float | None = None


NOTHING = ClientFacts()


def client_facts(declared: Any, most_tokens: int, arrival: float) -> tuple[ClientFacts, list[str]]:
    """The facts in any object at all, and the keys whose values were left out or limited; never raises.

    `most_tokens` is what the engine would generate at most, `arrival` when the request reached it. A key that
    is not known is called `?`.
    """
    if not issubclass(type(declared), dict) or dict.__len__(declared) > MOST_KEYS:
        return NOTHING, ["?"]
    given = {str.__str__(key): value for key, value in dict.items(declared) if issubclass(type(key), str)}
    facts = ClientFacts(
        max_tokens=_tokens(given.get("max_tokens"), most_tokens),
        true_output_tokens=_tokens(given.get("true_output_tokens"), most_tokens),
        arrival=_near(given.get("arrival"), arrival, ARRIVAL_S),
        deadline=_near(given.get("deadline"), arrival, DEADLINE_S),
        priority=_whole(given.get("priority"), -LARGEST),
        session=_name(given.get("session")),
        turn=_whole(given.get("turn"), 0),
        pause_s=_at_least_0(given.get("pause_s")),
        true_pause_s=_near(given.get("true_pause_s"), 0.0, DEADLINE_S),
    )
    return facts, _unlike(facts, given, dict.__len__(declared))


class FactsReader:
    """Reads facts where the settings' `client_facts` says so. What has no effect is counted, and said once.

    The counters `facts_ignored` (nothing is read) and `facts_limited` (a value was left out or limited) are
    those of the session's run, in requests. `where` names the place in a request, for the log.
    """

    def __init__(self, session: Session, where: str):
        self._session, self._where = session, where
        self._said: set[str] = set()

    def read(self, declared: Any, most_tokens: int, arrival: float) -> ClientFacts:
        if declared is None or (type(declared) is dict and not declared):
            return NOTHING
        session = self._session
        if not session.settings.client_facts:
            session.log.counters["facts_ignored"] += 1
            self._say(
                f"requests declare facts in {self._where}, which have no effect; a server takes them with "
                "--bidkv-client-facts, an engine with the setting client_facts"
            )
            return NOTHING
        facts, problems = client_facts(declared, most_tokens, arrival)
        if problems:
            session.log.counters["facts_limited"] += 1
            self._say(f"left out or limited of what requests declare in {self._where}: {', '.join(problems)}")
        return facts

    def _say(self, text: str) -> None:
        if text not in self._said:  # there are as many texts as sets of KEYS at most
            self._said.add(text)
            logger.warning("bidkv: %s", text)


def _number(value: Any) -> int | float | None:
    """An exact int or a finite float. Methods of a subclass are not called: they may do anything."""
    if issubclass(type(value), bool):
        return None
    if issubclass(type(value), int):
        return int.__int__(value)
    if issubclass(type(value), float):
        number = float.__float__(value)
        return number if math.isfinite(number) else None
    return None


def _tokens(value: Any, most: int) -> int | None:
    number = _number(value)
    return None if number is None else max(1, min(int(number), most))


def _near(value: Any, t: float, seconds: float) -> float | None:
    number = _number(value)
    return None if number is None else float(max(t - seconds, min(number, t + seconds)))


def _at_least_0(value: Any) -> float | None:
    number = _number(value)
    return None if number is None else float(max(0.0, min(number, DEADLINE_S)))


def _whole(value: Any, least: int) -> int | None:
    number = _number(value)
    return number if type(number) is int and least <= number <= LARGEST else None


def _name(value: Any) -> str | None:
    if not issubclass(type(value), str) or str.__len__(value) > LONGEST_SESSION:
        return None
    return str.__str__(value)


def _unlike(facts: ClientFacts, given: Mapping[str, Any], keys: int) -> list[str]:
    """Which keys did not come out as they went in."""
    known = [key for key in KEYS if given.get(key) is not None]
    unlike = [key for key in known if not _same(getattr(facts, key), given[key])]
    strangers = keys > sum(key in given for key in KEYS)
    return [*unlike, "?"] if strangers else unlike


def _same(taken: Any, value: Any) -> bool:
    if taken is None or issubclass(type(value), str):
        return taken is not None
    number = _number(value)
    return number == taken or (type(taken) is int and number is not None and int(number) == taken)
