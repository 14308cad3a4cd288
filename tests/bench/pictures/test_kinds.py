"""Each kind of picture shows what was measured, with units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.attribution import Split
from bench.load import open_loop
from bench.pictures.capacity import capacity_figure
from bench.pictures.crossover import crossover_figure, crossover_pictures
from bench.pictures.latency import latency_figure, latency_picture
from bench.pictures.pareto import Place, front, pareto_figure, pareto_picture
from bench.pictures.split import split_figure
from bench.pictures.timeline import timeline_figure, timeline_picture
from bench.timeline import record


def lines(axes, label):
    return [line for line in axes.lines if line.get_label() == label]


class TestLatency:
    def test_a_curve_falls_from_all_requests_to_one(self, make_measurement):
        run = make_measurement(np.array([0.004, 0.001, 0.002, 0.002]))
        (curve,) = lines(latency_figure([run]).axes[0], "a (void)")
        assert curve.get_xdata().tolist() == [1.0, 2.0, 4.0]
        assert curve.get_ydata().tolist() == [1.0, 0.75, 0.25]

    def test_a_run_without_answers_is_left_out(self, make_measurement):
        assert len(latency_figure([make_measurement(np.empty(0))]).axes[0].lines) == 0

    def test_bars_are_those_of_the_independent_requests(self, make_measurement):
        ascending = make_measurement(np.arange(1, 1001) / 1e3)  # worth few: no p99
        bars = latency_figure([ascending]).axes[0].lines[1:]
        known = [q for q in (0.5, 0.9, 0.99, 0.999) if ascending.percentile(q) is not None]
        assert len(bars) == len(known) < 3

    def test_of_more_than_can_be_told_apart_the_fastest_are_drawn(self, make_measurement):
        runs = [
            make_measurement(np.full(400, 0.001 * (9 - place)), target={"name": f"{place}"})
            for place in range(9)
        ]
        picture = latency_picture(runs)
        labels = picture.draw("black").axes[0].get_legend_handles_labels()[1]
        assert labels == ["3", "4", "5", "6", "7", "8"]
        assert "The 3 with the slowest p99 are left out" in picture.caption

    def test_runs_of_one_name_are_told_apart_by_their_loads(self, make_measurement):
        load = {"mode": "open", "pattern": "poisson", "rate_per_s": 200.0, "workers": None}
        axes = latency_figure([make_measurement(), make_measurement(load=load)]).axes[0]
        assert axes.get_legend_handles_labels()[1] == [
            "a, closed, 1 at once; 3 candidates",
            "a, open, Poisson 200/s; 3 candidates",
        ]


class TestCapacity:
    def test_it_has_the_objective_the_capacity_and_the_goodput(self, found_of):
        found = found_of["capacity"]
        above, below = capacity_figure(found).axes
        (objective,) = lines(above, "objective: p99 ≤ 20 ms")
        assert set(objective.get_ydata()) == {20.0}
        (goodput,) = lines(below, "goodput")
        assert goodput.get_ydata().tolist() == [each.goodput_per_s for each in found.points]
        assert [text.get_text() for text in above.texts] == ["capacity 100/s"]
        (p99,) = lines(above, "p99")
        expected = [each.measurement.response.point_us(0.99) / 1e3 for each in found.points]
        assert p99.get_ydata().tolist() == expected

    def test_only_rates_that_hold_are_filled(self, found_of):
        above, _ = capacity_figure(found_of["capacity"]).axes
        points = [line for line in above.lines if line.get_marker() == "o"]
        hollow = {line.get_xdata()[0]: line.get_markerfacecolor() == "none" for line in points}
        assert hollow == {100.0: False, 140.0: True}

    def test_void_runs_are_crossed_out(self, found_of):
        found = found_of["capacity"]
        assert lines(capacity_figure(found).axes[0], "void run") == []
        disturbed = replace(found.points[1].measurement, steal_share=0.3)
        points = (found.points[0], replace(found.points[1], measurement=disturbed))
        (crosses,) = lines(capacity_figure(replace(found, points=points)).axes[0], "void run")
        assert crosses.get_xdata().tolist() == [140.0]
        assert crosses.get_ydata().tolist() == [disturbed.response.point_us(0.99) / 1e3]


class TestTimeline:
    def test_a_stall_is_seen_in_the_slowest_and_in_what_was_sent_late(self, make_measurement):
        slow = iter([False] * 40 + [True] + [False] * 1000)

        def call(_):
            import time

            if next(slow):
                time.sleep(0.2)

        found = open_loop(call, [0], schedule_s=np.arange(200) / 200, workers=1)
        above, below = timeline_figure(make_measurement(timeline=record(found))).axes
        by_label = {each.get_label(): each.get_data().values for each in above.patches}
        assert np.nanmax(by_label["slowest of a slice"]) >= 200  # ms
        assert np.nanmax(by_label["sent late, at worst"]) > 100
        assert below.get_xlabel() == "time of measuring, s"

    def test_that_a_run_is_void_stands_above_it_and_why_below(self, make_measurement):
        picture = timeline_picture(make_measurement(steal_share=0.3))
        assert picture.title.startswith("a (void): closed")
        assert "Void: 30.0% of CPU time was stolen" in picture.caption

    def test_without_a_timeline_there_is_none(self, make_measurement):
        with pytest.raises(ValueError, match="no timeline"):
            timeline_figure(make_measurement())


class TestPareto:
    def test_the_front_holds_what_nothing_else_beats(self):
        best = Place("best", 1.0, 100.0, None, None)
        busy = Place("busy", 2.0, 200.0, None, None)
        beaten = Place("beaten", 3.0, 150.0, None, None)
        same = Place("as slow, and less", 1.0, 90.0, None, None)
        assert front([beaten, busy, same, best]) == [best, busy]

    def test_names_cover_neither_each_other_nor_points(self):
        places = [Place(f"setting {n}", 5 + n / 20, 1000 + 5 * n, None, None) for n in range(6)]
        places.append(Place("far away", 50.0, 5000.0, None, None))
        figure = pareto_figure(places)
        axes = figure.axes[0]
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == len(places)
        crossing = sum(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[place + 1 :])
        assert crossing == 0

    def test_what_else_is_known_stands_below_the_name(self, make_measurement):
        picture = pareto_picture([make_measurement()] * 2, {"a": "6.3 MB, AUC 0.78"})
        texts = {text.get_text() for text in picture.draw("black").axes[0].texts}
        assert texts == {"a\n6.3 MB, AUC 0.78"}


class TestCrossover:
    def test_there_is_a_picture_for_each_load_and_a_line_for_each_target(self, found_of):
        found = found_of["crossover"]
        assert [each.title.rpartition(": ")[2] for each in crossover_pictures(found)] == [
            "closed loop", "50/s",
        ]  # fmt: skip
        p50, p99 = crossover_figure(found.cells[:2]).axes
        assert p50.get_legend_handles_labels()[1] == ["a", "b"]
        (line,) = lines(p50, "b")
        assert line.get_xdata().tolist() == [1, 100]
        assert p99.get_title() == "p99"

    def test_void_runs_are_crossed_out(self, found_of):
        cell = found_of["crossover"].cells[0]
        void = replace(cell.measurements[1], steal_share=0.3)
        cells = [replace(cell, measurements=(cell.measurements[0], void))]
        for axes, quantile in zip(crossover_figure(cells).axes, (0.5, 0.99), strict=True):
            (crosses,) = lines(axes, "void run")
            assert crosses.get_ydata().tolist() == [void.response.point_us(quantile) / 1e3]


def test_the_parts_of_the_time_add_up_to_all_of_it():
    splits = [Split(10.0, 20.0, 30.0, 40.0)] * 8
    axes = split_figure(splits).axes[0]
    widths = [bar.get_width() for bar in axes.patches if bar.get_y() == axes.patches[0].get_y()]
    assert widths == pytest.approx([10, 20, 30, 40])
    assert axes.get_xlabel() == "share of the mean time, %"
