from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from rankers.zoo.dlrm import DLRM, build, options_for

CARDINALITIES = {"C1": 10, "C2": 20, "C3": 5}
IDS = {name: {"cardinality": size, "padding": None} for name, size in CARDINALITIES.items()}


@pytest.fixture
def module():
    torch.manual_seed(0)
    return DLRM(IDS, {"dense": 13}, embedding=8, bottom=(16,), top=(16,)).eval()


def rows(count, seed=0):
    generator = np.random.default_rng(seed)
    columns = {"dense": generator.random((count, 13), dtype=np.float32)}
    return columns | {n: generator.integers(0, size, count) for n, size in CARDINALITIES.items()}


def tensors(columns):
    return {name: torch.from_numpy(column) for name, column in columns.items()}


class Positional(torch.nn.Module):
    """Names columns given by position, as the export does.

    torch 2.13 cannot export ``**kwargs`` with dynamic shapes: it lists them twice and then finds
    that they do not match the shapes.
    """

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *columns):
        return self.module(**dict(zip(("dense", *CARDINALITIES), columns, strict=True)))


def program_of(module):
    columns = tuple(tensors(rows(7)).values())
    dimension = torch.export.Dim("rows", min=1)
    return torch.export.export(
        Positional(module), columns, dynamic_shapes=(tuple({0: dimension} for _ in columns),)
    )


def test_the_score_is_that_of_the_paper_written_out(module):
    columns = tensors(rows(4))
    bottom = module.bottom(columns["dense"])
    vectors = [bottom, *module.embedding(columns)]
    dots = [(vectors[i] * vectors[j]).sum(1) for i in range(4) for j in range(i)]
    expected = torch.sigmoid(module.top(torch.cat([bottom, torch.stack(dots, 1)], 1)))[:, 0]
    torch.testing.assert_close(module(**columns), expected)
    torch.testing.assert_close(torch.sigmoid(module.logits(**columns)), expected)


def test_its_state_holds_weights_only(module):
    assert not [name for name in module.state_dict() if name in {"lower", "upper"}]


def test_its_options_follow_from_a_signature():
    from rankers.data.synthetic import SIGNATURE

    options = options_for(SIGNATURE)
    assert list(options["ids"]) == [f"C{number}" for number in range(1, 27)]
    assert build(**options).bottom[0].in_features == 13


def test_an_exported_program_scores_any_number_of_rows(module):
    program = program_of(module).module()
    for count in (1, 2, 300):
        columns = tensors(rows(count, count))
        torch.testing.assert_close(program(*columns.values()), module(**columns))


def test_an_exported_onnx_graph_scores_any_number_of_rows(module, tmp_path):
    path = tmp_path / "model.onnx"
    names = ["dense", *CARDINALITIES]
    torch.onnx.export(program_of(module), f=path, input_names=names, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == names
    for count in (1, 2, 300):
        columns = rows(count, count)
        (scores,) = session.run(None, columns)
        np.testing.assert_allclose(scores, module(**tensors(columns)).detach(), atol=1e-6)
