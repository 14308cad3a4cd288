"""The stage: zeros where they are asked for, held through fine-tuning, others solved for."""

from __future__ import annotations

import json

import layered_rankers
import numpy as np
import pytest
import torch

from optimize.build import run_stage
from optimize.capture import capture
from optimize.pruning.sparsity import _solved, keep_mask
from optimize.runtimes import open_predictor
from optimize.stages import make_stage
from optimize.stages.sparsify import REPORT
from optimize.torch_program import load_program
from rankers.errors import UserError


@pytest.fixture(scope="module")
def captured_plain(store):
    return capture(layered_rankers.plain(), store, candidates=(1, 5))


def made(options, captured, store):
    return run_stage("sparsify", options, captured, store, data=captured)


def weights(artifact):
    state = load_program(artifact.model_path).state_dict
    named = {name.removeprefix("rewritten.ranker."): x for name, x in state.items()}
    return {name: x.detach().numpy() for name, x in named.items()}


def test_two_of_every_four_stay_zero_through_fine_tuning(captured_plain, store):
    options = {"steps": 4, "learning_rate": 0.003, "min_inputs": 16}
    sparse = weights(made(options, captured_plain, store))
    before = weights(captured_plain)
    before = {name.removeprefix("ranker."): x for name, x in before.items()}

    second = sparse["layers.2.weight"]  # [16, 32]
    assert ((second.reshape(16, 8, 4) != 0).sum(2) == 2).all()
    assert not np.array_equal(second[second != 0], before["layers.2.weight"][second != 0])
    # 51 inputs are no multiple of 4; the last layer makes the score; a table is no layer.
    for name in ("layers.0.weight", "layers.4.weight"):
        assert (sparse[name] != 0).all()
    np.testing.assert_array_equal(sparse["table.weight"], before["table.weight"])


def test_any_places_take_the_share_that_was_asked_for_of_each_output(captured_plain, store):
    artifact = made({"pattern": "any", "sparsity": 0.25}, captured_plain, store)
    said = json.loads((artifact.folder / REPORT).read_text())

    assert ((weights(artifact)["layers.0.weight"] == 0).sum(1) == int(0.25 * 51)).all()
    assert [x["zeros"] for x in said["layers"]] == [32 * 12, 16 * 8, 0]
    assert [x["reason"] for x in said["layers"]] == ["", "", "it makes the score"]
    (note,) = artifact.manifest.notes
    assert note.startswith("sparsify: any: 512 of 2,160 weights are zero, in 2 of 3 dense layers")
    batch = layered_rankers.requests(9, seed=4)
    got, expected = (
        open_predictor(x)(x.manifest.columns_of(batch)) for x in (artifact, captured_plain)
    )
    assert 0 < (got - expected).std() < 0.5 * expected.std()


def test_the_weights_that_stay_come_as_near_as_any_can():
    random = torch.Generator().manual_seed(2)
    inputs = torch.randn(200, 12, generator=random, dtype=torch.float64)
    inputs[:, 1] = inputs[:, 0] + 0.1 * inputs[:, 1]
    weight = torch.randn(5, 12, generator=random, dtype=torch.float64)
    mask = keep_mask(weight.abs(), 0.5, "2:4")

    solved = _solved(weight, mask, inputs.T @ inputs)

    assert ((solved != 0) == mask).all()
    for row, stays, new in zip(weight, mask, solved, strict=True):
        best = torch.linalg.lstsq(inputs[:, stays], (inputs @ row)[:, None]).solution[:, 0]
        torch.testing.assert_close(new[stays], best)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sparsity": 0.7}, "sparsity is 0.7; 2:4 is a half, give pattern = 'any'"),
        ({"pattern": "any", "sparsity": 1.0}, "sparsity is 1.0; expected a share above 0, below 1"),
        ({"min_inputs": 0}, "min_inputs is 0; expected 1 or more"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        make_stage("sparsify", options)


def test_a_pattern_that_fits_no_layer_is_refused(captured_plain, store):
    with pytest.raises(UserError, match=r"no dense layer is called 'deep\.\*'; there are layers\."):
        made({"exclude": "deep.*"}, captured_plain, store)
