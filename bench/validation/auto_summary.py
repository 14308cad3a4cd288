"""What measuring the choices of ``auto`` says: ranker by ranker, and over the zoo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.compare import WORTH_FINDING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EAGER, COMPILED = "torch eager", "torch.compile"
_CHOSEN = ("auto", "auto, flat branches")
# What the project asks of the flat artifacts at p50, in geometric mean over the zoo.
ASKED = {EAGER: 3.0, COMPILED: 1.5}


def faster_than_kept(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the branches that beat what ``auto`` kept beyond noise.

    That is beyond doubt, and by 5 % at least, as when it chooses (`bench.choice`). ``auto`` chooses
    by p99 first, so a branch that is faster at one percentile and slower at the other is not told.
    ``torch.compile`` is a rival, which ``auto`` may not keep: each process would compile anew.
    """
    by_target: dict[str, list[dict[str, Any]]] = {}
    for each in one["ratios"]["auto"]:
        if each["target"] not in {*_CHOSEN, EAGER, COMPILED}:
            by_target.setdefault(each["target"], []).append(each)
    return [
        each
        for ratios in by_target.values()
        if not any(x["verdict"] == "slower" for x in ratios)
        for each in ratios
        if each["verdict"] == "faster" and each["value"] <= 1 / (1 + WORTH_FINDING)
    ]


def times_as_fast(one: Mapping[str, Any], kept: str, rival: str) -> dict[str, Any] | None:
    """Return how many times as fast as a rival something kept is at p50, with its interval."""
    for each in one["ratios"][kept]:
        if each["target"] == rival and each["quantile"] == 0.5:
            return {name: each[name] for name in ("value", "low", "high")}
    return None


def summarize(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what holds over the rankers that were measured, and the lines that say it."""
    said: list[str] = []
    means: dict[str, Any] = {}
    for kept in _CHOSEN:
        for rival, asked in ASKED.items():
            speeds = [times_as_fast(one, kept, rival) for one in found.values()]
            mean = _geometric_mean(x["value"] for x in speeds if x is not None)
            if mean is None:
                continue
            means[f"{kept} over {rival}"] = {
                "geometric_mean": mean,
                "rankers": sum(x is not None for x in speeds),
                "asked_of_flat": asked,
            }
            said.append(f"{kept}: {mean:.2f} times as fast as {rival} at p50, in geometric mean")
    lost = {name: beaten for name, one in found.items() if (beaten := faster_than_kept(one))}
    said.append(
        f"of {len(found)} rankers, {len(lost)} have a branch that is faster than what auto kept"
        + "".join(f"; {name}: {beaten[0]['target']}" for name, beaten in lost.items())
    )
    return {"speeds": means, "faster_than_kept": lost, "said": said}


def describe(name: str, one: Mapping[str, Any]) -> str:
    """Say in a line what was found for a ranker."""
    targets = one["measured"]["targets"]
    best = min((x for x in targets if x not in {*_CHOSEN, EAGER}), key=lambda x: _p50(targets, x))
    speeds = [
        f"{speed['value']:.2f} times {rival}"
        for rival in ASKED
        if (speed := times_as_fast(one, "auto", rival)) is not None
    ]
    return (
        f"{name}: kept {one['kept']['auto']}, p50 {_p50(targets, 'auto'):.3g} ms, "
        f"{' and '.join(speeds)}; best branch now {best}, {_p50(targets, best):.3g} ms"
        + (
            f"; disturbed: {one['measured']['disturbed'][0]}"
            if one["measured"]["disturbed"]
            else ""
        )
    )


def row(name: str, one: Mapping[str, Any]) -> str:
    """Return a row of the table in docs/runtimes.md."""
    cells = []
    for kept in _CHOSEN:
        cells.append(one["kept"][kept])
        cells += [_interval_text(times_as_fast(one, kept, rival)) for rival in ASKED]
    return f"| `{name}` | {' | '.join(cells)} |"


def _interval_text(ratio: Mapping[str, float] | None) -> str:
    return "" if ratio is None else "{value:.2f} ({low:.2f} to {high:.2f})".format(**ratio)


def _p50(targets: Mapping[str, Any], name: str) -> float:
    return float(targets[name]["p50_ms"])


def _geometric_mean(values: Iterable[float]) -> float | None:
    logs = np.log([*values])
    return float(np.exp(logs.mean())) if len(logs) else None
