"""Measurements as JSON, and joined."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bench.measurement import Measurement
from bench.merging import merge_measurements
from rankers.errors import UserError


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
