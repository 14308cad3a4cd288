"""Planted faults are stopped and harmless changes are not. The long version is committed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.validation.gates import Bench, plan, table_row
from bench.validation.planted import FAULTS, HIDDEN, LOSSLESS, LOSSY
from bench.validation.small_world import SIGNATURE, World

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"


@pytest.fixture(scope="module")
def bench():
    return Bench()


@pytest.fixture(scope="module")
def checks():
    result = json.loads((RESULTS / "gates.json").read_text())
    return {each["change"]: each for each in result["checks"]}


def count(bench, name, *, repeats=2):
    change, limits = next((change, limits) for each, change, limits in plan() if each == name)
    return bench.count(name, change, limits, repeats=repeats, seed=77)


@pytest.mark.parametrize("name", ["one channel zeroed", "two features swapped"])
def test_a_fault_is_stopped_though_parity_is_open(bench, name):
    found = count(bench, name)
    assert (found["stopped"], found["failed"], found["stopped_by_strict_parity"]) == (2, 2, 2)
    assert found["gates"]["parity"] == {"passed": 2}
    assert found["gates"]["ranking"] == {"failed": 2}


def test_what_the_mean_hides_is_stopped_by_its_slice(bench):
    found = count(bench, "rarest items share a row")
    assert found["gates"]["slices"] == {"failed": 2}
    assert found["failed_slices"]["rare:item"] == 2


def test_other_sums_pass_lossless_limits_and_other_precision_lossy_ones(bench):
    assert count(bench, "sums in another order")["stopped"] == 0
    assert count(bench, "weights in bfloat16")["stopped"] == 0


def test_the_world_draws_what_its_features_say_and_the_same_for_a_seed():
    world = World()
    drawn = world.draw(50, seed=3)
    drawn.check(SIGNATURE)
    np.testing.assert_array_equal(drawn.labels, World().draw(50, seed=3).labels)
    assert not np.array_equal(drawn.user["user"], world.draw(50, seed=4).user["user"])
    assert 0.15 < drawn.labels.mean() < 0.45


class TestCommitted:
    def test_it_has_every_change(self, checks):
        assert checks.keys() == FAULTS.keys() | LOSSLESS.keys() | LOSSY.keys()
        assert min(each["repeats"] for each in checks.values()) >= 200

    @pytest.mark.parametrize("name", FAULTS)
    def test_each_fault_is_stopped_each_time_and_by_the_lossless_recipe_too(self, checks, name):
        found = checks[name]
        assert found["stopped"] == found["stopped_by_strict_parity"] == found["repeats"]

    @pytest.mark.parametrize("name", HIDDEN)
    def test_a_hidden_fault_is_named_by_the_slice_that_it_is_in(self, checks, name):
        assert checks[name]["failed_slices"]["rare:item"] == checks[name]["repeats"]
        assert checks[name]["gates"]["quality"].get("failed", 0) <= 0.05 * checks[name]["repeats"]

    @pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
    def test_false_alarms_are_one_in_twenty_at_most(self, checks, name):
        assert checks[name]["stopped"] <= 0.05 * checks[name]["repeats"]
        assert not checks[name]["failed_slices"]

    def test_the_page_on_gates_has_these_counts(self, checks):
        page = (RESULTS.parents[2] / "docs" / "gates.md").read_text()
        assert [row for each in checks.values() if (row := table_row(each)) not in page] == []
