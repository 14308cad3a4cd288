"""Stage ``quantize_aware``: what it learns, and that its ranges are those of the int8 graph."""

from __future__ import annotations

import json

import example_rankers
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from optimize.build import run_stage
from optimize.capture import capture
from optimize.finetuning.layers import choose, dense_layers, round_layers
from optimize.finetuning.rounding import Bits
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages import make_stage
from optimize.stages.quantize_aware import REPORT
from optimize.tables.program import open_tables
from optimize.torch_program import load_program
from rankers.errors import UserError

REQUESTS = sample_requests(example_rankers.SIGNATURE, [50, 1, 20])
QUICK = {"steps": 20, "batch_requests": 4, "activations": "uint8", "weights": "int4"}
WRITTEN = {"activations": "uint8", "weights": "int4"}
CLIP = "Clip"


@pytest.fixture(scope="module")
def deep(store):
    return capture(example_rankers.deep(), store, candidates=(1, 5))


@pytest.fixture(scope="module")
def aware(deep, store):
    return run_stage("quantize_aware", QUICK, deep, store, data=deep)


@pytest.fixture(scope="module")
def exported(aware, store):
    return run_stage("export_onnx", {}, aware, store)


@pytest.fixture(scope="module")
def quantized(exported, deep, store):
    return run_stage("quantize_static", WRITTEN, exported, store, data=deep)


def report_of(artifact):
    return json.loads((artifact.folder / REPORT).read_text())


def scores(artifact):
    return open_predictor(artifact, threads=1)(artifact.manifest.columns_of(REQUESTS))


def values(artifact):
    held = load_program(artifact.model_path).state_dict
    return {name.removeprefix("rewritten."): x.detach() for name, x in held.items()}


def kinds_of(artifact):
    return [each.op_type for each in onnx.load(artifact.model_path).graph.node]


class TestLearning:
    def test_rounding_loses_less_than_it_did_and_tables_stay(self, aware, deep):
        learnt = report_of(aware)["fine_tuning"]
        assert learnt["loss_after"] < 0.7 * learnt["loss_before"]
        before, after = values(deep), values(aware)
        assert torch.equal(before["ranker.item.weight"], after["ranker.item.weight"])
        assert not torch.equal(before["ranker.layers.0.weight"], after["ranker.layers.0.weight"])
        assert "2 of 3 dense layers learnt 4-bit weights" in aware.manifest.notes[-1]

    def test_what_comes_out_multiplies_floats_of_any_number_of_rows(self, aware, deep):
        assert aware.manifest.precision == "fp32"
        assert 0 < np.abs(scores(aware) - scores(deep)).max() < 0.2

    def test_layers_are_left_by_name_by_size_and_the_last(self, deep):
        graph, _ = open_tables(deep)
        layers = dense_layers(graph.module)
        chosen, left = choose(layers, exclude="*layers.2*", keep_last=True)
        assert [each.name for each in chosen] == ["ranker.layers.0.weight"]
        assert left == {"ranker.layers.2.weight": "excluded", "ranker.layers.4.weight": "last"}
        assert choose(layers, exclude="", keep_last=False)[1] == {"ranker.layers.4.weight": "small"}
        with pytest.raises(UserError, match="'tower', which fits no dense layer"):
            choose(layers, exclude="tower", keep_last=True)

    def test_where_no_layer_is_left_the_program_is_kept(self, deep, tmp_path):
        stage = make_stage("quantize_aware", {"exclude": "*"})
        manifest = stage.run(deep, tmp_path, example_rankers.requests(4))
        assert manifest.notes[-1] == "quantize_aware: nothing learnt: 0 of 3 dense layers"
        assert (tmp_path / manifest.model).read_bytes() == deep.model_path.read_bytes()

    @pytest.mark.parametrize("option", [{"learning_rate": 2.0}, {"steps": -1}])
    def test_options_that_cannot_be_are_refused(self, option):
        with pytest.raises(UserError, match=rf"{next(iter(option))} is"):
            make_stage("quantize_aware", option)


class TestRanges:
    def test_ranges_of_the_int8_graph_are_those_that_were_learnt(self, aware, exported, quantized):
        assert kinds_of(exported).count("Clip") == 2
        graph = onnx.load(quantized.model_path).graph
        held = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        steps = sorted(
            float(held[node.input[1]]) for node in graph.node if node.op_type == "QuantizeLinear"
        )
        limits = report_of(aware)["limits"].values()
        assert steps == pytest.approx(sorted((high - low) / 255 for low, high in limits), rel=1e-5)
        assert "ranges of 2 inputs as they were learnt" in quantized.manifest.notes[-1]

    def test_cuts_are_gone_from_it_as_8_bits_cut_by_themselves(self, quantized):
        assert CLIP not in kinds_of(quantized)

    def test_it_scores_as_the_program_did_while_it_learnt(self, aware, quantized):
        graph, _ = open_tables(aware)
        layers, _ = choose(dense_layers(graph.module), exclude="", keep_last=True)
        columns = [torch.from_numpy(x) for x in aware.manifest.columns_of(REQUESTS).values()]
        round_layers(graph.module, layers, Bits(4), [columns])
        limits = report_of(aware)["limits"].values()
        for number, each in enumerate(limits):
            graph.module.get_submodule(f"rounded_input_{number}").start = torch.tensor(each)
        rounded = graph.score(dict(zip(graph.names, columns, strict=True))).numpy()
        lost = np.abs(rounded - scores(aware)).mean()
        assert np.abs(scores(quantized) - rounded).mean() < 0.02 * lost

    def test_weights_take_half_a_byte_each(self, quantized):
        graph = onnx.load(quantized.model_path).graph
        four = {
            each.name: tuple(each.dims)
            for each in graph.initializer
            if each.data_type == onnx.TensorProto.INT4
        }
        assert sorted(x for x in four.values() if len(x) == 2) == [(32, 64), (64, 32)]
        assert quantized.manifest.precision == "int4"
        assert "isa" not in quantized.manifest.requires
        assert "to int4, uint8 activations, 4-bit weights" in quantized.manifest.notes[-1]
