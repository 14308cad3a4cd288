from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from rankers.cli import main
from rankers.data.synthetic import ClickModel
from rankers.errors import UserError
from rankers.training import TrainingOptions
from rankers.training.batches import Batches
from rankers.training.curve import learning_curve_svg
from rankers.training.distributed import Share
from rankers.zoo import train_zoo

OPTIONS = TrainingOptions(batch_rows=512)
TWICE = replace(OPTIONS, epochs=2)
SMALLER = {"embedding": 8, "bottom": [16], "top": [32]}  # its state is quickly saved


def train_dlrm(log, options, **more):
    return train_zoo("dlrm", log, options, overrides=SMALLER, **more)


@pytest.fixture(scope="module")
def log():
    return ClickModel().draw(8000)


@pytest.fixture(scope="module")
def whole(log):
    """Train without an interruption."""
    return train_dlrm(log, TWICE)


def weights(trained):
    return trained[0].module.state_dict()


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


class StopError(Exception):
    pass


def stop_after(steps, monkeypatch):
    """Let the learner fail at its next step after so many."""
    from rankers.training.learner import Learner

    step, done = Learner.step, []

    def counted(self, batch):
        if len(done) == steps:
            raise StopError
        done.append(1)
        return step(self, batch)

    monkeypatch.setattr(Learner, "step", counted)
    return done


@pytest.mark.parametrize("steps", [3, 12, 14])
def test_an_interrupted_training_goes_on_to_the_same_weights(
    log, whole, tmp_path, monkeypatch, steps
):
    path = tmp_path / "unfinished"
    with monkeypatch.context() as patch:
        stop_after(steps, patch)
        with pytest.raises(StopError):
            train_dlrm(log, TWICE, resume=path, save_every_s=0)
    with monkeypatch.context() as patch:
        done = stop_after(10**9, patch)
        again = train_dlrm(log, TWICE, resume=path, save_every_s=0)
    per_epoch = -(-whole[2].rows // 512)
    assert len(done) == 2 * per_epoch - steps
    assert same(weights(whole), weights(again))
    assert again[2].curve == whole[2].curve
    assert not path.exists()


def test_the_state_of_another_training_is_not_gone_on_from(log, tmp_path, monkeypatch):
    path = tmp_path / "unfinished"
    with monkeypatch.context() as patch:
        stop_after(5, patch)
        with pytest.raises(StopError):
            train_dlrm(log, OPTIONS, resume=path, save_every_s=0)
    other = replace(OPTIONS, seed=1)
    assert same(weights(train_dlrm(log, other, resume=path)), weights(train_dlrm(log, other)))
    path.write_bytes(b"damaged")
    train_dlrm(log, other, resume=path)


def test_patience_stops_and_goes_back_to_the_best_epoch(log):
    options = replace(OPTIONS, epochs=12, patience=2, learning_rate=0.02)
    _, _, training = train_dlrm(log, options)
    noted = [each["auc"] for each in training.epochs]
    assert training.kept == noted.index(max(noted))
    assert len(noted) == min(12, training.kept + 3)
    assert len(noted) < 12
    kept = replace(options, epochs=12)
    assert training.options == kept
    # The kept weights are those of that epoch, judged on requests that chose nothing.
    assert training.quality.auc is not None


def test_less_logloss_is_better(log):
    _, _, training = train_dlrm(
        log, replace(OPTIONS, epochs=6, patience=1, metric="logloss", learning_rate=0.02)
    )
    noted = [each["logloss"] for each in training.epochs]
    assert training.kept == noted.index(min(noted))
    assert training.closed is not None


def test_validation_requests_are_not_trained_on(log):
    without = train_dlrm(log, OPTIONS)[2]
    _, _, training = train_dlrm(log, replace(OPTIONS, patience=1))
    assert training.rows < without.rows
    assert len(training.evaluation) == len(without.evaluation)


@pytest.mark.parametrize("loss", ["pairwise", "listwise"])
def test_ranking_losses_learn_to_rank(log, loss):
    _, _, training = train_dlrm(log, replace(OPTIONS, loss=loss, metric="ndcg_at_10"))
    assert training.quality.gauc > 0.55
    assert training.closed > 0.1


def test_every_row_is_in_one_batch_of_an_epoch(log):
    for whole in (False, True):
        for processes in (1, 3):
            rows = 0
            for rank in range(processes):
                batches = Batches(
                    log, 700, whole_requests=whole, seed=0,
                    share=Share(rank, processes), device="cpu",
                )  # fmt: skip
                parts = list(batches.epoch(0))
                assert len(parts) == len(batches)
                rows += sum(len(each.labels) for each in parts)
                if whole:
                    for each in parts:
                        assert (each.request.diff() >= 0).all()
            assert rows == log.requests.rows
            assert sum(each.rows for each in parts) == log.requests.rows


def test_bfloat16_and_a_compiler_train_too(log):
    exact = train_dlrm(log, OPTIONS)
    compiled = train_dlrm(log, replace(OPTIONS, compile="eager"))
    rounded = train_dlrm(log, replace(OPTIONS, precision="bfloat16"))
    assert compiled[2].quality.auc == pytest.approx(exact[2].quality.auc, abs=0.01)
    assert rounded[2].quality.auc == pytest.approx(exact[2].quality.auc, abs=0.02)
    assert not same(weights(rounded), weights(exact))


def test_a_gpu_that_is_not_there_is_refused(log):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="torch sees no GPU here"):
        train_dlrm(log, replace(OPTIONS, device="cuda"))


