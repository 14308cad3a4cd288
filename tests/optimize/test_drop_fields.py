"""The stage: what is useless goes, from request, graph and bytes; what is needed stays."""

from __future__ import annotations

import json

import field_rankers
import numpy as np
import onnx
import pytest
from in_process import children_in_this_process

from client.packing import Packing
from optimize import pipeline
from optimize.build import run_stage
from optimize.capture import capture, score_batch
from optimize.children import default_limits
from optimize.gate_limits import ParityLimits, QualityLimits, SliceLimits
from optimize.gates import judge
from optimize.recipe import load_recipe
from optimize.runtimes import open_predictor
from optimize.stages.drop_fields import REPORT
from optimize.tables.counts import read_counts
from rankers.errors import UserError
from rankers.requests import RankingRequest, RequestBatch, RequestError
from rankers.seen import save_counts
from rankers.wire import request_bytes

COLOURS = 500 * 8 * 4  # bytes of the table that goes


@pytest.fixture(scope="module")
def captured(store):
    return capture(field_rankers.fields(), store, candidates=(1, 5))


@pytest.fixture(scope="module")
def unlabelled(store):
    return capture(field_rankers.unlabelled(), store, candidates=(1, 5))


@pytest.fixture(scope="module")
def dropped(captured, store):
    """Run the stage with options on the ranker."""

    def run(source=captured, **options):
        return run_stage("drop_fields", {"repeats": 1} | options, source, store, data=source)

    return run


@pytest.fixture(scope="module")
def lean(dropped):
    """Return the ranker without what its AUC does not miss."""
    return dropped(max_auc_loss=1e-4)


def report(artifact):
    return json.loads((artifact.folder / REPORT).read_text())


def scores(artifact, batch):
    return score_batch(open_predictor(artifact), batch, artifact.manifest.columns_of)


def without(batch, *names):
    return RequestBatch(
        {name: x for name, x in batch.user.items() if name not in names},
        {name: x for name, x in batch.items.items() if name not in names},
        batch.offsets,
        batch.labels,
    )


def names_of(artifact):
    return [each.name for each in artifact.manifest.signature.features]


class TestImportance:
    def test_the_useless_feature_is_worth_nothing_and_needed_ones_much(self, lean):
        found = {each["name"]: each for each in report(lean)["fields"]}
        assert next(iter(found)) == "colour"
        assert found["colour"]["losses"]["auc"] == {"estimate": 0, "low": 0, "high": 0}
        assert found["colour"]["score_change"]["high"] < 1e-6
        assert 0 < found["shade"]["score_change"]["high"] < 0.2
        for name in ("item", "mood", "price"):
            assert found[name]["losses"]["auc"]["low"] > 0.01
            assert found[name]["score_change"]["low"] > 0.2


class TestUselessFeature:
    def test_it_alone_goes_and_why_others_stay_is_said(self, lean):
        assert names_of(lean) == ["mood", "recent", "item", "shade", "price"]
        assert lean.manifest.signature.ignored == ("colour",)
        kept = report(lean)["kept"]
        assert set(kept) == {"mood", "recent", "item", "shade", "price"}
        assert "the AUC would lose up to" in kept["item"]

    def test_requests_without_it_score_as_they_did_with_it(self, lean, captured):
        batch = field_rankers.requests(20, 3)
        new = scores(lean, without(batch, "colour"))
        np.testing.assert_allclose(new, scores(captured, batch), atol=1e-6)

    def test_its_bytes_go_from_the_request_and_from_the_weights(self, lean, captured):
        found = report(lean)
        saved = found["weight_bytes"]["before"] - found["weight_bytes"]["after"]
        assert COLOURS - 100 < saved <= COLOURS
        assert captured.model_bytes - lean.model_bytes > 0.9 * COLOURS
        wire = found["request_bytes"]
        assert wire["before"] - wire["after"] == 8
        assert wire["after"] == request_bytes(lean.manifest.signature, found["candidates"])

    def test_the_gates_pass_and_still_look_at_slices_of_it(self, lean, captured):
        verdicts = judge(
            lean,
            captured,
            ParityLimits(),
            QualityLimits(),
            slices=SliceLimits(also=("colour=0..250",)),
        )
        assert all(each.passed for each in verdicts)
        assert "colour=0..250" in verdicts[-1].numbers["slices"]

    def test_onnx_asks_for_what_is_left_after_the_users_part_is_split_off(
        self, lean, captured, store
    ):
        split = run_stage("user_once", {"when": "always"}, lean, store)
        exported = run_stage("export_onnx", {}, split, store)
        inputs = {each.name for each in onnx.load(exported.model_path).graph.input}
        assert inputs == {*names_of(lean), "item_to_request"}
        batch = field_rankers.requests(20, 3)
        np.testing.assert_allclose(scores(exported, batch), scores(captured, batch), atol=2e-6)


class TestRequests:
    """Clients may leave a dropped feature out, or go on sending it."""

    def test_with_it_and_without_the_same_bytes_are_sent(self, lean):
        request = field_rankers.requests(3, 4)[0]
        user = {name: x for name, x in request.user.items() if name != "colour"}
        packing = Packing(lean.manifest.signature)
        old, new = packing.pack(request), packing.pack(RankingRequest(user, request.items))
        assert list(old) == list(new)
        for name, tensor in old.items():
            np.testing.assert_array_equal(tensor, new[name])

    def test_one_that_is_unknown_is_still_an_error(self, lean):
        request = field_rankers.requests(3, 4)[0]
        user = request.user | {"color": request.user["colour"]}
        with pytest.raises(RequestError, match="unknown user feature 'color'"):
            RankingRequest(user, request.items).check(lean.manifest.signature)

    def test_counts_of_its_ids_are_passed_over(self, lean, tmp_path):
        path = tmp_path / "seen.safetensors"
        save_counts({"colour": np.ones(500, np.int64), "item": np.ones(60, np.int64)}, path)
        assert set(read_counts(str(path), lean.manifest.signature)) == {"item"}


