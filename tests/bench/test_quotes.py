"""A single figure of what was found, for a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.quotes import quote
from bench.results_file import Runs


def test_a_figure_is_that_of_the_tables(found_of, make_measurement):
    run = make_measurement(np.random.default_rng(0).permutation(np.arange(1, 1001)) / 1e3)
    assert quote(Runs((run,)), "a", "p99") == "990 ms"
    assert quote(Runs((run,)), "a", "requests/s") == "250 requests/s"
    assert quote(Runs((run,)), "a", "candidates/s") == "750 candidates/s"
    assert quote(found_of["compare"], "b", "ratio p50") == "0.51"
    assert quote(found_of["demo"], "b", "ratio p99") == "0.61"
    assert quote(found_of["capacity"], "a", "capacity") == "100 requests/s"


@pytest.mark.parametrize(
    ("kind", "target", "what"),
    [
        ("run", "nobody", "p50"),
        ("run", "a", "beauty"),
        ("run", "a", "p99.9"),  # of 800 requests
        ("run", "b", "ratio p50"),
        ("run", "a", "capacity"),
        ("compare", "a", "ratio p50"),  # the baseline
        ("capacity", "b", "capacity"),
    ],
)
def test_what_is_not_there_is_refused(found_of, kind, target, what):
    with pytest.raises(LookupError, match=f"there is no {what} of '{target}'"):
        quote(found_of[kind], target, what)


def test_what_rests_on_a_void_measurement_is_refused(found_of):
    found = found_of["compare"]
    a, b = found.measurements
    found = replace(found, measurements=(replace(a, steal_share=0.3), b))
    assert quote(found, "b", "p50").endswith(" ms")
    for target, what in (("a", "p50"), ("b", "ratio p50")):
        with pytest.raises(LookupError, match=r"'a' is void: .*30\.0% of CPU time was stolen"):
            quote(found, target, what)
    curve = found_of["capacity"]
    disturbed = replace(curve.points[0].measurement, steal_share=0.3)
    points = (replace(curve.points[0], measurement=disturbed), curve.points[1])
    with pytest.raises(LookupError, match="'a' is void"):
        quote(replace(curve, points=points), "a", "capacity")
