"""What Locust's statistics say of ranking: fine percentiles, candidates/s, goodput.

Locust keeps response times as counts by rounded value, which add up over workers. Its own rounding,
to 1 ms below 100 ms, is useless for rankers; `bucket_ms` keeps three significant digits.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from rankers.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

METHOD = "gRPC"
REQUESTS = "rank"
# Rows beside the requests: what Locust calls their requests/s is something else a second.
COUNT = "count"
CANDIDATES = "candidates scored"


def bucket_ms(response_ms: float) -> float:
    """Return milliseconds with three significant digits, at least whole microseconds."""
    rounded = float(f"{response_ms:.3g}")
    return round(rounded, 3)


def goodput_row(slo_ms: float) -> str:
    """Return the name of the row of requests within an objective."""
    return f"within {slo_ms:g} ms"


def count(stats: Any, *, candidates: int, within: bool, slo_ms: float) -> None:
    """Add an answered request to the rows of candidates and of goodput.

    They are added to their own rows alone, so that Locust's total stays one of requests.
    """
    _add(stats.get(CANDIDATES, COUNT), candidates)
    if within:
        _add(stats.get(goodput_row(slo_ms), COUNT), 1)


def summarize(stats: Any, *, slo_ms: float) -> dict[str, Any]:
    """Return a run's figures as JSON-ready data: all over its duration, intervals of 95 %."""
    requests = stats.get(REQUESTS, METHOD)
    latencies = _latencies(requests.response_times)
    seconds = max((requests.last_request_timestamp or 0) - (stats.start_time or 0), 0.0)
    failed = requests.num_failures

    def rate(number: int) -> float:
        return number / seconds if seconds else 0.0

    answered = requests.num_requests - failed
    return {
        "kind": "rankserve-locust",
        "requests": requests.num_requests,
        "failed": failed,
        "dropped": requests.num_none_requests,
        "duration_s": seconds,
        "requests_per_s": rate(answered),
        "candidates_per_s": rate(stats.get(CANDIDATES, COUNT).num_requests),
        "slo_ms": slo_ms,
        "goodput_per_s": rate(stats.get(goodput_row(slo_ms), COUNT).num_requests),
        "response": [each.to_json() for each in latencies.percentiles()],
    }


def text(summary: Mapping[str, Any]) -> str:
    """Return the figures in two lines."""
    from bench.latencies import percentile_label

    percentiles = ", ".join(
        f"{percentile_label(each['quantile'])} {each['value_us'] / 1e3:.3g} ms "
        f"({each['low_us'] / 1e3:.3g}-{each['high_us'] / 1e3:.3g})"
        for each in summary["response"]
    )
    return (
        f"Response times, 95 % intervals: {percentiles or 'too few requests'}\n"
        f"{summary['requests_per_s']:.1f} requests/s, {summary['candidates_per_s']:.0f} "
        f"candidates/s, {summary['goodput_per_s']:.1f} requests/s within {summary['slo_ms']:g} ms; "
        f"{summary['failed']} failed, {summary['dropped']} of them dropped"
    )


def write(summary: Mapping[str, Any], path: Path) -> None:
    """Write the figures as JSON, all or nothing."""
    write_atomically(path, json.dumps(summary, indent=1, allow_nan=False) + "\n")


def _add(entry: Any, number: int) -> None:
    now = time.time()
    entry.num_requests += number
    # Without a response time, or the row would have percentiles.
    entry.num_none_requests += number
    entry.num_reqs_per_sec[int(now)] += number
    entry.last_request_timestamp = now


def _latencies(response_times: Mapping[float, int]) -> Any:
    """Make mergeable latencies of Locust's counts by milliseconds."""
    import numpy as np

    from bench.latencies import record

    values = np.fromiter(response_times, dtype=np.float64, count=len(response_times))
    counts = np.fromiter(response_times.values(), dtype=np.int64, count=len(response_times))
    return record(np.repeat(values, counts) / 1e3)
