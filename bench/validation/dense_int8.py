"""``python -m bench.validation.dense_int8``: what dense layers in int8 gain on this CPU, and cost.

The speed is that of rankers of published sizes (bench/int8_rankers.py), which are untrained: how
long a layer takes does not depend on its weights. Each is built in fp32 and in every form of int8,
and measured in turn, opened anew in several processes, against fp32 in ONNX Runtime.

What int8 costs is judged on trained rankers of the zoo, by the gates of the recipe ``cpu-fast``:
those verdicts are no times, and hold on a busy machine.

    python -m bench.validation.dense_int8 --work build/zoo --out FILE
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.environment import environment, load_average
from bench.validation.openings import Opened, measure_openings
from bench.validation.result import earlier, hand_over
from bench.validation.zoo_recipes import trained
from rankers.command_line import CommandLine, json_option
from rankers.zoo.catalogue import ZOO

if TYPE_CHECKING:
    from optimize.artifact import Artifact

KIND = "rankserve-validation-dense-int8"
FP32 = "onnx fp32"
_OPTIMIZED = ("optimize_onnx", {"level": "extended"})
FORMS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    FP32: (_OPTIMIZED,),
    "onnx int8, dynamic": (("quantize_dynamic", {}), _OPTIMIZED),
    "onnx int8, static": (("quantize_static", {}), _OPTIMIZED),
    "openvino fp32": (("export_openvino", {}),),
    "openvino int8, static": (("quantize_static", {}), ("export_openvino", {})),
}
INT8 = tuple(name for name in FORMS if "int8" in name)
# Candidates of a request, and how many times as fast as fp32 the best form is to be at p50.
ASKED = {
    "cross_encoder": (32, 1.8),
    "dlrm": (200, 1.5),
    "dcn_v2": (200, 1.5),
    "deepfm": (200, 1.5),
    "wide_deep": (200, 1.5),
}
RANKERS = Path(__file__).parents[1] / "int8_rankers.py"


def build_forms(captured: Artifact, store: Path, forms: tuple[str, ...]) -> dict[str, Artifact]:
    """Build a captured ranker in some of `FORMS`; what is in the store is not built again."""
    from optimize.build import run_stage

    exported = run_stage("export_onnx", {}, captured, store)
    built = {}
    for name in forms:
        made = exported
        for stage, options in FORMS[name]:
            made = run_stage(stage, options, made, store, data=captured)
        built[name] = made
    return built


def speed(
    ranker: str, candidates: int, store: Path, *, openings: int, seconds: float
) -> dict[str, Any]:
    """Measure a ranker's forms against fp32 in ONNX Runtime; return it JSON-ready.

    Args:
        ranker: As `rankers.ranker.load_ranker` takes it, with calibration requests.
        candidates: Of each request.
        store: Keeps what is built.
        openings: How many processes measure.
        seconds: That measuring may take about.
    """
    from bench.compare import compare_rounds
    from optimize.capture import capture
    from rankers.ranker import load_ranker

    busy = load_average()
    built = build_forms(capture(load_ranker(ranker), store, candidates=[1]), store, tuple(FORMS))
    found = measure_openings(
        [Opened(name, str(each.folder)) for name, each in built.items()],
        ranker,
        candidates=candidates,
        openings=openings,
        seconds=seconds,
    )
    names = list(built)
    ratios = compare_rounds(found.rounds, names, baseline=names.index(FP32))
    return {
        "candidates": candidates,
        "openings": openings,
        "load_average": busy,
        "notes": {name: list(each.manifest.notes) for name, each in built.items()},
        "measured": found.to_json(names),
        "ratios": [each.to_json() for each in ratios],
        "times_as_fast_at_p50": {
            each.target: {
                "value": 1 / each.value,
                "low": None if each.high is None else 1 / each.high,
                "high": None if each.low is None else 1 / each.low,
            }
            for each in ratios
            if each.quantile == 0.5
        },
    }


def gates(ranker: str, store: Path) -> dict[str, Any]:
    """Judge a trained ranker in every form of int8 by the limits of ``cpu-fast``."""
    from optimize.capture import capture
    from optimize.gates import judge
    from optimize.recipe import load_recipe
    from rankers.ranker import load_ranker

    limits = load_recipe("cpu-fast").gates
    captured = capture(load_ranker(ranker), store, candidates=limits.parity.candidates)
    found = {}
    for name, made in build_forms(captured, store, INT8).items():
        verdicts = judge(
            made,
            captured,
            limits.parity,
            limits.quality,
            ranking=limits.ranking,
            slices=limits.slices,
        )
        found[name] = {
            "passed": all(each.passed for each in verdicts),
            "notes": [x for x in made.manifest.notes if x.startswith("quantize_")],
            "verdicts": [each.to_json() for each in verdicts],
        }
    return found


def fastest_int8(one: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the form of int8 that is fastest at p50, and how it compares with fp32."""
    speeds = one["times_as_fast_at_p50"]
    best = max(INT8, key=lambda name: float(speeds[name]["value"]))
    return best, speeds[best]


