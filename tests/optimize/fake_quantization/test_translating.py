"""Programs of 8 bits as Torch-TensorRT and compilers get them; NVIDIA's operator where it is."""

from __future__ import annotations

import example_rankers
import numpy as np
import onnx
import pytest
import torch

from optimize.build import run_stage
from optimize.capture import capture
from optimize.fake_quantization import translating
from optimize.fake_quantization.operator import quantize_dequantize
from optimize.fake_quantization.translating import (
    for_tensorrt,
    in_plain_torch,
    nvidias_in_torch,
    refuse_gpu,
    refuse_left_to_torch,
)
from optimize.half_products import narrowed_program
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages.torch_tensorrt import program_for_tensorrt
from optimize.torch_program import load_program
from optimize.versions import missing_library
from rankers.errors import UserError

REQUESTS = sample_requests(example_rankers.SIGNATURE, [50, 1, 20])
KINDS = ("int8", "fp8")
aten = torch.ops.aten


@pytest.fixture(scope="module")
def artifacts(store):
    deep = capture(example_rankers.deep(), store, candidates=(1, 5))
    made = {
        kind: run_stage("quantize_program", {"type": kind}, deep, store, data=deep)
        for kind in KINDS
    }
    return made | {"fp32": deep}


def scores(program, artifact):
    columns = artifact.manifest.columns_of(REQUESTS)
    with torch.no_grad():
        found = program.module()(*(torch.from_numpy(columns[x]) for x in artifact.manifest.inputs))
    return found.numpy()


def assert_same_but_for_ties(found, expected):
    """Sums of another order may lie on the other side of a tie, so that an input is a code away."""
    moved = np.abs(found - expected)
    assert (moved < 1e-6).mean() > 0.9
    assert moved.max() < 5e-3


def rounding_in(program, operator=quantize_dequantize):
    return program.graph.find_nodes(op="call_function", target=operator)


@pytest.fixture
def nvidias(monkeypatch):
    """Return NVIDIA's operator: its own where it is installed, else one of its schema."""
    if missing_library([translating.MODEL_OPTIMIZER]) is None:
        yield translating._operator()
        return
    # The schema of nvidia-modelopt 0.47. What it computes is compared below, where it is installed.
    library = torch.library.Library("tensorrt", "FRAGMENT")
    library.define(
        "quantize_op(Tensor input, Tensor amax, int num_bits, int exponent_bits, bool unsigned, "
        "bool narrow_range) -> Tensor"
    )

    torch.library.register_fake(
        "tensorrt::quantize_op", lambda x, *_: torch.empty_like(x), lib=library
    )
    operator = torch.ops.tensorrt.quantize_op.default
    monkeypatch.setattr(translating, "_operator", lambda: operator)
    yield operator
    library._destroy()


