"""Capture: the ranker as it is becomes a program and evidence, or one line says why not."""

from dataclasses import replace

import example_rankers
import numpy as np
import pytest
import torch

from optimize.artifact import open_artifact
from optimize.build import run_stage
from optimize.capture import capture, load_calibration, load_evidence
from optimize.runtimes import open_predictor
from optimize.triton.repository import deploy
from rankers.errors import UserError


class TestEvidence:
    def test_it_holds_the_original_modules_scores(self, captured):
        ranker = example_rankers.tiny()
        evidence = load_evidence(captured)
        np.testing.assert_array_equal(evidence.scores, ranker.score(ranker.evaluation.flat()))
        np.testing.assert_array_equal(evidence.evaluation.labels, ranker.evaluation.labels)

    def test_it_holds_a_probe_for_each_number_of_candidates(self, captured):
        probes = load_evidence(captured).probes
        assert list(probes) == [1, 37]
        for count, (request, scores) in probes.items():
            assert scores.shape == (count,)
            np.testing.assert_array_equal(scores, example_rankers.tiny().score(request.flat()))

    def test_it_holds_how_often_training_met_each_id(self, captured, tmp_path):
        assert load_evidence(captured).seen == {}
        ranker = replace(example_rankers.tiny(), seen={"item": np.arange(100)})
        counted = capture(ranker, tmp_path, candidates=(1,))
        assert counted.folder.name != captured.folder.name
        np.testing.assert_array_equal(load_evidence(counted).seen["item"], np.arange(100))

    def test_an_artifact_of_another_stage_has_none(self, onnx_artifact):
        with pytest.raises(UserError, match="holds no evidence"):
            load_evidence(onnx_artifact)


class TestCalibration:
    def test_it_lies_beside_the_evidence_and_in_the_key(self, captured, store):
        calibration = example_rankers.requests(5, seed=5)
        ranker = replace(example_rankers.tiny(), calibration=calibration)
        made = capture(ranker, store, candidates=(1, 37))
        assert made.folder != captured.folder
        assert "evidence/calibration.safetensors" in made.manifest.files
        kept = load_calibration(made)
        assert (kept.labels is None) == (calibration.labels is None)
        np.testing.assert_array_equal(kept.offsets, calibration.offsets)
        np.testing.assert_array_equal(kept.items["price"], calibration.items["price"])

    def test_a_ranker_may_come_without(self, captured):
        assert load_calibration(captured) is None


class TestFiles:
    def test_a_rankers_files_go_through_every_stage_to_the_deployed_version(self, tmp_path):
        ranker = replace(example_rankers.tiny(), files={"tokenizer.json": b"{}"})
        artifact = capture(ranker, tmp_path / "store", candidates=(1,))
        artifact = run_stage("export_onnx", {}, artifact, tmp_path / "store")
        assert "files/tokenizer.json" in artifact.manifest.files
        deployed = deploy(artifact, tmp_path / "models", "tiny", ungated=True)
        assert (deployed.folder / "files" / "tokenizer.json").read_bytes() == b"{}"
        assert artifact.model_bytes == artifact.model_path.stat().st_size

    def test_other_files_make_another_artifact(self, captured, store):
        for content in (b"a", b"b"):
            ranker = replace(example_rankers.tiny(), files={"tokenizer.json": content})
            made = capture(ranker, store, candidates=(1, 37))
            assert made.folder != captured.folder
            assert (made.folder / "files" / "tokenizer.json").read_bytes() == content

    def test_a_file_has_a_name_and_no_path(self):
        with pytest.raises(UserError, match=r"'\.\./a' is no name for one of its files"):
            replace(example_rankers.tiny(), files={"../a": b""})


class TestProgram:
    @pytest.mark.parametrize("rows", [1, 2, 500])
    def test_it_scores_any_number_of_rows_as_the_module_does(self, captured, rows):
        ranker = example_rankers.tiny()
        columns = {
            name: np.resize(x, (rows, *x.shape[1:])) for name, x in ranker.evaluation.flat().items()
        }
        scores = open_predictor(captured)(columns)
        np.testing.assert_allclose(scores, ranker.score(columns), atol=1e-6)


class TestCache:
    def test_the_same_content_is_exported_once(self, captured, store):
        before = captured.model_path.stat().st_mtime_ns
        again = capture(example_rankers.tiny(), store, candidates=(1, 37))
        assert again.folder == captured.folder
        assert again.model_path.stat().st_mtime_ns == before

    def test_other_weights_make_another_artifact(self, captured, store):
        ranker = example_rankers.tiny()
        with torch.no_grad():
            ranker.module.price.bias += 1e-3
        assert capture(ranker, store, candidates=(1, 37)).folder != captured.folder

    def test_other_code_with_the_same_scores_makes_another_artifact(self, captured, store):
        ranker = example_rankers.tiny()

        class Same(type(ranker.module)):
            def forward(self, profile, country, item, price):
                return super().forward(profile, country, item, price) + 0

        ranker.module.__class__ = Same
        assert capture(ranker, store, candidates=(1, 37)).folder != captured.folder

    def test_a_damaged_artifact_is_made_again(self, tmp_path):
        made = capture(example_rankers.tiny(), tmp_path, candidates=(1,))
        made.model_path.write_bytes(b"damaged")
        again = capture(example_rankers.tiny(), tmp_path, candidates=(1,))
        assert open_artifact(again.folder).model_path.read_bytes() != b"damaged"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nan_scores", "gives nan for"),
        ("branches_on_values", "example_rankers.py:"),
        ("branches_on_values", "`if price.sum() > 0:`"),
        ("branches_on_values", "use torch.where"),
        ("loops_over_rows", "the number of rows became a constant"),
        ("uses_numpy", "use the torch function of the same name"),
        ("softmax_over_the_batch", "rows must not depend on their batch"),
        ("two_scores_a_row", "one score a row"),
        ("id_out_of_range", "'item' holds the ID 100 in row 7; IDs run from 0 to 99"),
        ("empty_request", "request 3 has no candidates"),
        ("other_argument_names", "unexpected keyword argument 'prize'"),
    ],
)
def test_a_faulty_ranker_is_refused_in_one_line(name, said, tmp_path):
    with pytest.raises(UserError) as caught:
        capture(getattr(example_rankers, name)(), tmp_path, candidates=(1, 50))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir()), "nothing half-made is left"
