"""Export to ONNX: any number of rows, the same scores, or the operator's name."""

import example_rankers
import numpy as np
import onnx
import pytest

from optimize.build import run_stage
from optimize.capture import capture
from optimize.runtimes import open_predictor
from optimize.samples import sample_columns
from optimize.stages.export_onnx import check_rows_stay_free
from optimize.torch_program import load_program
from rankers.errors import UserError


@pytest.mark.parametrize("rows", [1, 2, 700])
def test_the_graph_scores_any_number_of_rows_as_the_program_does(captured, onnx_artifact, rows):
    columns = sample_columns(captured.manifest.signature, rows)
    expected = open_predictor(captured)(columns)
    np.testing.assert_allclose(open_predictor(onnx_artifact)(columns), expected, atol=1e-6)


def test_inputs_are_named_after_the_features(onnx_artifact):
    graph = onnx.load(onnx_artifact.model_path).graph
    names = [feature.name for feature in onnx_artifact.manifest.signature.features]
    assert [each.name for each in graph.input] == names


def test_a_graph_whose_batch_was_fixed_is_refused(captured, onnx_artifact, tmp_path):
    model = onnx.load(onnx_artifact.model_path)
    for each in (*model.graph.input, *model.graph.output):
        each.type.tensor_type.shape.dim[0].Clear()
        each.type.tensor_type.shape.dim[0].dim_value = 11
    onnx.save(model, tmp_path / "fixed.onnx")
    program = load_program(captured.model_path)
    with pytest.raises(UserError, match="fails at 1 rows: the batch size was fixed"):
        check_rows_stay_free(tmp_path / "fixed.onnx", program.module(), captured.manifest)


def test_an_operator_that_onnx_lacks_is_named_with_a_hint(tmp_path):
    captured = capture(example_rankers.operator_unknown_to_onnx(), tmp_path, candidates=(1,))
    with pytest.raises(UserError, match=r"operator prims\.bessel_j0: ONNX has no such operator"):
        run_stage("export_onnx", {}, captured, tmp_path)


def test_a_stage_refuses_an_artifact_of_another_format(onnx_artifact, tmp_path):
    with pytest.raises(UserError, match="reads torch artifacts"):
        run_stage("export_onnx", {}, onnx_artifact, tmp_path)
