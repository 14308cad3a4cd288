"""All variants measured in turn, now, under one load: their p50s then compare."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from optimize.variants.variant import ORIGINAL
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.variants.variant import Variant


def measure_variants(variants: Sequence[Variant], seconds: float) -> list[Variant]:
    """Return variants with the p50 that each has now, in place of what was on record.

    Args:
        variants: With the original among them, whose evaluation requests are sent.
        seconds: That it may take about, over all of them.

    Raises:
        UserError: There is no run among them, so no original, or one cannot be opened here.
    """
    from bench.tables import load_text
    from optimize.artifact import open_artifact
    from optimize.branches import MeasureOptions
    from optimize.measuring import EAGER, measure_artifacts

    original = next((each for each in variants if each.name == ORIGINAL), None)
    if original is None or original.folder is None:
        raise UserError("--measure sends the evaluation requests of a run: give the folder of one")
    opened = {
        each.name: open_artifact(each.folder)
        for each in variants
        if each.folder is not None and each is not original and each.state != "failed"
    }
    options = MeasureOptions(seconds=seconds, deployable_only=False)
    found = measure_artifacts(opened, open_artifact(original.folder), options)
    measured = {
        ORIGINAL if each.name == EAGER else each.name: each
        for each in found.comparison.measurements
    }
    made = []
    for each in variants:
        run = measured.get(each.name)
        if run is None:
            made.append(replace(each, p50_ms={}, void={}))
            continue
        load = load_text(run)
        p50 = {load: run.response.point_us(0.5) / 1e3}
        made.append(replace(each, p50_ms=p50, void={load: run.void[0]} if run.void else {}))
    return made
