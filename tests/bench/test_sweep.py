from __future__ import annotations

import json
from contextlib import contextmanager

import pytest

from bench.measure import Load
from bench.sweep import Setting, Sweep, grid, run_sweep, serve_settings, sweep_table
from bench.workload import make_workload
from bench.workload_recipe import load_recipe
from rankers.errors import UserError


def test_the_grid_has_every_combination():
    found = grid([2, 3], [1], [0, 500])
    assert [each.model for each in found] == ["i2-t1-d0", "i2-t1-d500", "i3-t1-d0", "i3-t1-d500"]
    with pytest.raises(UserError, match="64 settings; one server takes 24 at most"):
        grid([2, 3, 4, 5], [1, 2, 3, 4], [0, 1, 2, 3])


def test_a_setting_says_how_to_deploy_it():
    from click.testing import CliRunner

    from optimize.cli import main

    text = Setting(2, 1, 300).deploy_options
    assert text == "--instances 2 --threads 1 --max-queue-delay-us 300"
    help_text = CliRunner().invoke(main, ["deploy", "--help"]).output
    for option in text.split()[::2]:
        assert option in help_text


def test_the_front_holds_what_nothing_else_beats(make_measurement):
    def measured(name, p99_s, seconds):
        return make_measurement(
            [p99_s] * 1000, duration_s=seconds, target={"name": name, "device": "cpu"}
        )

    measurements = (
        measured("fast", 0.001, 4.0),
        measured("busy", 0.002, 2.0),
        measured("beaten", 0.003, 3.0),
    )
    found = Sweep((), measurements, ())
    assert found.front == {"fast", "busy"}
    rows = {row[0]: row[-1] for row in sweep_table(found).rows}
    assert rows == {"fast": "*", "busy": "*", "beaten": ""}


def test_waiting_for_company_costs_a_lonely_request_its_delay(tiny_artifact, tmp_path):
    settings = grid([2], [1], [0, 20_000])
    workload = None
    with contextmanager(serve_settings)(
        tiny_artifact.folder, settings, tmp_path, lambda _: None
    ) as targets:
        workload = make_workload(load_recipe("interactive"), targets[0].signature, seed=0)
        found = run_sweep(targets, settings, workload, Load(count=80, warmup=2))
    winner = found.winners[0]
    assert winner.fastest == settings[0].name
    assert winner.sure
    patient = found.measurements[1].response.point_us(0.5)
    assert patient > 20_000  # one request at a time: nobody joins it
    assert any("--max-queue-delay-us 0" in text for text in found.texts)
    assert json.loads(json.dumps(found.to_json()))["settings"][0]["name"] == settings[0].name