def describe_speed(name: str, one: dict[str, Any]) -> str:
    """Say in a line which int8 is fastest, and what was asked."""
    best, found = fastest_int8(one)
    interval = (
        "too few rounds for an interval"
        if found["low"] is None or found["high"] is None
        else f"{found['low']:.2f} to {found['high']:.2f}"
    )
    return (
        f"{name} at N={one['candidates']}: {best} is {found['value']:.2f} times ({interval}) as "
        f"fast as {FP32}, {ASKED[name][1]} asked"
        + "".join(f"; disturbed: {reason}" for reason in one["measured"]["disturbed"][:1])
    )


def describe_gates(name: str, forms: dict[str, Any]) -> str:
    """Say in a line which forms of int8 a trained ranker may have."""
    said = []
    for form, one in forms.items():
        failed = [each for each in one["verdicts"] if not each["passed"]]
        reason = f"{failed[0]['gate']}: {failed[0]['reason']}" if failed else "passed"
        said.append(f"{form}: {reason}")
    return f"{name}, trained: {'; '.join(said)}"


def row(name: str, one: dict[str, Any], judged: dict[str, Any]) -> str:
    """Return a row of the table in docs/quantization-dense.md.

    Args:
        name: Of the ranker.
        one: What `speed` found.
        judged: What `gates` found on the trained ranker of that name.
    """
    told = []
    for form in INT8:
        found = one["times_as_fast_at_p50"][form]
        said = f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
        told.append(said if judged[form]["passed"] else f"{said}, cannot tell")
    asked = f"{ASKED[name][1]:g}"
    return f"| `{name}` | {one['candidates']} | {asked} | {' | '.join(told)} |"


@click.group(cls=CommandLine, invoke_without_command=True)
@click.option(
    "--ranker",
    "rankers",
    multiple=True,
    type=click.Choice([*ASKED]),
    default=[*ASKED],
    help="Of published size, to measure; all by default.",
)
@click.option(
    "--trained",
    "judged",
    multiple=True,
    type=click.Choice([*ZOO]),
    default=[*ASKED],
    help="Of the zoo, to judge; those of the same names by default.",
)
@click.option("--part", type=click.Choice(["speed", "gates", "both"]), default="both")
@click.option("--openings", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    default=60,
    show_default=True,
    help="That measuring a ranker may take about.",
)
@click.option(
    "--work", type=click.Path(path_type=Path), required=True, help="What is built is kept here."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the result here after each ranker. What is in it already is not done again.",
)
@json_option
def main(
    *,
    rankers: tuple[str, ...],
    judged: tuple[str, ...],
    part: str,
    openings: int,
    seconds: float,
    work: Path,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure dense int8 at published sizes, and judge it on trained rankers."""
    command = f"python -m bench.validation.dense_int8 --work build/zoo --openings {openings}"
    result = earlier(out, {"kind": KIND, "schema": 1, "command": command}) | {
        "environment": environment().to_json()
    }
    measured, verdicts = result.setdefault("speed", {}), result.setdefault("gates", {})
    for name in [] if part == "gates" else rankers:
        if name not in measured:
            measured[name] = speed(
                f"{RANKERS}:{name}",
                ASKED[name][0],
                work / f"{name}-published",
                openings=openings,
                seconds=seconds,
            )
            hand_over(result, out, as_json=False)
        click.echo(describe_speed(name, measured[name]), err=as_json)
    for name in [] if part == "speed" else judged:
        if name not in verdicts:
            verdicts[name] = gates(str(trained(name, work)), work / f"{name}-int8")
            hand_over(result, out, as_json=False)
        click.echo(describe_gates(name, verdicts[name]), err=as_json)
    hand_over(result, None, as_json=as_json)


if __name__ == "__main__":
    main()
