"""What a stage gained over the artifact that it read: measured in turn, and whether it is kept.

A stage that passed its gates is right, but perhaps no faster: quantization that has to look at each
input first often loses on narrow layers. So what changes scores has to pay.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.checksums import file_sha256, fingerprint
from optimize.devices import runtime_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.targets import Target
    from bench.workload import Workload
    from optimize.artifact import Artifact
    from rankers.requests import RequestBatch

# An interval at the bench's confidence needs 9 rounds at least (bench.exchange.least_rounds).
_ROUNDS = 20
_DISTINCT = 50
_MOST_REQUESTS = 2000
_SAME_SIZE = 0.99  # a file that is smaller by less is not worth other scores


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast an artifact is against another, for requests of one size.

    Attributes:
        candidates: N of the requests.
        speed: How many times as fast at p50, the drift between rounds taken out: above 1 is faster.
        low: Lower end of its interval; None where there are too few rounds for one.
        high: Upper end, or None.
        p50_ms: Of the artifact.
        before_p50_ms: Of the other.
        disturbed: Why the measurement may be off; empty if nothing was seen.
    """

    candidates: int
    speed: float
    low: float | None
    high: float | None
    p50_ms: float
    before_p50_ms: float
    disturbed: str = ""

    @property
    def verdict(self) -> str:
        """``faster``, ``slower`` or ``cannot tell``."""
        if self.low is not None and self.low > 1:
            return "faster"
        if self.high is not None and self.high < 1:
            return "slower"
        return "cannot tell"

    def to_json(self) -> dict[str, Any]:
        """Return the speed and its verdict as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__slots__} | {"verdict": self.verdict}


@dataclass(frozen=True, slots=True)
class Gain:
    """What a stage gained.

    Attributes:
        speeds: For each number of candidates.
        model_bytes: Of what it made.
        before_bytes: Of what it read.
    """

    speeds: tuple[Speed, ...]
    model_bytes: int
    before_bytes: int

    @property
    def worth_it(self) -> bool:
        """Whether it is slower nowhere, and faster somewhere or smaller."""
        verdicts = {each.verdict for each in self.speeds}
        return "slower" not in verdicts and ("faster" in verdicts or self._smaller)

    @property
    def _smaller(self) -> bool:
        return self.model_bytes < _SAME_SIZE * self.before_bytes

    def describe(self) -> str:
        """Say in a line what was gained."""
        said = [
            f"{each.speed:.2f} times the speed of its input at N={each.candidates}"
            + (" (cannot tell)" if each.verdict == "cannot tell" else "")
            for each in self.speeds
        ]
        size = (
            f"{self.model_bytes / self.before_bytes:.2f} times its size"
            if self.before_bytes
            else ""
        )
        return ", ".join([*said, size] if size else said)

    def to_json(self) -> dict[str, Any]:
        """Return the gain as JSON-ready data."""
        return {
            "speeds": [each.to_json() for each in self.speeds],
            "model_bytes": self.model_bytes,
            "before_bytes": self.before_bytes,
            "worth_it": self.worth_it,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Gain:
        """Read what `to_json` wrote; verdicts follow from the numbers."""
        speeds = [Speed(**{name: x[name] for name in Speed.__slots__}) for x in data["speeds"]]
        return cls(tuple(speeds), data["model_bytes"], data["before_bytes"])


def gain_key(
    made: Artifact,
    source: Artifact,
    captured: Artifact,
    candidates: Sequence[int],
    *,
    device: str = "cpu",
) -> str:
    """Return a fingerprint of all that a gain depends on but the moment."""
    from bench.environment import environment

    here = environment()
    return fingerprint(
        {
            "artifacts": [made.key, source.key, captured.key],
            "candidates": list(candidates),
            "machine": [here.machine, here.usable_cores, here.versions],
            "code": file_sha256(Path(__file__)),
        }
        | ({} if device == "cpu" else {"device": device})
    )


def measure_gain(
    made: Artifact,
    source: Artifact,
    captured: Artifact,
    *,
    candidates: Sequence[int],
    seconds: float = 2.0,
    requests: RequestBatch | None = None,
    device: str = "cpu",
) -> Gain:
    """Measure an artifact and the one it was made from, in turn and in drawn order.

    Args:
        made: What a stage made.
        source: What it read, of a format with a runtime as well.
        captured: Its evaluation requests are drawn from.
        candidates: The sizes N of the requests, each measured alone.
        seconds: That each size may take about; slow artifacts take longer, for a few rounds.
        requests: To draw from in place of the evaluation's.
        device: Where they run, if their formats can.

    Raises:
        UserError: One of them cannot be opened or does not score.
    """
    from bench.targets import open_artifact_target
    from bench.workload import draw_workload
    from optimize.capture import load_evidence

    targets = [
        open_artifact_target(each.folder, name=name, device=runtime_device(each.manifest, device))
        for name, each in (("made", made), ("input", source))
    ]
    log = load_evidence(captured).evaluation if requests is None else requests
    speeds = [
        _speed(targets, draw_workload(log, candidates=count, distinct=_DISTINCT), count, seconds)
        for count in candidates
    ]
    return Gain(tuple(speeds), made.model_bytes, source.model_bytes)


def _speed(targets: Sequence[Target], workload: Workload, candidates: int, seconds: float) -> Speed:
    from bench.measure import Load, measure_interleaved

    each_s = sum(_usual_seconds(target, workload) for target in targets)
    requests = max(_ROUNDS, min(_MOST_REQUESTS, int(seconds / each_s)))
    load = Load(count=requests, warmup=max(2, requests // 10))
    found = measure_interleaved(targets, workload, load, rounds=_ROUNDS, baseline="input")
    ratio = next(each for each in found.ratios if each.quantile == 0.5)
    ours, theirs = (_p50_ms(each) for each in found.measurements)
    # Too few requests for a p99 are enough for the p50 that is compared here.
    void = [
        reason
        for each in found.measurements
        for reason in each.void
        if "too few for a" not in reason
    ]
    return Speed(
        candidates=candidates,
        speed=1 / ratio.value,
        low=None if ratio.high is None else 1 / ratio.high,
        high=None if ratio.low is None else 1 / ratio.low,
        p50_ms=ours,
        before_p50_ms=theirs,
        disturbed=void[0] if void else "",
    )


def _p50_ms(measurement: Any) -> float:
    import numpy as np

    microseconds, counts = measurement.response.distribution()
    return float(np.median(np.repeat(microseconds, counts))) / 1000


def _usual_seconds(target: Target, workload: Workload) -> float:
    prepared = target.prepare(workload.requests[0])
    took = []
    for _ in range(4):
        began = time.perf_counter()
        target(prepared)
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])
