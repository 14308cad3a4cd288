"""Measurements as files, and joined."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bench.measurement import (
    SCHEMA,
    Counts,
    Measurement,
    load_measurements,
    save_measurements,
)
from bench.merging import merge_measurements
from rankers.errors import UserError


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


class TestMerge:
    def test_adds_what_adds_up(self, make_measurement):
        random = np.random.default_rng(0)
        parts = [make_measurement(random.exponential(0.01, size)) for size in (400, 600)]
        merged = merge_measurements(parts)
        assert merged.response.count == merged.counts.ok == 1000
        assert merged.duration_s == 8.0
        assert merged.requests_per_s == 125.0
        assert merged.candidates_per_s == 375.0

    def test_weighs_steal_by_time(self, make_measurement):
        short = make_measurement(steal_share=0.4, duration_s=1.0)
        long = make_measurement(steal_share=0.0, duration_s=3.0)
        assert merge_measurements([short, long]).steal_share == pytest.approx(0.1)

    @pytest.mark.parametrize("field", ["target", "workload", "load"])
    def test_refuses_what_does_not_belong_together(self, make_measurement, field):
        one = make_measurement()
        other = replace(one, **{field: getattr(one, field) | {"name": "b"}})
        with pytest.raises(UserError, match=f"differ in their {field}"):
            merge_measurements([one, other])

    def test_refuses_another_machine(self, make_measurement, machine):
        other = make_measurement(environment=replace(machine, cpu="Abacus"))
        with pytest.raises(UserError, match="differ in their environment"):
            merge_measurements([make_measurement(), other])


def test_a_merged_measurement_knows_its_rounds_and_a_single_one_has_none(make_measurement):
    first, second = make_measurement(np.full(40, 1e-3)), make_measurement(np.full(60, 1e-3))
    assert first.rounds == ()
    both = merge_measurements([first, second])
    assert both.rounds == (40, 60)
    assert merge_measurements([both, first]).rounds == (40, 60, 40)
    assert Measurement.from_json(both.to_json()).rounds == (40, 60)


def test_rounds_that_differ_widen_the_interval(make_measurement):
    random = np.random.default_rng(0)
    parts = [make_measurement(random.lognormal(-6 + r % 2, 0.1, 200)) for r in range(10)]
    merged = merge_measurements(parts)
    alone, honest = merged.response.percentile(0.5), merged.percentile(0.5)
    assert merged.worth(0.5) < 50
    assert honest is None or honest.high_us - honest.low_us > alone.high_us - alone.low_us


def test_a_file_from_before_there_were_rounds_is_read(make_measurement):
    data = make_measurement().to_json()
    del data["rounds"]
    assert Measurement.from_json(data).rounds == ()


class TestCost:
    def test_cpu_and_bytes_are_of_each_request(self, make_measurement):
        found = make_measurement(cpu_s=0.5, wire_bytes=2_000_000)  # 1,000 requests
        assert found.cpu_us_per_request == pytest.approx(500)
        assert found.bytes_per_request == 2000
        again = Measurement.from_json(json.loads(json.dumps(found.to_json())))
        assert (again.cpu_s, again.wire_bytes) == (0.5, 2_000_000)

    def test_files_of_before_have_none(self, make_measurement):
        data = make_measurement().to_json()
        for name in ("cpu_s", "wire_bytes", "unwarmed", "clock_drift_s"):
            del data[name]
        found = Measurement.from_json(data)
        assert found.cpu_us_per_request is None
        assert found.bytes_per_request is None
        assert not found.void

    def test_rounds_add_up(self, make_measurement):
        parts = [make_measurement(cpu_s=0.5, wire_bytes=10, unwarmed=1), make_measurement()]
        assert merge_measurements(parts[:1] * 2).cpu_s == 1.0
        assert merge_measurements(parts[:1] * 2).unwarmed == 2
        assert merge_measurements(parts).cpu_s is None
