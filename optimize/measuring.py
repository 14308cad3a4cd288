"""Artifacts measured in turn, and which of them is kept. Runs in a child process of its own."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.checksums import file_sha256, fingerprint
from optimize.devices import runtime_device
from optimize.runtimes import DEPLOYABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.compare import Comparison
    from bench.targets import Target
    from bench.workload import Workload
    from optimize.artifact import Artifact
    from optimize.branches import MeasureOptions

EAGER = "torch eager"  # the captured program, which all are compared with and nobody keeps
RESULTS = "results.json"
CHOICE = "choice.json"
# With fewer rounds the intervals of many targets have no ends (bench.exchange.least_rounds).
_LEAST_ROUNDS = 20
_DISTINCT = 200
# Of the time, before it is counted: every size of request is sent once, as after a server's first
# minute, for some runtimes make kernels for each size.
_WARMUP_SHARE = 0.5
# Enough for a p99 with an interval, which is worth some more time than was allowed.
_LEAST_REQUESTS, _OVERTIME = 400, 3


@dataclass(frozen=True, slots=True)
class Measured:
    """What measuring found.

    Attributes:
        comparison: Every artifact, each compared with the one kept, or with the fastest of all if
            none was kept.
        kept: The name of the one kept, of those that may be; None if there is none.
        deployable: The name of the best that a server runs without torch; None if there is none.
        fastest: The name of the one that would be kept if any might.
        duels: How it came to both, as JSON-ready data.
    """

    comparison: Comparison
    kept: str | None
    deployable: str | None
    fastest: str
    duels: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write `RESULTS`, a results file of the bench, and `CHOICE` into a folder."""
        from bench.results_file import save_results

        save_results(self.comparison, folder / RESULTS)
        choice = {
            "kept": self.kept,
            "deployable": self.deployable,
            "fastest": self.fastest,
            "duels": self.duels,
        }
        (folder / CHOICE).write_text(json.dumps(choice, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Measured:
        """Read what `write` wrote.

        Raises:
            UserError: The results file is damaged.
        """
        from bench.compare import Comparison
        from bench.results_file import load_results

        found = load_results(folder / RESULTS).found
        if not isinstance(found, Comparison):
            raise TypeError(f"{folder / RESULTS} holds a {type(found).__name__}")
        choice = json.loads((folder / CHOICE).read_bytes())
        chosen = (choice[name] for name in ("kept", "deployable", "fastest", "duels"))
        return cls(found, *chosen)


def measurement_key(
    artifacts: Mapping[str, Artifact],
    captured: Artifact,
    options: MeasureOptions,
    *,
    device: str = "cpu",
) -> str:
    """Return a fingerprint of all that a measurement depends on but the moment."""
    from bench import load
    from bench.environment import environment

    here = environment()
    return fingerprint(
        {
            "artifacts": [[name, each.key] for name, each in artifacts.items()],
            "captured": captured.key,
            "options": options.to_json(),
            "machine": [here.machine, here.usable_cores, here.versions],
            "code": [file_sha256(Path(each)) for each in (__file__, str(load.__file__))],
        }
        | ({} if device == "cpu" else {"device": device})
    )


def measure_artifacts(
    artifacts: Mapping[str, Artifact],
    captured: Artifact,
    options: MeasureOptions,
    *,
    device: str = "cpu",
) -> Measured:
    """Measure artifacts in turn and choose.

    Args:
        artifacts: By name, in order of preference, simplest first.
        captured: The original. It is measured as well, as `EAGER`, and its evaluation requests are
            sent unless there is a workload.
        options: How much is sent.
        device: Where each runs, if its format can.

    Raises:
        UserError: An artifact cannot be opened or does not score, or the workload is wrong.
    """
    from bench.choice import choose
    from bench.compare import Comparison, compare_rounds
    from bench.measure import Load, default_rounds, measure_rounds, round_seconds
    from bench.merging import merge_measurements
    from bench.targets import open_artifact_target

    named = dict(artifacts) | {EAGER: captured}
    names = list(named)
    targets = [
        open_artifact_target(
            each.folder,
            name=name,
            threads=options.threads,
            device=runtime_device(each.manifest, device),
        )
        for name, each in named.items()
    ]
    requests = _workload(captured, options)
    each_s = sum(_usual_seconds(target, requests) for target in targets)
    afforded = int(options.seconds / each_s)
    if afforded < _LEAST_REQUESTS <= _OVERTIME * afforded:
        afforded = _LEAST_REQUESTS
    count = max(_LEAST_ROUNDS, min(options.requests, afforded))
    warmup = min(len(requests.requests), int(_WARMUP_SHARE * options.seconds / each_s))
    load = Load(count=count, warmup=warmup)
    rounds = max(_LEAST_ROUNDS, default_rounds(load))
    parts = measure_rounds(targets, requests, load, rounds=rounds)
    times = [[round_seconds(part) for part in each] for each in parts]

    def best(of: Sequence[str]) -> Any:
        return choose([times[names.index(name)] for name in of], of)

    everything = best(names)
    may_be = [name for name in artifacts if name not in options.rivals]
    bare = [name for name in may_be if artifacts[name].manifest.format in DEPLOYABLE]
    deployable = best(bare) if bare else None
    allowed = bare if options.deployable_only else may_be
    kept = best(allowed) if allowed else None
    baseline = everything.kept if kept is None else kept.kept
    return Measured(
        comparison=Comparison(
            measurements=tuple(merge_measurements(each) for each in parts),
            ratios=compare_rounds(times, names, baseline=names.index(baseline)),
        ),
        kept=None if kept is None else kept.kept,
        deployable=None if deployable is None else deployable.kept,
        fastest=everything.kept,
        duels={
            "kept": [] if kept is None else kept.to_json()["duels"],
            "fastest": everything.to_json()["duels"],
        },
    )


def _workload(captured: Artifact, options: MeasureOptions) -> Workload:
    from bench.workload import draw_workload, make_workload

    if options.workload is not None:
        from bench.workload_recipe import load_recipe

        return make_workload(load_recipe(options.workload), captured.manifest.signature)
    from optimize.artifact import EVIDENCE
    from optimize.capture import EVALUATION
    from rankers.requests import load_requests

    log = load_requests(captured.folder / EVIDENCE / EVALUATION)
    return draw_workload(log, distinct=_DISTINCT, name="the evaluation requests")


def _usual_seconds(target: Target, workload: Workload) -> float:
    """Return the median time of a few calls, to know how many can be afforded."""
    places = [index % len(workload.requests) for index in range(3)]
    prepared = [target.prepare(workload.requests[place]) for place in places]
    for each in prepared:
        target(each)
    took = []
    for each in prepared * 3:
        began = time.perf_counter()
        target(each)
        took.append(time.perf_counter() - began)
    return statistics.median(took)
