"""What a client does when servers are not calm. Each policy is a small state machine.

None of them reads a clock, starts a thread or takes a lock: they are told the time, and
`client.fleet` holds the lock. Times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from client.policies.degrading import Degrading
from rankers.errors import UserError


@dataclass(frozen=True, slots=True)
class Policies:
    """Which policies a client has, and their limits.

    Attributes:
        retry: Ask another replica when one cannot be reached, is not ready or has its queue full.
        hedge: Ask a second replica when the first takes longer than 95 % of the last answers did.
        extra_load: Retries and hedges together, as a share of the requests, at most (beyond a
            reserve of 10).
        limit: Refuse requests at the client where a replica has more under way than it answers
            quickly (`client.policies.limit`), with `ServerOverloaded`. For services, where what
            comes is not bounded; not for a batch job, whose own limit is its number of threads.
        ejection_s: How long a replica that fails is left alone at first; twice as long each time
            it fails again, up to 10 s.
        ramp_s: How long a replica that came back takes to get its whole share again.
        spill_at: How many calls a replica of the client's own zone has under way before those of
            other zones are asked as well. Without zones it means nothing.
        rediscover_s: How long the addresses of a ``dns:///`` name are believed.
        degrade: What `rank_best_effort` may answer in place of all scores; nothing by default.
    """

    retry: bool = True
    hedge: bool = True
    extra_load: float = 0.1
    limit: bool = False
    ejection_s: float = 0.5
    ramp_s: float = 5.0
    spill_at: int = 8
    rediscover_s: float = 30.0
    degrade: Degrading | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.extra_load <= 1:
            raise UserError(f"policy extra_load is {self.extra_load}; it is a share from 0 to 1")
        if self.spill_at < 1:
            raise UserError(f"policy spill_at is {self.spill_at}; it is 1 or more")
        for name in ("ejection_s", "ramp_s", "rediscover_s"):
            if not getattr(self, name) > 0:
                raise UserError(f"policy {name} is {getattr(self, name)}; it is above 0 seconds")


__all__ = ["Degrading", "Policies"]
