"""A server of known service times under Poisson load, and a limit before it, in time of its own."""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from random import Random


def goodput(limit, *, load_s, rate, **server):
    """Return how many requests a second are answered within their deadline.

    ``seconds_of(requests, random)`` says how long a batch takes. A request that waits for longer
    than its deadline is dropped when its turn comes. Without a limit (None) all are let in.
    """
    simulated, now, random = Simulated(limit, **server), 0.0, Random(1)
    while now < load_s:
        now += random.expovariate(rate)
        simulated.at(now, simulated.comes)
    return simulated.run() / load_s


class Simulated:
    def __init__(self, limit, *, instances, seconds_of, deadline_s, most_in_batch=1):
        self.limit, self.free, self.seconds_of = limit, instances, seconds_of
        self.deadline_s, self.most_in_batch = deadline_s, most_in_batch
        self.random, self.number, self.events = Random(0), count(), []
        self.queue, self.open, self.under_way, self.good = deque(), set(), 0, 0

    def at(self, moment, what, *about):
        heapq.heappush(self.events, (moment, next(self.number), what, about))

    def run(self):
        while self.events:
            now, _, what, about = heapq.heappop(self.events)
            what(now, *about)
            self.serve(now)
        return self.good

    def comes(self, now):
        if self.limit is None or self.under_way < self.limit.limit:
            self.under_way += 1
            request = (now, self.under_way, next(self.number))
            self.queue.append(request)
            self.open.add(request)
            self.at(now + self.deadline_s, self.is_due, request)

    def is_due(self, _now, request):
        if request in self.open and self.limit is not None:
            self.limit.refused()
        self.open.discard(request)

    def serve(self, now):
        while self.free and self.queue:
            batch = []
            while self.queue and len(batch) < self.most_in_batch:
                request = self.queue.popleft()
                if now - request[0] > self.deadline_s:
                    self.under_way -= 1
                else:
                    batch.append(request)
            if batch:
                self.free -= 1
                self.at(now + self.seconds_of(len(batch), self.random), self.is_done, batch)

    def is_done(self, now, batch):
        self.free += 1
        for request in batch:
            began, was_under_way, _ = request
            self.open.discard(request)
            self.under_way -= 1
            self.good += now - began <= self.deadline_s
            if self.limit is not None:
                self.limit.answered(now - began, was_under_way)
