"""Which layers of a graph are dense, and which of them are quantized."""

import dense_ranker
import onnx
import pytest

from optimize.artifact import open_artifact, seal_with_verdicts
from optimize.int8.layers import choose_layers, dense_layers, opened_model
from rankers.errors import UserError


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    made = dense_ranker.make_artifact(tmp_path_factory.mktemp("layers") / "artifact")
    return dense_layers(onnx.load(made.model_path))


def test_products_by_constants_are_dense_layers_and_those_of_two_activations_are_not(layers):
    assert [(each.name, each.inputs, each.outputs) for each in layers] == [
        ("first", 32, 64),
        ("second", 64, 48),
        ("third", 48, 1),
    ]


def test_the_last_layer_is_left_by_default(layers):
    chosen = choose_layers(layers)
    assert [each.name for each in chosen.quantized] == ["first", "second"]
    assert chosen.left == {"third": "last"}
    assert chosen.describe() == "2 of 3 dense layers (third last)"


def test_a_layer_so_small_that_quantizing_costs_more_is_left(layers):
    assert choose_layers(layers, keep_last=False).left == {"third": "small, 48 to 1"}


@pytest.mark.parametrize("exclude", ["second", "w2", "s*, *3", "first,second"])
def test_layers_are_left_by_the_names_of_nodes_or_weights(layers, exclude):
    assert choose_layers(layers, exclude=exclude).left["second"] == "excluded"


def test_a_name_that_fits_nothing_is_refused_with_those_there_are(layers):
    with pytest.raises(UserError, match=r"'fourth', which fits no dense layer; .*first, second"):
        choose_layers(layers, exclude="fourth")


def test_weights_beside_a_graph_are_read_from_a_run_that_shares_files(tmp_path):
    made = dense_ranker.make_artifact(tmp_path / "made", weights_beside=True)
    seal_with_verdicts(made, (), tmp_path / "judged")
    judged = open_artifact(tmp_path / "judged")
    assert judged.model_path.with_suffix(".onnx.data").stat().st_nlink == 2
    with opened_model(judged) as (path, model):
        assert path.is_file()
        assert len(dense_layers(model)) == 3
