"""A waiting queue in the order of an admission policy, as vLLM sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request

from bidkv.adapters.shared.tickets import Tickets
from bidkv.adapters.shared.waiting import WaitingLine


class AdmissionQueue(RequestQueue):
    """A view of a line: adding and prepending put a request where its ticket says, which is its place from before if
    vLLM only skipped it."""

    def __init__(
        self, line: WaitingLine[Request], tickets: Tickets[Request], requests: Iterable[Request] = ()
    ):
        self._line, self._tickets = line, tickets
        for request in requests:
            self.add_request(request)

    def add_request(self, request: Request) -> None:
        self._line.enter(self._tickets.issue(request.request_id, request))

    def pop_request(self) -> Request:
        return self._line.take()

    def peek_request(self) -> Request:
        return self._line.first()

    def prepend_request(self, request: Request) -> None:
        self._line.enter(self._tickets.returned(request.request_id, request))

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.prepend_request(request)

    def remove_request(self, request: Request) -> None:
        if request not in self:
            raise ValueError(f"request {request.request_id} is not in the queue")
        self._line.leave([request.request_id])

    def remove_requests(self, requests: Iterable[Request]) -> None:
        self._line.leave([request.request_id for request in requests])

    def __contains__(self, request: object) -> bool:
        return isinstance(request, Request) and request.request_id in self._line

    def __bool__(self) -> bool:
        return len(self._line) > 0

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._line)
