"""What a client counted, in Prometheus' text format.

No library is needed for it, and nothing is counted beyond what the policies count anyway, but for
the histogram, which a client has if it was asked for (``latencies=True``).
Format: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

import bisect
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Upper bounds, seconds: a third of a decade or so apart, from what a call costs to what nobody
# waits for.
BUCKETS_S = (
    *(0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
_HELP = {
    "requests": "Requests, or parts of one that was split.",
    "calls": "Calls to replicas: requests, retries and hedges.",
    "retries": "Calls to another replica after one failed.",
    "retries_over_budget": "Retries that the budget of extra load refused.",
    "hedges": "Calls to a second replica as the first took long.",
    "hedges_over_budget": "Hedges that the budget of extra load refused.",
    "hedges_won": "Hedges that answered first.",
    "late": "Requests whose deadline passed.",
    "shed": "Requests that the client's own limits refused.",
    "degraded": "Answers of `rank_best_effort` that were less than was asked for.",
    "came": "Replicas that a name came to stand for.",
    "went": "Replicas that a name no longer stood for.",
    "discoveries_failed": "Looks for replicas that found no answer.",
    "probes": "Questions to an ejected replica whether it is ready.",
}


class Histogram:
    """Counts of what requests took. Safe to use from several threads."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self._sum_s = 0.0
        self._lock = threading.Lock()

    def observe(self, seconds: float) -> None:
        """Count a request."""
        place = bisect.bisect_left(BUCKETS_S, seconds)
        with self._lock:
            self._counts[place] += 1
            self._sum_s += seconds

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """Give the lines of the format."""
        with self._lock:
            counts, total_s = list(self._counts), self._sum_s
        below = 0
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), counts, strict=True):
            below += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {below}'
        yield f"{name}_sum{{{labels}}} {total_s!r}"
        yield f"{name}_count{{{labels}}} {below}"


def prometheus(
    model: str,
    counts: Mapping[str, int],
    replicas: Sequence[Mapping[str, Any]],
    latencies: Histogram | None,
) -> str:
    """Return everything a client counted, in the text format."""
    labels = f'model="{_escaped(model)}"'
    lines = []
    for what, said in _HELP.items():
        name = f"rankserve_client_{what}_total"
        lines += [f"# HELP {name} {said}", f"# TYPE {name} counter"]
        lines.append(f"{name}{{{labels}}} {counts.get(what, 0)}")
    for what, kind, said in (
        ("under_way", "gauge", "Calls that have not ended."),
        ("ejected", "gauge", "Whether the replica is left alone."),
        ("ejections", "counter", "How often it was."),
    ):
        name = f"rankserve_client_replica_{what}" + ("_total" if kind == "counter" else "")
        lines += [f"# HELP {name} {said}", f"# TYPE {name} {kind}"]
        lines += [
            f'{name}{{{labels},replica="{_escaped(each["url"])}"}} {int(each[what])}'
            for each in replicas
        ]
    if latencies is not None:
        name = "rankserve_client_seconds"
        lines += [
            f"# HELP {name} What answered requests took, retries and hedges included.",
            f"# TYPE {name} histogram",
            *latencies.lines(name, labels),
        ]
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