class TestChoice:
    def test_so_many_features_stay_as_are_asked_for_the_worthiest(self, dropped):
        artifact = dropped(fields=3)
        assert names_of(artifact) == ["mood", "item", "price"]
        assert next(iter(report(artifact)["dropped"])) == "colour"

    def test_what_is_named_goes_and_the_constant_that_scores_mind_least_stands_there(
        self, dropped, captured
    ):
        artifact = dropped(names="recent, shade")
        assert names_of(artifact) == ["colour", "mood", "item", "price"]
        batch = field_rankers.requests(20, 3)
        old, new = scores(captured, batch), scores(artifact, without(batch, "recent", "shade"))
        zeros = RequestBatch(
            batch.user | {"recent": np.full_like(batch.user["recent"], 7)},
            batch.items | {"shade": np.zeros_like(batch.items["shade"])},
            batch.offsets,
        )
        assert 1e-4 < np.abs(new - old).mean() < np.abs(scores(captured, zeros) - old).mean()

    def test_without_labels_it_goes_by_how_far_scores_move(self, dropped, unlabelled):
        artifact = dropped(unlabelled, fields=4)
        assert names_of(artifact) == ["mood", "recent", "item", "price"]
        assert report(artifact)["losses"] == {}
        assert "scores move by" in artifact.manifest.notes[-1]

    def test_none_goes_where_none_may(self, dropped, captured):
        lean = dropped(fields=6)
        assert names_of(lean) == names_of(captured)
        assert "kept all 6 features" in lean.manifest.notes[-1]


class TestFineTuning:
    def test_what_says_the_same_makes_up_for_what_went(self, dropped, store):
        twins = capture(field_rankers.twins(), store, candidates=(1, 5))
        plain, tuned = (
            dropped(twins, names="cost", steps=each, learning_rate=1e-2) for each in (0, 60)
        )
        said = report(tuned)["fine_tuning"]
        assert report(plain)["fine_tuning"] is None
        assert said["loss_after"] < 0.2 * said["loss_before"]
        assert "held-out loss" in tuned.manifest.notes[-1]
        batch = field_rankers.twin_requests(20, 3)
        before = scores(twins, batch)
        off = [np.abs(scores(each, batch) - before).mean() for each in (plain, tuned)]
        assert off[1] < 0.5 * off[0]

    def test_nothing_is_tuned_where_nothing_goes(self, dropped):
        assert report(dropped(fields=99, steps=5))["fine_tuning"] is None


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({}, "give one of names, fields and max_auc_loss, not none"),
            ({"fields": 2, "names": "item"}, "not names and fields"),
            ({"names": "colur"}, "no feature; did you mean 'colour'"),
            ({"names": "item,shade,price"}, "last feature of items"),
            ({"max_auc_loss": 1.5}, "a loss below 1"),
            ({"names": " , "}, "names is ' , '"),
        ],
    )
    def test_it_is_said_in_one_line(self, dropped, options, said):
        with pytest.raises(UserError, match=said) as caught:
            dropped(**options)
        assert "\n" not in str(caught.value)

    def test_a_loss_of_auc_cannot_be_held_without_labels(self, dropped, unlabelled):
        with pytest.raises(UserError, match="max_auc_loss needs calibration requests with labels"):
            dropped(unlabelled, max_auc_loss=1e-3)

    def test_a_program_whose_users_part_was_split_is_refused(self, captured, store):
        split = run_stage("user_once", {"when": "always"}, captured, store)
        with pytest.raises(UserError, match="put it before user_once"):
            run_stage("drop_fields", {"names": "colour"}, split, store, data=captured)


RECIPE = """
stages = [
  { use = "drop_fields", names = "item", repeats = 1 },
  { use = "drop_fields", max_auc_loss = 1e-4, repeats = 1 },
  { use = "recalibrate", method = "temperature" },
]
[gates.parity]
candidates = [1, 5]
[gates.quality]
resamples = 100
[gates.slices]
usual = false
"""


def test_a_run_drops_what_it_can_and_not_what_the_gates_miss(tmp_path):
    (tmp_path / "mine.toml").write_text(RECIPE)

    with children_in_this_process():
        run = pipeline.run_recipe(
            f"{field_rankers.FILE}:overconfident",
            load_recipe(str(tmp_path / "mine.toml")),
            tmp_path / "out",
            limits=default_limits(),
            measure_gain=lambda *_: pytest.fail("neither is for speed or size"),
        )
    assert run.passed
    assert "drop_fields: parity: max |Δscore|" in run.results[1].dropped
    assert run.chosen.manifest.signature.ignored == ("colour",)
    assert "item" in names_of(run.chosen)
    assert [each.stage for each in run.chosen.manifest.lineage] == [
        "capture",
        "drop_fields",
        "recalibrate",
    ]
    assert run.chosen.manifest.score_map["scale"] == pytest.approx(0.5, rel=0.25)
