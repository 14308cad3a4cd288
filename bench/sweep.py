"""Serving settings side by side: instances, threads and batch delay of one artifact.

Every setting is a model of its own on one embedded Triton, and all are measured in turn, so that
what disturbs the machine disturbs all of them. A setting that is idle costs memory and no time.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.compare import COMPARED_QUANTILES
from bench.latencies import percentile_label
from bench.measure import measure_rounds, round_seconds
from bench.measurement import Measurement
from bench.merging import merge_measurements
from bench.tables import Table, number_text, percentile_text
from bench.winners import Winner, find_winner, rounds_that_tell
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bench.measure import Load
    from bench.targets import Target
    from bench.workload import Workload

# More models than this on one server would take long to load and much memory.
MOST_SETTINGS = 24


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model is served: what `python -m optimize deploy` takes.

    Attributes:
        instances: That each run one batch at a time.
        threads: Of each instance.
        delay_us: How long a batch waits for company.
    """

    instances: int
    threads: int
    delay_us: int

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.instances} x {self.threads}, {self.delay_us} us"

    @property
    def model(self) -> str:
        """Its name on the server."""
        return f"i{self.instances}-t{self.threads}-d{self.delay_us}"

    @property
    def deploy_options(self) -> str:
        """What makes `deploy` serve an artifact so."""
        return (
            f"--instances {self.instances} --threads {self.threads} "
            f"--max-queue-delay-us {self.delay_us}"
        )


@dataclass(frozen=True, slots=True)
class Sweep:
    """What came out.

    Attributes:
        settings: In the order of the grid.
        measurements: One for each.
        winners: By percentile.
    """

    settings: tuple[Setting, ...]
    measurements: tuple[Measurement, ...]
    winners: tuple[Winner, ...]

    @property
    def front(self) -> frozenset[str]:
        """The settings that no other beats in p99 and in requests/s at once (Pareto)."""
        points = [(_p99(each), each.requests_per_s, each.name) for each in self.measurements]
        return frozenset(
            name
            for p99, rate, name in points
            if not any(
                other_p99 <= p99 and other_rate >= rate and (other_p99, other_rate) != (p99, rate)
                for other_p99, other_rate, _ in points
            )
        )

    @property
    def texts(self) -> tuple[str, ...]:
        """Say what is fastest, and how to deploy it."""
        by_name = {each.name: each for each in self.settings}
        return tuple(
            f"{percentile_label(each.quantile)}: {each.text}; deploy "
            f"{by_name[each.fastest].deploy_options}"
            for each in self.winners
        )

    def to_json(self) -> dict[str, Any]:
        """Return the sweep as JSON-ready data."""
        return {
            "settings": [
                {
                    "name": each.name,
                    "instances": each.instances,
                    "threads": each.threads,
                    "max_queue_delay_us": each.delay_us,
                    "on_the_front": each.name in self.front,
                }
                for each in self.settings
            ],
            "winners": [each.to_json() for each in self.winners],
            "texts": list(self.texts),
            "measurements": [each.to_json() for each in self.measurements],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Sweep:
        """Read what `to_json` wrote; the front is found anew."""
        return cls(
            settings=tuple(
                Setting(each["instances"], each["threads"], each["max_queue_delay_us"])
                for each in data["settings"]
            ),
            measurements=tuple(map(Measurement.from_json, data["measurements"])),
            winners=tuple(map(Winner.from_json, data["winners"])),
        )


def grid(
    instances: Sequence[int], threads: Sequence[int], delays_us: Sequence[int]
) -> tuple[Setting, ...]:
    """Return all combinations.

    Raises:
        UserError: There are too many.
    """
    found = tuple(Setting(*each) for each in itertools.product(instances, threads, delays_us))
    if len(found) > MOST_SETTINGS:
        raise UserError(f"{len(found)} settings; one server takes {MOST_SETTINGS} at most")
    return found


def run_sweep(
    targets: Sequence[Target],
    settings: Sequence[Setting],
    workload: Workload,
    load: Load,
    *,
    rounds: int | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Sweep:
    """Measure served settings in turn.

    Args:
        targets: One for each setting, named after it.
        settings: How each is served.
        workload: Sent to all.
        load: As for `bench.measure.measure_interleaved`.
        rounds: See there.
        command: What reproduces the measurements.
        say: Is told of each turn.

    Raises:
        UserError: A target does not score, or the rounds are too few to tell a winner.
    """
    rounds = rounds_that_tell(load, len(targets), rounds)
    parts = measure_rounds(targets, workload, load, rounds=rounds, command=command, say=say)
    names = [each.name for each in targets]
    times = [[round_seconds(part) for part in each] for each in parts]
    winners = (find_winner(times, names, quantile) for quantile in COMPARED_QUANTILES)
    return Sweep(
        settings=tuple(settings),
        measurements=tuple(merge_measurements(each) for each in parts),
        winners=tuple(each for each in winners if each is not None),
    )


def serve_settings(
    folder: Path, settings: Sequence[Setting], work: Path, say: Callable[[str], None]
) -> Iterator[Sequence[Target]]:
    """Serve an artifact once for each setting, for as long as the generator is held.

    Args:
        folder: An artifact's folder, or a run's.
        settings: How.
        work: A folder for the model repository and the server's log.
        say: Is told of the server's start.

    Raises:
        UserError: The artifact cannot be deployed, or a model does not load.
    """
    from bench.served import served_target
    from optimize.run import find_artifact
    from optimize.triton.config import ServingOptions
    from optimize.triton.embedded import serve
    from optimize.triton.repository import deploy

    artifact = find_artifact(folder)
    repository = work / "models"
    for each in settings:
        options = ServingOptions(
            instances=each.instances, threads=each.threads, max_queue_delay_us=each.delay_us
        )
        deploy(artifact, repository, each.model, options=options)
    with serve(
        repository,
        grpc_port=0,
        http_port=0,
        metrics_port=0,
        log_file=work / "triton.log",
        progress=say,
    ) as server:
        if server.failed:
            name, reason = next(iter(server.failed.items()))
            raise UserError(f"setting {name} will not load: {reason}")
        targets = [served_target(server.grpc_url, each.model, name=each.name) for each in settings]
        try:
            yield targets
        finally:
            for target in targets:
                target.close()


def sweep_table(found: Sweep) -> Table:
    """Return one row for each setting."""
    return Table(
        title="Settings: instances x threads, batch delay",
        columns=("setting", "p50, ms", "p99, ms", "requests/s", "front"),
        rows=tuple(
            (
                f"{each.name} (void)" if each.void else each.name,
                *(percentile_text(each.percentile(quantile)) for quantile in COMPARED_QUANTILES),
                number_text(each.requests_per_s),
                "*" if each.name in found.front else "",
            )
            for each in found.measurements
        ),
        note="*: no other setting is better in p99 and requests/s at once. All settings were "
        "served side by side by one server and measured in turn.",
    )


def _p99(measurement: Measurement) -> float:
    return (
        float(measurement.response.point_us(0.99)) if measurement.response.count else float("inf")
    )
