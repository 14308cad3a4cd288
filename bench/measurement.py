"""A measurement: what was measured, how, where, what came out, and whether it can be believed.

Its JSON (`bench.results_file`) is the only source of any number in a report. Everything that can be
derived (rates, percentiles, the reasons that make it void) is computed from the raw data, and again
when a file is read, so that a file cannot contradict itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.effective import worth
from bench.environment import Environment
from bench.latencies import CONFIDENCE, QUANTILES, Latencies
from bench.timeline import Timeline
from bench.validity import void_reasons

if TYPE_CHECKING:
    from bench.latencies import Percentile

SCHEMA = 1
KIND = "rankserve-measurement"


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the requests.

    Attributes:
        ok: Answered.
        errors: Their call raised.
        dropped: Given up before they were sent, because they were too late.
        late: Of those sent, the ones that found every worker busy.
        candidates: Scored in the answered ones.
    """

    ok: int
    errors: int = 0
    dropped: int = 0
    late: int = 0
    candidates: int = 0

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return self.ok + self.errors

    def to_json(self) -> dict[str, int]:
        """Return the counts as JSON-ready data."""
        return {"sent": self.sent} | {name: getattr(self, name) for name in self.__slots__}

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__slots__}
        )


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """One target under one load.

    Attributes:
        target: What `bench.targets.Target.describe` said; ``name``, ``kind`` and ``device`` at
            least.
        workload: What `bench.workload.Workload.describe` said.
        load: ``mode`` (``closed`` or ``open``) and its settings.
        response: From when each request was due to its answer: what a user waits.
        service: From when each was sent to its answer.
        lag: How late the generator itself was; empty for a closed loop.
        counts: What became of the requests.
        error_messages: The first few different ones.
        duration_s: Of the timed part.
        environment: The machine.
        steal_share: Of CPU time during the run, taken by other guests of the host; None if unknown.
        load_average: Of the last minute, before the run.
        command: What reproduces the measurement.
        timestamp_utc: When it was made, ISO 8601.
        cpu_s: Of the generating processes, which in process is where the target runs too; None in
            files of before it was measured.
        wire_bytes: Tensors sent and received by the answered requests of a served target, without
            the protocol's framing; None in process.
        unwarmed: Requests that were the first of their number of candidates, the warm-up included,
            and took over three times as long as others of about that number.
        clock_drift_s: By how much the wall clock and the monotonic clock drew apart.
        gpu: What each GPU was seen to do meanwhile (`bench.gpu_state`); empty for a target on the
            CPU.
        rounds: Answered requests of each round it was joined from, in order; empty for a single
            run.
        timeline: Its course; None where nothing was answered and in files of before there was one.
    """

    target: dict[str, Any]
    workload: dict[str, Any]
    load: dict[str, Any]
    response: Latencies
    service: Latencies
    lag: Latencies
    counts: Counts
    error_messages: tuple[str, ...]
    duration_s: float
    environment: Environment
    steal_share: float | None
    load_average: float
    command: str
    timestamp_utc: str
    rounds: tuple[int, ...] = ()
    cpu_s: float | None = None
    wire_bytes: int | None = None
    unwarmed: int = 0
    clock_drift_s: float = 0.0
    gpu: tuple[dict[str, Any], ...] = ()
    timeline: Timeline | None = None

    @property
    def name(self) -> str:
        """The target's name."""
        return str(self.target["name"])

    @property
    def on_gpu(self) -> bool:
        """Whether the target ran on a GPU."""
        return str(self.target["device"]).startswith("cuda")

    @property
    def requests_per_s(self) -> float:
        """Answered requests per second."""
        return self.counts.ok / self.duration_s if self.duration_s else 0.0

    @property
    def candidates_per_s(self) -> float:
        """Candidates scored per second."""
        return self.counts.candidates / self.duration_s if self.duration_s else 0.0

    @property
    def cpu_us_per_request(self) -> float | None:
        """CPU time of the generating processes for each request that was sent."""
        return None if self.cpu_s is None else self.cpu_s * 1e6 / max(1, self.counts.sent)

    @property
    def bytes_per_request(self) -> float | None:
        """Tensor bytes on the wire for each answered request."""
        return None if self.wire_bytes is None else self.wire_bytes / max(1, self.counts.ok)

    @property
    def void(self) -> tuple[str, ...]:
        """Why the measurement cannot be believed, and what to do; empty if it can."""
        return tuple(void_reasons(self))

    def worth(self, quantile: float) -> float:
        """Return how many independent requests a percentile of the response times rests on.

        That needs their order: without exact samples they are taken as independent.
        """
        samples = self.response.samples_ns
        if samples is None:
            return float(self.response.count)
        return worth(samples, quantile, self.rounds)

    def percentile(self, quantile: float, confidence: float = CONFIDENCE) -> Percentile | None:
        """Return a percentile of the response times; None if too few to know it.

        Its 95 % interval takes into account that requests of one queue, or of one round, are alike.
        """
        return self.response.percentile(quantile, self.worth(quantile), confidence)

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as JSON-ready data."""
        percentiles = [self.percentile(quantile) for quantile in QUANTILES]
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "target": self.target,
            "workload": self.workload,
            "load": self.load,
            "response": self.response.to_json(),
            "service": self.service.to_json(),
            "lag": self.lag.to_json(),
            "counts": self.counts.to_json(),
            "rounds": list(self.rounds),
            "timeline": None if self.timeline is None else self.timeline.to_json(),
            "percentiles": [each.to_json() for each in percentiles if each is not None],
            "requests_per_s": self.requests_per_s,
            "candidates_per_s": self.candidates_per_s,
            "cpu_s": self.cpu_s,
            "cpu_us_per_request": self.cpu_us_per_request,
            "wire_bytes": self.wire_bytes,
            "bytes_per_request": self.bytes_per_request,
            "unwarmed": self.unwarmed,
            "clock_drift_s": self.clock_drift_s,
            "gpu": list(self.gpu),
            "void": list(self.void),
            "error_messages": list(self.error_messages),
            "duration_s": self.duration_s,
            "environment": self.environment.to_json(),
            "steal_share": self.steal_share,
            "load_average": self.load_average,
            "command": self.command,
            "timestamp_utc": self.timestamp_utc,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Measurement:
        """Read what `to_json` wrote; derived numbers are computed anew."""
        counts = {name: data["counts"][name] for name in Counts.__slots__}
        return cls(
            target=data["target"],
            workload=data["workload"],
            load=data["load"],
            response=Latencies.from_json(data["response"]),
            service=Latencies.from_json(data["service"]),
            lag=Latencies.from_json(data["lag"]),
            counts=Counts(**counts),
            error_messages=tuple(data["error_messages"]),
            duration_s=data["duration_s"],
            environment=Environment.from_json(data["environment"]),
            steal_share=data["steal_share"],
            load_average=data["load_average"],
            command=data["command"],
            timestamp_utc=data["timestamp_utc"],
            # Files written before there were these lack them.
            rounds=tuple(data.get("rounds", ())),
            cpu_s=data.get("cpu_s"),
            wire_bytes=data.get("wire_bytes"),
            unwarmed=data.get("unwarmed", 0),
            clock_drift_s=data.get("clock_drift_s", 0.0),
            gpu=tuple(data.get("gpu", ())),
            timeline=Timeline.from_json(data.get("timeline")),
        )