class TestForTensorrt:
    @pytest.mark.parametrize("kind", KINDS)
    def test_none_of_our_operators_is_left_and_rows_stay_free(self, kind, artifacts, nvidias):
        program = load_program(artifacts[kind].model_path)
        ours, rows = len(rounding_in(program)), program.range_constraints
        found = for_tensorrt(program)
        assert (len(rounding_in(found)), len(rounding_in(found, nvidias))) == (0, ours)
        assert ours == 4
        # As its compiler does first: traced anew, with the sizes that are free.
        again = found.run_decompositions({})
        assert [str(each) for each in again.range_constraints.values()] == [
            str(each) for each in rows.values()
        ]
        for each in rounding_in(again, nvidias):
            assert each.meta["val"].shape == each.args[0].meta["val"].shape
            assert each.args[2:] == (8, 4 if kind == "fp8" else 0, False, False)

    @pytest.mark.parametrize("kind", KINDS)
    def test_ranges_have_the_shapes_that_its_converter_takes(self, kind, artifacts, nvidias):
        """One, or one for each output along the first dimension: 2.11 to 2.14 assert it."""
        found = for_tensorrt(load_program(artifacts[kind].model_path))
        for layer in found.graph.find_nodes(op="call_function", target=aten.linear.default)[:2]:
            x, matrix = (each.args[1].meta["val"] for each in layer.args[:2])
            assert x.shape == ()
            outputs = layer.args[1].args[0].meta["val"].shape[0]
            assert matrix.shape == ((outputs, 1) if kind == "int8" else ())

    def test_a_program_without_layers_of_8_bits_needs_nothing(self, artifacts):
        program = load_program(artifacts["fp32"].model_path)
        assert for_tensorrt(program) is program

    def test_without_nvidias_library_what_to_install_is_said(self, artifacts):
        if missing_library([translating.MODEL_OPTIMIZER]) is None:
            pytest.skip("nvidia-modelopt is installed")
        said = r"nvidia-modelopt is not installed: pip install 'rankserve\[modelopt\]'"
        with pytest.raises(UserError, match=said):
            program_for_tensorrt(artifacts["int8"], "fp16", "9.0")

    @pytest.mark.parametrize("kind", KINDS)
    def test_products_are_fp16_from_the_rounded_input_to_the_result(self, kind, artifacts, nvidias):
        found = program_for_tensorrt(artifacts[kind], "fp16", "8.9")
        layers = found.graph.find_nodes(op="call_function", target=aten.linear.default)
        for layer in layers[:2]:
            for each in layer.args[:2]:
                assert each.target is nvidias  # nothing between a pair and its product
                assert each.meta["val"].dtype == torch.float16
                assert each.args[0].meta["val"].dtype == torch.float16
                assert each.args[1].meta["val"].dtype == torch.float32
        # The same before NVIDIA's operator is in it, which a CPU has no int8 for.
        narrowed = narrowed_program(
            load_program(artifacts[kind].model_path), artifacts[kind].manifest, "fp16"
        )
        moved = np.abs(scores(narrowed, artifacts[kind]) - open_scores(artifacts[kind])).max()
        assert 0 < moved < 5e-3

    @pytest.mark.parametrize("kind", KINDS)
    def test_while_it_compiles_nvidias_operator_computes_as_ours(self, kind, artifacts, nvidias):
        program = for_tensorrt(load_program(artifacts[kind].model_path))
        with nvidias_in_torch():
            found = scores(program, artifacts[kind])
        assert np.array_equal(found, open_scores(artifacts[kind]))
        matrix, amax = torch.ones(2, 2), torch.ones(2, 1)
        with pytest.raises((AttributeError, NotImplementedError)):  # no kernel of int8 for CPUs
            nvidias(matrix, amax, 8, 0, False, False)

    def test_a_rounding_that_is_left_to_torch_is_refused(self, artifacts, nvidias):
        inside = for_tensorrt(load_program(artifacts["int8"].model_path)).module()
        graph = torch.fx.Graph()
        graph.output(graph.call_module("_run_on_gpu_0", (graph.placeholder("x"),)))
        compiled = torch.fx.GraphModule({"_run_on_gpu_0": inside}, graph)
        with pytest.raises(UserError, match=r"4 roundings to 8 bits are left to torch.*least_bl"):
            refuse_left_to_torch(compiled)
        plain = load_program(artifacts["fp32"].model_path).module()
        refuse_left_to_torch(torch.fx.GraphModule({"_run_on_gpu_0": plain}, graph))


def open_scores(artifact):
    return open_predictor(artifact, threads=1)(artifact.manifest.columns_of(REQUESTS))


class TestGpus:
    @pytest.mark.parametrize("capability", ["8.9", "9.0", "10.0", "12.0"])
    def test_fp8_is_multiplied_from_8_9_on(self, capability):
        refuse_gpu(("fp8",), capability)

    @pytest.mark.parametrize("capability", ["7.5", "8.0", "8.6"])
    def test_earlier_it_is_refused_and_int8_is_not(self, capability, artifacts):
        refuse_gpu(("int8",), capability)
        said = f"fp8, which .* from compute capability 8.9 on; this one has {capability}: make it"
        with pytest.raises(UserError, match=said):
            program_for_tensorrt(artifacts["fp8"], "fp16", capability)


