from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from rankers.zoo.dlrm import DLRM, build, options_for

CARDINALITIES = {"C1": 10, "C2": 20, "C3": 5}


@pytest.fixture
def module():
    torch.manual_seed(0)
    return DLRM(CARDINALITIES, embedding=8, bottom=(16,), top=(16,)).eval()


def rows(count, seed=0):
    generator = np.random.default_rng(seed)
    columns = {"dense": generator.random((count, 13), dtype=np.float32)}
    return columns | {n: generator.integers(0, size, count) for n, size in CARDINALITIES.items()}


def tensors(columns):
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def dynamic_shapes():
    rows_dim = torch.export.Dim("rows")
    return {"dense": {0: rows_dim}, "categorical": {name: {0: rows_dim} for name in CARDINALITIES}}


def test_the_score_is_that_of_the_paper_written_out(module):
    columns = tensors(rows(4))
    bottom = module.bottom(columns["dense"])
    vectors = [bottom] + [module.tables[name](columns[name]) for name in CARDINALITIES]
    dots = [(vectors[i] * vectors[j]).sum(1) for i in range(4) for j in range(i)]
    expected = torch.sigmoid(module.top(torch.cat([bottom, torch.stack(dots, 1)], 1)))[:, 0]
    torch.testing.assert_close(module(**columns), expected)
    torch.testing.assert_close(torch.sigmoid(module.logits(**columns)), expected)


def test_its_state_holds_weights_only(module):
    assert not [name for name in module.state_dict() if name in {"lower", "upper"}]


def test_its_options_follow_from_a_signature():
    from rankers.data.synthetic import SIGNATURE

    options = options_for(SIGNATURE)
    assert list(options["cardinalities"]) == [f"C{number}" for number in range(1, 27)]
    assert build(**options).bottom[0].in_features == 13


def test_an_exported_program_scores_any_number_of_rows(module):
    program = torch.export.export(
        module, (), tensors(rows(7)), dynamic_shapes=dynamic_shapes()
    ).module()
    for count in (1, 2, 300):
        columns = tensors(rows(count, count))
        torch.testing.assert_close(program(**columns), module(**columns))


def test_an_exported_onnx_graph_scores_any_number_of_rows(module, tmp_path):
    path = tmp_path / "model.onnx"
    torch.onnx.export(
        module,
        (),
        path,
        kwargs=tensors(rows(7)),
        dynamic_shapes=dynamic_shapes(),
        dynamo=True,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {each.name for each in session.get_inputs()} == {"dense", *CARDINALITIES}
    for count in (1, 2, 300):
        columns = rows(count, count)
        (scores,) = session.run(None, columns)
        np.testing.assert_allclose(scores, module(**tensors(columns)).detach(), atol=1e-6)
