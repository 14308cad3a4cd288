from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from rankers.checkpoint import SEEN, load_checkpoint
from rankers.cli import main
from rankers.data.synthetic import ClickModel
from rankers.seen import count_ids


def run(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    for name, seed in (("one", 0), ("two", 1)):
        arguments = ("train", "dlrm", "--rows", 3000, "--seed", seed, "--out", folder / name)
        assert run(*arguments).exit_code == 0
    return folder / "one", folder / "two"


def test_a_checkpoint_is_judged_on_slices_and_beside_another(checkpoints, tmp_path):
    one, two = checkpoints
    out = tmp_path / "judged"
    done = run("evaluate", one, "--against", two, "--k", "1,5", "--slice", "rare", "--slice",
               "C1=0..12", "--resamples", 50, "--out", out, "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    overall, rare, values = found["slices"]
    assert [overall["name"], rare["name"], values["name"]] == [
        "overall", "rare:C21<10", "C1=0..12",
    ]  # fmt: skip
    assert rare["about"] == "C21 in fewer than 10 candidates of training"
    assert 0 < rare["rows"] < overall["rows"]
    trained = json.loads((one / "ranker.json").read_text())["training"]["quality"]
    assert overall["metrics"]["auc"] == pytest.approx(trained["auc"])
    assert {"ndcg_at_5", "mrr_at_1", "recall_at_5"} < set(overall["differences"])
    assert found == json.loads((out / "evaluation.json").read_text())
    assert "<svg" in (out / "reliability.svg").read_text()


def test_without_slices_the_usual_ones_are_judged_and_none_is_none(checkpoints):
    usual = run("evaluate", checkpoints[0], "--resamples", 20).stdout
    assert usual.startswith("overall\n")
    assert "rare:C21<10 (C21 in fewer than 10 candidates of training)" in usual
    assert "cold:C7<10" in usual
    alone = run("evaluate", checkpoints[0], "--resamples", 20, "--slice", "none").stdout
    assert usual.startswith(alone.rstrip())
    assert "rare" not in alone


def test_other_requests_are_judged_where_they_fit(checkpoints):
    done = run("evaluate", checkpoints[0], "--data", "synthetic:clicks", "--rows", 500,
               "--slice", "none", "--resamples", 20, "--json")  # fmt: skip
    assert json.loads(done.stdout)["slices"][0]["rows"] == ClickModel().draw(500).requests.rows


def test_a_checkpoint_keeps_how_often_training_met_each_id(checkpoints):
    ranker = load_checkpoint(checkpoints[0])
    log = ClickModel().draw(3000)
    held_out = count_ids(ranker.evaluation, ranker.signature)
    for name, counts in count_ids(log.requests, log.signature).items():
        assert (ranker.seen[name] == counts - held_out[name]).all(), name
    path = checkpoints[0] / SEEN
    before = path.read_bytes()
    try:
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert "damaged" in run("evaluate", checkpoints[0]).stderr
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--k", "0,5"], "expected whole numbers from 1"),
        (["--slice", "C99=1"], "unknown feature 'C99'"),
        (["--rows", "5"], "--rows is of --data"),
        (["--data", "nothing.tsv"], "nothing.tsv"),
        (
            ["--data", "synthetic:histories", "--rows", "500"],
            "is not for ranker 'dlrm': unknown user feature",
        ),
        (["--against", "dlmr"], "did you mean 'dlrm'"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(checkpoints, more, message):
    done = run("evaluate", checkpoints[0], *more)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not done.stdout