class TestPlainTorch:
    @pytest.mark.parametrize("kind", KINDS)
    def test_written_out_it_scores_the_same_bits(self, kind, artifacts):
        found = in_plain_torch(load_program(artifacts[kind].model_path))
        assert not rounding_in(found)
        assert rounding_in(load_program(artifacts[kind].model_path))
        assert np.array_equal(scores(found, artifacts[kind]), open_scores(artifacts[kind]))


class TestOnnx:
    def test_int8_becomes_pairs_with_folded_scales_that_score_as_the_program(
        self, artifacts, store
    ):
        made = run_stage("export_onnx", {}, artifacts["int8"], store)
        graph = onnx.load(made.model_path).graph
        constants = {each.name: each for each in graph.initializer}
        pairs = [each for each in graph.node if each.op_type == "DequantizeLinear"]
        assert len(pairs) == len([each for each in graph.node if each.op_type == "QuantizeLinear"])
        sizes = [list(constants[each.input[1]].dims) for each in pairs]
        assert sizes == [[], [64], [], [32]]
        zeros = {constants[each.input[2]].data_type for each in pairs}
        assert zeros == {onnx.TensorProto.INT8}
        assert made.manifest.precision == "int8"
        assert_same_but_for_ties(open_scores(made), open_scores(artifacts["int8"]))

    def test_fp8_is_refused(self, artifacts, store):
        with pytest.raises(UserError, match="takes no layers that quantize_program made fp8: ONNX"):
            run_stage("export_onnx", {}, artifacts["fp8"], store)


class TestNvidias:
    """The operator of NVIDIA's Model Optimizer, as far as it computes without a GPU.

    It multiplies by the inverse of a scale where ours divides, as TensorRT does, so that a value on
    a tie may round the other way.
    """

    @pytest.fixture(scope="class", autouse=True)
    @staticmethod
    def optimizer():
        pytest.importorskip(
            "modelopt.torch.quantization", reason="NVIDIA's Model Optimizer is not installed"
        )

    def test_fp8_scores_are_ours(self, artifacts):
        program = for_tensorrt(load_program(artifacts["fp8"].model_path))
        assert_same_but_for_ties(scores(program, artifacts["fp8"]), open_scores(artifacts["fp8"]))

    def test_int8_scores_are_ours(self, artifacts):
        """Its operator has a kernel for CUDA alone; beside it the library has one for CPUs."""
        from modelopt.torch.quantization.tensor_quant import _tensor_quant

        class OnCpu(torch.fx.Interpreter):
            def call_function(self, target, args, kwargs):
                if target is not nvidias_operator:
                    return super().call_function(target, args, kwargs)
                x, amax, num_bits, exponent_bits, unsigned, narrow_range = args
                assert exponent_bits == 0
                return _tensor_quant(x, amax, num_bits, unsigned, narrow_range)

        nvidias_operator = translating._operator()
        program = for_tensorrt(load_program(artifacts["int8"].model_path))
        columns = artifacts["int8"].manifest.columns_of(REQUESTS)
        given = [torch.from_numpy(columns[x]) for x in artifacts["int8"].manifest.inputs]
        module = program.module(check_guards=False)
        module.graph.set_codegen(torch.fx.graph.CodeGen())
        with torch.no_grad():
            (found,) = OnCpu(module).run(*given)
        assert_same_but_for_ties(found.numpy(), open_scores(artifacts["int8"]))

    def test_its_schema_is_the_one_that_is_written(self):
        expected = "Tensor input, Tensor amax, int num_bits, int exponent_bits, bool unsigned, bool"
        assert expected in str(translating._operator()._schema)