@pytest.mark.parametrize(
    ("name", "value"), [("loss", "hinge"), ("metric", "aux"), ("precision", "int8")]
)
def test_an_unknown_choice_is_refused(name, value):
    with pytest.raises(UserError, match=f"unknown {name} '{value}'"):
        replace(OPTIONS, **{name: value})


def test_an_unknown_option_of_a_ranker_is_answered_with_the_nearest(log):
    with pytest.raises(UserError, match="has no option 'embeding'; did you mean 'embedding'"):
        train_zoo("dlrm", log, OPTIONS, overrides={"embeding": 8})


def test_the_learning_curve_names_what_it_shows(whole):
    _, _, training = whole
    text = learning_curve_svg(training, "dlrm on <clicks>")
    for words in (
        "steps of 512 rows",
        "nats a row",
        "auc after each epoch",
        "dlrm on &lt;clicks&gt;",
    ):
        assert words in text
    assert "prefers-color-scheme:dark" in text
    assert [step for step, _ in training.curve][-1] == 2 * -(-training.rows // 512)


def arguments(out, *more):
    return [
        "train", "dlrm", "--data", "synthetic:clicks", "--rows", "6000", "--batch-rows", "256",
        "--json", "--out", str(out), *more,
    ]  # fmt: skip


def train_here(out, *more):
    """Give the same command to this process, which need not start first."""
    done = CliRunner().invoke(main, arguments(out, *more), catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)["training"], done.stderr


def test_a_killed_command_goes_on_where_it_stood(tmp_path):
    whole, _ = train_here(tmp_path / "whole", "--epochs", "3")
    out = tmp_path / "cut"
    again = ["--epochs", "3", "--save-every", "0"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "rankers", *arguments(out, *again)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    state = tmp_path / "cut.unfinished"
    deadline = time.monotonic() + 60
    while not state.exists() and time.monotonic() < deadline and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert state.exists()
    assert not out.exists()
    resumed, said = train_here(out, *again)
    assert "goes on at step" in said
    assert whole["quality"] == resumed["quality"]
    assert whole["curve"] == resumed["curve"]
    assert (out / "learning-curve.svg").is_file()
    assert not state.exists()


def test_two_processes_train_as_one(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    both = subprocess.run(
        [sys.executable, *torchrun, "-m", "rankers", *arguments(tmp_path / "two")],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert both.returncode == 0, both.stderr
    first, _ = train_here(tmp_path / "one")
    second = json.loads(both.stdout)["training"]
    assert second["quality"]["auc"] == pytest.approx(first["quality"]["auc"], abs=2e-3)
    assert second["rows"] == first["rows"]
