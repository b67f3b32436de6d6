"""A waiting queue in the order of an admission policy."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request, RequestStatus


class AdmissionQueue(RequestQueue):
    """Smallest `key(request)` first; preempted requests wait in front, the last preempted first.

    `key` is asked once per insertion and must return a tuple of floats. Ties go to the earlier
    arrival, then to the smaller id. A request that vLLM only skipped goes back to its place.
    """

    def __init__(self, key: Callable[[Request], tuple[float, ...]], requests: Iterable[Request] = ()):
        self._key = key
        self._front: deque[Request] = deque()
        self._ordered: list[tuple[tuple[float, ...], float, str, Request]] = []
        for request in requests:
            if request.status == RequestStatus.PREEMPTED:
                self._front.append(request)
            else:
                self.add_request(request)

    def add_request(self, request: Request) -> None:
        insort(self._ordered, (self._key(request), request.arrival_time, request.request_id, request))

    def pop_request(self) -> Request:
        if self._front:
            return self._front.popleft()
        return self._ordered.pop(0)[-1]

    def peek_request(self) -> Request:
        return self._front[0] if self._front else self._ordered[0][-1]

    def prepend_request(self, request: Request) -> None:
        if request.status == RequestStatus.PREEMPTED:
            self._front.appendleft(request)
        else:
            self.add_request(request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.prepend_request(request)

    def remove_request(self, request: Request) -> None:
        if request not in self:
            raise ValueError(f"request {request.request_id} is not in the queue")
        self.remove_requests([request])

    def remove_requests(self, requests: Iterable[Request]) -> None:
        gone = set(requests)
        self._front = deque(r for r in self._front if r not in gone)
        self._ordered = [entry for entry in self._ordered if entry[-1] not in gone]

    def __bool__(self) -> bool:
        return bool(self._front or self._ordered)

    def __len__(self) -> int:
        return len(self._front) + len(self._ordered)

    def __iter__(self) -> Iterator[Request]:
        return chain(self._front, (entry[-1] for entry in self._ordered))
