"""The file has all that was found, the terminal the worst first, the picture each name."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import planted_ranker
import pytest
from click.testing import CliRunner

from optimize.cli import main
from optimize.gain import Speed
from optimize.recipe import load_recipe
from optimize.sensitivity.examine import FILE, PICTURE, write
from optimize.sensitivity.report import Sensitivity, tables
from optimize.sensitivity.trials import with_speeds

TRIAL = {
    "kind", "name", "treatment", "loss", "bytes_before", "bytes_after", "multiply_adds",
    "work_share", "column_bytes", "speed",
}  # fmt: skip
LOSS = {
    "score_change", "largest_change", "mean_change", "kendall", "kendall_worst", "overlap",
    "overlap_worst", "quality",
}  # fmt: skip


@pytest.fixture(scope="module")
def found(subject, trials):
    return Sensitivity(
        "planted", len(subject.requests), subject.requests.rows, labels=True, trials=trials, left={}
    )


@pytest.fixture(scope="module")
def written(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("found")
    write(found, folder)
    return folder


def test_the_file_has_every_trial_in_one_schema(written):
    data = json.loads((written / FILE).read_text())
    assert data.keys() == {
        "schema", "ranker", "requests", "rows", "labels", "trials", "left", "choice",
    }  # fmt: skip
    assert (data["schema"], data["requests"], data["labels"]) == (1, 60, True)
    assert len(data["trials"]) == 4 * 3 + 3 * 2 + 5
    for each in data["trials"]:
        assert each.keys() == TRIAL
        assert each["loss"].keys() == LOSS
        for change in each["loss"]["quality"].values():
            assert change["low"] <= change["estimate"] <= change["high"]


def test_the_picture_names_what_was_tried_and_fetches_nothing(written):
    text = (written / PICTURE).read_text()
    for name in ("loud", "unread", "spoilt", "last", "mood", "change of AUC"):
        assert f">{name}<" in text
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r'(href|src)="(?!#)', text)


def test_the_terminal_has_a_table_of_each_kind_with_the_worst_first(found):
    made = tables(found)
    assert [each.rows[0][0] for each in made] == ["loud", "spoilt", "item"]
    assert made[0].columns[:3] == ("table", "as", "score change")
    assert made[0].rows[0][1] == "int4"
    assert made[2].rows[-1][2] == "0.00%"
    unlabelled = tables(replace(found, labels=False))
    assert "ΔAUC, 1e-4" in made[0].columns
    assert "ΔAUC, 1e-4" not in unlabelled[0].columns
    assert "top-10 kept" in unlabelled[0].columns


def test_speeds_that_were_measured_stand_beside_the_layers_in_int8(found):
    speed = Speed(50, 1.5, 1.4, 1.6, 0.1, 0.15)
    measured = replace(found, trials=with_speeds(found.trials, {"fine": speed}))
    layers = tables(measured)[1]
    assert layers.columns[-1] == "speed"
    shown = {(row[0], row[1]): row[-1] for row in layers.rows}
    assert shown["fine", "int8"] == "1.50 (1.40 to 1.60)"
    assert {text for key, text in shown.items() if key != ("fine", "int8")} == {"-"}


def test_a_choice_is_told_step_by_step(found, chosen):
    choice = chosen("score=0.006")
    told = tables(replace(found, choice=choice))[-1]
    assert "score=0.006" in told.title
    assert len(told.rows) == len(choice.steps)
    assert {row[-1] for row in told.rows} == {"taken", "beyond the budget"}


class TestCommand:
    def test_it_prints_one_object_and_writes_the_files_and_the_recipe(self, tmp_path):
        out, recipe = tmp_path / "out", tmp_path / "mixed.toml"
        arguments = [f"{planted_ranker.__file__}:planted", "--only", "tables", "--width", "int8"]
        asked = ["--requests", "9", "--budget", "score=0.1", "--write-recipe", str(recipe)]
        done = CliRunner().invoke(
            main, ["sensitivity", *arguments, *asked, "--out", str(out), "--json"]
        )
        assert done.exit_code == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["requests"] == 9
        assert {(each["kind"], each["treatment"]) for each in said["trials"]} == {("table", "int8")}
        assert said["files"] == [str(recipe), str(out / FILE), str(out / PICTURE)]
        assert said["choice"]["layers"] == []
        (tables, *_) = load_recipe(str(recipe)).stages
        assert tables.stage.widths == said["choice"]["widths"]
        assert set(said["choice"]["widths"].values()) == {"int8"}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--only", "rows"], "--only is 'rows'; expected some of tables, layers, fields"),
            (["--budget", "auc"], "--budget is 'auc'"),
            (["--write-recipe", "r.toml"], "give one with --budget"),
            (["--budget", "auc=0.1", "--write-recipe", "r"], "expected a .toml file"),
            (["--budget", "auc=0.1", "--only", "fields"], "let --only name one of them"),
            (["--measure", "5", "--only", "tables"], "let --only name them"),
        ],
    )
    def test_mistakes_are_said_in_a_line(self, arguments, message):
        done = CliRunner().invoke(
            main, ["sensitivity", f"{planted_ranker.__file__}:planted", *arguments]
        )
        assert done.exit_code == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
