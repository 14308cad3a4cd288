"""Results files: everything a command found, whole, and read again."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from bench.attribution import Split
from bench.measurement import SCHEMA, Counts
from bench.results_file import (
    KINDS,
    Runs,
    load_measurements,
    load_results,
    results_json,
    save_measurements,
    save_results,
)
from rankers.errors import UserError

RESULTS = Path(__file__).parents[2] / "bench" / "results"


class TestFile:
    def test_keeps_everything(self, make_measurement, tmp_path):
        before = make_measurement(error_messages=("Boom: x",), counts=Counts(900, 100, 3, 4, 5))
        save_measurements([before, make_measurement()], tmp_path / "r.json")
        after, _ = load_measurements(tmp_path / "r.json")
        assert after.to_json() == before.to_json()

    def test_is_plain_json_with_its_version(self, make_measurement, tmp_path):
        save_measurements([make_measurement()], tmp_path / "r.json")
        data = json.loads((tmp_path / "r.json").read_text())
        assert data["schema"] == SCHEMA
        assert data["measurements"][0]["requests_per_s"] == 250.0

    def test_cannot_contradict_itself(self, make_measurement, tmp_path):
        save_measurements([make_measurement(steal_share=0.5)], tmp_path / "r.json")
        data = json.loads((tmp_path / "r.json").read_text())
        data["measurements"][0] |= {"void": [], "requests_per_s": 1e9}
        (tmp_path / "r.json").write_text(json.dumps(data))
        (found,) = load_measurements(tmp_path / "r.json")
        assert found.void
        assert found.requests_per_s == 250.0

    def test_of_a_newer_version_is_refused(self, tmp_path):
        newer = {"kind": "rankserve-measurement", "schema": SCHEMA + 1, "measurements": []}
        (tmp_path / "r.json").write_text(json.dumps(newer))
        with pytest.raises(UserError, match=rf"schema {SCHEMA + 1}.*upgrade"):
            load_measurements(tmp_path / "r.json")

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", "{}", '{"kind": "recipe"}', "\x00\xff", "null"]
    )
    def test_that_is_something_else_is_refused_by_name(self, content, tmp_path):
        (tmp_path / "r.json").write_text(content)
        with pytest.raises(UserError, match=r"r\.json"):
            load_measurements(tmp_path / "r.json")

    def test_that_is_missing_is_refused_by_name(self, tmp_path):
        with pytest.raises(UserError, match=r"r\.json: cannot be read"):
            load_measurements(tmp_path / "r.json")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("response", None),
            ("response", {"count": 1, "histogram": "nonsense", "samples_ns": None}),
            ("response", {"count": 1, "histogram": "SElTVA==", "samples_ns": "!!"}),
            ("counts", {}),
            ("environment", {}),
        ],
    )
    def test_that_is_damaged_is_refused_by_name(self, make_measurement, tmp_path, field, value):
        save_measurements([make_measurement()], tmp_path / "r.json")
        data = json.loads((tmp_path / "r.json").read_text())
        data["measurements"][0][field] = value
        (tmp_path / "r.json").write_text(json.dumps(data))
        with pytest.raises(UserError, match=r"r\.json: damaged.*measure again"):
            load_measurements(tmp_path / "r.json")


class TestEveryKind:
    def test_is_known(self, found_of):
        assert {type(each) for each in found_of.values()} == set(KINDS.values())

    def test_comes_back_whole(self, found_of, tmp_path):
        for name, found in found_of.items():
            save_results(found, tmp_path / f"{name}.json")
            again = load_results(tmp_path / f"{name}.json").found
            assert type(again) is type(found)
            assert results_json(again) == results_json(found)
            assert again.to_json() == found.to_json()

    def test_has_its_measurements_read_by_all_that_read_measurements(self, found_of, tmp_path):
        for name, found in found_of.items():
            save_results(found, tmp_path / f"{name}.json")
            read = load_measurements(tmp_path / f"{name}.json")
            assert [each.name for each in read] == [each.name for each in found.measurements]
            assert len(read) > 0

    def test_that_lacks_a_part_is_refused_by_name(self, found_of, tmp_path):
        path = tmp_path / "r.json"
        for kind, part in {
            "compare": "ratios", "capacity": "slo", "crossover": "cells", "sweep": "settings",
            "demo": "under_load",
        }.items():  # fmt: skip
            save_results(found_of[kind], path)
            data = json.loads(path.read_text())
            del data[part]
            path.write_text(json.dumps(data))
            with pytest.raises(UserError, match=rf"r\.json: damaged: '{part}' is missing"):
                load_results(path)

    def test_says_which_command_made_it(self, found_of, tmp_path):
        save_results(found_of["sweep"], tmp_path / "r.json")
        assert load_results(tmp_path / "r.json").commands == ("python -m bench run a",)


def test_a_verdict_follows_from_its_interval_not_from_the_file(found_of, tmp_path):
    save_results(found_of["compare"], tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text())
    data["ratios"][0]["verdict"] = "slower"
    data["verdicts"] = {"b": "slower"}
    (tmp_path / "r.json").write_text(json.dumps(data))
    assert load_results(tmp_path / "r.json").found.verdict("b") == "faster"


def test_a_rate_is_judged_anew(found_of, tmp_path):
    save_results(found_of["capacity"], tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text())
    data["points"][1]["verdict"]["answer"] = "holds"
    data["points"][1]["goodput_per_s"] = 1e9
    (tmp_path / "r.json").write_text(json.dumps(data))
    point = load_results(tmp_path / "r.json").found.points[1]
    assert point.verdict.answer == "does not hold"
    assert point.goodput_per_s < 1000


def test_splits_of_traced_requests_are_kept_to_the_nanosecond(make_measurement, tmp_path):
    random = np.random.default_rng(0)
    splits = tuple(Split(*row) for row in random.integers(1, 10**6, (50, 4)) / 1e3)
    save_results(Runs((make_measurement(),), splits), tmp_path / "r.json")
    again = load_results(tmp_path / "r.json").found.splits
    rows, expected = ([astuple(each) for each in some] for some in (again, splits))
    assert np.allclose(rows, expected, rtol=0, atol=1e-9)


def test_files_of_before_there_were_kinds_and_timelines_are_read():
    for each in load_measurements(RESULTS / "demo-cpu.json"):
        assert each.response.count == each.counts.ok
