from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from rankers.checkpoint import describe_checkpoint, load_checkpoint, save_checkpoint
from rankers.data.synthetic import ClickModel
from rankers.errors import UserError
from rankers.training import TrainingOptions, score_requests
from rankers.zoo import train_zoo

# Small batches: a log this short gives few steps.
OPTIONS = TrainingOptions(batch_rows=256)


@pytest.fixture(scope="module")
def log():
    return ClickModel().draw(20_000)


@pytest.fixture(scope="module")
def trained(log):
    return train_zoo("dlrm", log, OPTIONS)


@pytest.fixture
def checkpoint(trained, tmp_path):
    ranker, options, training = trained
    save_checkpoint(tmp_path / "dlrm", ranker, options, training.to_json())
    return tmp_path / "dlrm"


class TestTraining:
    def test_it_ranks_requests_it_has_not_seen(self, trained):
        _, _, training = trained
        assert training.quality.gauc > 0.6
        assert training.best_auc > training.quality.auc > 0.6
        assert training.closed == pytest.approx(
            (training.quality.auc - 0.5) / (training.best_auc - 0.5)
        )

    def test_the_same_seed_gives_the_same_weights(self, log, trained):
        ranker, _, training = train_zoo("dlrm", log, OPTIONS)
        for name, weight in ranker.module.state_dict().items():
            assert torch.equal(weight, trained[0].module.state_dict()[name]), name
        assert training.quality == trained[2].quality

    def test_another_seed_gives_other_weights(self, log, trained):
        ranker, _, _ = train_zoo("dlrm", log.first(4000), TrainingOptions(seed=1))
        first = trained[0].module.state_dict()["top.0.weight"]
        assert not torch.equal(ranker.module.state_dict()["top.0.weight"], first)

    def test_a_sample_of_what_was_trained_on_goes_with_it(self, log, trained):
        ranker, _, training = trained
        known, judging, learned = (
            {row.tobytes() for row in np.stack([*each.flat().values()][1:], axis=1)}
            for each in (log.requests, ranker.evaluation, ranker.calibration)
        )
        assert ranker.calibration is training.calibration
        assert learned <= known
        assert not learned & judging

    def test_it_leaves_tables_dense(self, trained):
        assert not any(table.sparse for table in trained[0].module.embedding.tables.values())

    def test_scores_of_requests_are_those_of_the_ranker(self, trained):
        ranker = trained[0]
        np.testing.assert_allclose(
            score_requests(ranker.module, ranker.evaluation),
            ranker.score(ranker.evaluation.flat()),
            atol=1e-6,
        )

    @pytest.mark.parametrize("name", ["epochs", "batch_rows", "learning_rate"])
    def test_an_option_that_cannot_be_is_refused(self, name):
        with pytest.raises(UserError, match=f"{name} is 0; expected a number above 0"):
            replace(TrainingOptions(), **{name: 0})

    def test_an_unknown_ranker_is_answered_with_the_nearest(self, log):
        with pytest.raises(UserError, match="unknown ranker 'dlmr'; did you mean 'dlrm'"):
            train_zoo("dlmr", log, TrainingOptions())


class TestCheckpoint:
    def test_it_loads_as_it_was_saved(self, trained, checkpoint):
        ranker, _, training = trained
        loaded = load_checkpoint(checkpoint)
        columns = ranker.evaluation.flat()
        np.testing.assert_array_equal(loaded.score(columns), ranker.score(columns))
        assert (loaded.name, loaded.signature) == (ranker.name, ranker.signature)
        np.testing.assert_array_equal(loaded.evaluation.labels, ranker.evaluation.labels)
        assert describe_checkpoint(checkpoint)["training"]["best_auc"] == training.best_auc
        for name, column in ranker.calibration.items.items():
            np.testing.assert_array_equal(loaded.calibration.items[name], column)

    @pytest.mark.parametrize("name", ["model.safetensors", "evaluation.safetensors", "ranker.json"])
    @pytest.mark.parametrize("place", [0.0, 0.5, 0.99])
    def test_a_flipped_byte_is_refused_by_name(self, checkpoint, name, place):
        path = checkpoint / name
        data = bytearray(path.read_bytes())
        data[int(len(data) * place)] ^= 1
        path.write_bytes(data)
        with pytest.raises(UserError, match=f"{name}: .*damaged"):
            load_checkpoint(checkpoint)

    def test_a_missing_file_is_refused_by_name(self, checkpoint):
        (checkpoint / "model.safetensors").unlink()
        with pytest.raises(UserError, match=r"model\.safetensors: missing"):
            load_checkpoint(checkpoint)

    def test_a_folder_that_is_no_checkpoint_is_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"no checkpoint here \(ranker\.json is missing\)"):
            load_checkpoint(tmp_path)

    def test_a_newer_schema_asks_for_an_upgrade(self, checkpoint):
        from rankers.checkpoint import _fingerprint

        data = json.loads((checkpoint / "ranker.json").read_text())
        del data["sha256"]
        data["schema"] = 99
        data["sha256"] = _fingerprint(data)
        (checkpoint / "ranker.json").write_text(json.dumps(data))
        with pytest.raises(UserError, match=r"schema 99.*upgrade"):
            load_checkpoint(checkpoint)


def test_a_zoo_ranker_is_trained_once_and_again_when_its_recipe_changes(monkeypatch, tmp_path):
    import rankers.zoo
    from rankers.zoo.catalogue import ZOO

    dlrm = ZOO["dlrm"]
    monkeypatch.setenv("RANKSERVE_CACHE", str(tmp_path))
    monkeypatch.setitem(ZOO, "dlrm", dataclasses.replace(dlrm, rows=3000))
    first = rankers.zoo.load_trained("dlrm")
    (folder,) = (tmp_path / "rankers").iterdir()
    made = (folder / "model.safetensors").stat().st_mtime_ns
    again = rankers.zoo.load_trained("dlrm")
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    columns = first.evaluation.flat()
    np.testing.assert_array_equal(first.score(columns), again.score(columns))
    monkeypatch.setitem(ZOO, "dlrm", dataclasses.replace(dlrm, rows=4000))
    rankers.zoo.load_trained("dlrm")
    assert len(list((tmp_path / "rankers").iterdir())) == 2
