"""Stage ``quantize_program``: which layers read 8 bits, by which ranges, and in which form."""

from __future__ import annotations

import json
from dataclasses import replace

import example_rankers
import numpy as np
import pytest
import torch
from torch import nn

from optimize.build import run_stage
from optimize.capture import capture
from optimize.fake_quantization.operator import quantize_dequantize
from optimize.fake_quantization.placing import _learnt
from optimize.fake_quantization.ranges import held_exactly
from optimize.fake_quantization.translating import types_in
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages import make_stage
from optimize.stages.quantize_aware import REPORT as LEARNT
from optimize.stages.quantize_program import REPORT
from optimize.torch_program import load_program
from rankers.errors import UserError
from rankers.ranker import Ranker

REQUESTS = sample_requests(example_rankers.SIGNATURE, [50, 1, 20])
aten = torch.ops.aten


class Odd(nn.Module):
    """Matrices ``[inputs, outputs]``, a bias apart, an input that two layers read."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.item = nn.Embedding(100, 28)
        self.first = nn.Parameter(torch.randn(32, 48) / 6)
        self.second = nn.Parameter(torch.randn(32, 48) / 6)
        self.bias = nn.Parameter(torch.randn(48))
        self.third = nn.Parameter(torch.randn(48, 48) / 7)
        self.score = nn.Linear(48, 1)

    def forward(self, profile, country, item, price):
        x = torch.cat([profile, self.item(item), price[:, None]], dim=1)
        x = torch.addmm(self.bias, x, self.first) * torch.sigmoid(torch.mm(x, self.second))
        x = torch.matmul(x[:, None, :], self.third)[:, 0]
        return torch.sigmoid(self.score(x).squeeze(-1) + 0 * country)


@pytest.fixture(scope="module")
def deep(store):
    return capture(example_rankers.deep(), store, candidates=(1, 5))


@pytest.fixture(scope="module")
def odd(store):
    module = Odd()
    requests = example_rankers.requests
    evaluation = requests(100, labels_from=module)
    ranker = Ranker(
        "odd", module, example_rankers.SIGNATURE, evaluation, calibration=requests(16, seed=5)
    )
    return capture(ranker, store, candidates=(1, 5))


@pytest.fixture(scope="module")
def quantized(deep, store):
    return run_stage("quantize_program", {}, deep, store, data=deep)


def scores(artifact):
    return open_predictor(artifact, threads=1)(artifact.manifest.columns_of(REQUESTS))


def report_of(artifact, name=REPORT):
    return json.loads((artifact.folder / name).read_text())


def by_hand(deep, kind, amax):
    """Score with layers whose inputs and matrices were rounded by what torch has for it."""
    held = load_program(deep.model_path).state_dict
    columns = deep.manifest.columns_of(REQUESTS)
    x = torch.cat(
        [
            torch.from_numpy(columns["profile"]),
            held["ranker.item.weight"][torch.from_numpy(columns["item"])],
            torch.from_numpy(columns["price"])[:, None],
        ],
        dim=1,
    )

    def rounded(x, amax):
        if kind == "fp8":
            scale = amax / 448
            codes = (x / scale).clamp(-448, 448).to(torch.float8_e4m3fn).to(torch.float32)
            return codes * scale
        return torch.clamp(torch.round(x / (amax / 127)), -128, 127) * (amax / 127)

    for number in (0, 2):
        weight = held[f"ranker.layers.{number}.weight"]
        most = weight.abs().amax(1, keepdim=True) if kind == "int8" else weight.abs().max()
        x = rounded(x, torch.tensor(amax[f"ranker.layers.{number}.weight"]))
        x = x @ rounded(weight, held_exactly(most)).T + held[f"ranker.layers.{number}.bias"]
        x = torch.relu(x)
    x = x @ held["ranker.layers.4.weight"].T + held["ranker.layers.4.bias"]
    return torch.sigmoid(x.squeeze(1)).detach().numpy()


class TestNumbers:
    @pytest.mark.parametrize("kind", ["int8", "fp8"])
    def test_scores_are_those_of_layers_rounded_by_hand(self, kind, deep, store):
        made = run_stage("quantize_program", {"type": kind}, deep, store, data=deep)
        expected = by_hand(deep, kind, report_of(made)["inputs"])
        np.testing.assert_allclose(scores(made), expected, atol=1e-6)
        assert 1e-5 < np.abs(scores(made) - scores(deep)).max() < 0.02
        assert types_in(load_program(made.model_path)) == (kind,)

    def test_a_percentile_takes_less_than_was_seen(self, quantized, deep, store):
        options = {"ranges": "percentile", "percentile": 90.0}
        made = run_stage("quantize_program", options, deep, store, data=deep)
        all_of_it, most = report_of(quantized)["inputs"], report_of(made)["inputs"]
        assert all(most[name] < 0.9 * all_of_it[name] for name in all_of_it)

    def test_a_user_once_program_takes_any_number_of_users(self, deep, store):
        once = run_stage("user_once", {"when": "always"}, deep, store)
        made = run_stage("quantize_program", {}, once, store, data=deep)
        assert made.manifest.layout == "user_once"
        assert 1e-6 < np.abs(scores(made) - scores(deep)).max() < 0.02


class TestLayers:
    def test_the_manifest_says_what_was_done(self, quantized):
        assert quantized.manifest.precision == "int8"
        note = quantized.manifest.notes[-1]
        assert "2 of 3 dense layers (ranker.layers.4.weight last) to int8; minmax" in note
        assert report_of(quantized)["left"] == {"ranker.layers.4.weight": "last"}

    def test_products_of_every_form_become_layers_with_outputs_first(self, odd, store):
        made = run_stage("quantize_program", {}, odd, store, data=odd)
        assert "3 of 4 dense layers" in made.manifest.notes[-1]
        program = load_program(made.model_path)
        linears = program.graph.find_nodes(op="call_function", target=aten.linear.default)
        assert not [
            each
            for each in program.graph.nodes
            if each.target in {aten.addmm.default, aten.mm.default, aten.matmul.default}
        ]
        inputs = [each.args[0] for each in linears[:3]]
        assert inputs[0] is inputs[1]  # what two layers read is rounded once
        for each in linears[:3]:
            for rounded in each.args[:2]:
                assert rounded.target is quantize_dequantize
            matrix, amax = (x.meta["val"].shape for x in each.args[1].args[:2])
            assert amax == (matrix[0], 1)
        assert 1e-6 < np.abs(scores(made) - scores(odd)).max() < 0.02

    def test_what_is_excluded_stays_and_the_last_layer_need_not(self, deep, store):
        options = {"exclude": "*layers.0*", "keep_last": False}
        made = run_stage("quantize_program", options, deep, store, data=deep)
        assert report_of(made)["left"] == {
            "ranker.layers.0.weight": "excluded",
            "ranker.layers.4.weight": "small",
        }
        with pytest.raises(UserError, match="'first', which fits no dense layer; they are ranker"):
            run_stage("quantize_program", {"exclude": "first"}, deep, store, data=deep)

    def test_with_nothing_to_round_the_program_stays(self, deep, store):
        made = run_stage("quantize_program", {"exclude": "*"}, deep, store, data=deep)
        assert made.manifest.precision == "fp32"
        assert "0 of 3 dense layers" in made.manifest.notes[-1]
        assert np.array_equal(scores(made), scores(deep))

    def test_an_input_that_16_bits_do_not_hold_is_left(self, deep, store, tmp_path):
        ranker = example_rankers.deep()
        with torch.no_grad():
            ranker.module.layers[0].weight.mul_(1e6)
            ranker.module.layers[2].weight.mul_(1e-6)
        large = capture(ranker, tmp_path, candidates=(1, 5))
        made = run_stage("quantize_program", {}, large, tmp_path, data=large)
        assert report_of(made)["left"] == {
            "ranker.layers.2.weight": "has inputs beyond 65280",
            "ranker.layers.4.weight": "last",
        }

    def test_ranges_that_were_learnt_are_kept(self, deep, store):
        options = {"steps": 20, "batch_requests": 4, "activations": "int8"}
        aware = run_stage("quantize_aware", options, deep, store, data=deep)
        made = run_stage("quantize_program", {}, aware, store, data=deep)
        learnt = [max(-low, high) for low, high in report_of(aware, LEARNT)["limits"].values()]
        found = [*report_of(made)["inputs"].values()]
        assert found == held_exactly(torch.tensor(learnt)).tolist()
        assert made.manifest.notes[-1].endswith("ranges of 2 inputs as they were learnt")

    @pytest.mark.parametrize(
        ("cut", "found"),
        [
            ((-3.0, 2.0), 3.0),
            ((0.0, 2.0), 2.0),
            ((0.5, 2.0), None),
            ((-3.0,), None),
            ((0, 5), None),
        ],
    )
    def test_a_cut_is_a_range_if_it_has_two_ends_around_zero(self, cut, found):
        graph = torch.fx.Graph()
        assert _learnt(graph.call_function(aten.clamp.default, (graph.placeholder("x"), *cut))) == (
            found
        )


class TestOptions:
    @pytest.mark.parametrize(
        ("wrong", "said"),
        [({"percentile": 50}, "percentile is 50"), ({"requests": 0}, "requests is 0")],
    )
    def test_a_number_out_of_range_is_refused(self, wrong, said):
        with pytest.raises(UserError, match=said):
            make_stage("quantize_program", wrong)

    def test_a_program_with_state_is_refused(self, deep, tmp_path):
        kept = replace(deep, manifest=replace(deep.manifest, layout="user_state"))
        with pytest.raises(UserError, match="takes no user_state program"):
            make_stage("quantize_program", {}).run(kept, tmp_path, example_rankers.requests(2))
