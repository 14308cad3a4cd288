"""Programs that round to 8 bits, in the words of what reads them: Torch-TensorRT, or torch."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from optimize.fake_quantization.operator import (
    FORMS,
    quantize_dequantize,
    quantize_dequantize_in_torch,
)
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

# Torch-TensorRT converts the operator of NVIDIA's Model Optimizer, which importing that registers.
MODEL_OPTIMIZER = "nvidia-modelopt"
# The first compute capability that multiplies fp8.
_FP8_FROM = (8, 9)


def types_in(program: ExportedProgram) -> tuple[str, ...]:
    """Return the types of 8 bits that a program rounds to, such as ``("int8",)``."""
    bits = {arguments[3] for arguments in (each.args for each in _rounding(program.graph_module))}
    return tuple(name for name, form in FORMS.items() if form.exponent_bits in bits)


def refuse_gpu(types: tuple[str, ...], compute_capability: str) -> None:
    """Refuse a GPU that cannot multiply a program's types.

    Args:
        types: Of `types_in`.
        compute_capability: Of the GPU, such as ``9.0``.

    Raises:
        UserError: It is fp8, and the GPU is older than 8.9.
    """
    if "fp8" not in types:
        return
    if tuple(int(part) for part in compute_capability.split(".")[:2]) < _FP8_FROM:
        raise UserError(
            "the program's layers are fp8, which GPUs multiply from compute capability 8.9 on; "
            f"this one has {compute_capability}: make it by quantize_program with type 'int8'"
        )


def for_tensorrt(program: ExportedProgram) -> ExportedProgram:
    """Put NVIDIA's operator in the place of ours, which Torch-TensorRT has a converter for.

    The two take the same values, so shapes, names and the free number of rows stay. Its passes know
    the operator, and fold no matrix that is rounded into a constant.

    Args:
        program: It is changed.

    Raises:
        UserError: The program rounds, and NVIDIA's Model Optimizer is not installed.
    """
    nodes = _rounding(program.graph_module)
    if not nodes:
        return program
    operator = _operator()
    for each in nodes:
        x, amax, num_bits, exponent_bits = each.args
        each.target = operator
        # Signed, and with all codes; TensorRT reads neither.
        each.args = (x, amax, num_bits, exponent_bits, False, False)
    program.graph_module.recompile()
    return program


@contextmanager
def nvidias_in_torch() -> Iterator[None]:
    """Let NVIDIA's operator compute by torch's own ones meanwhile, if it is there.

    To fold constants Torch-TensorRT computes each rounded matrix, and only then leaves it as it
    was. NVIDIA's kernel of int8 is for CUDA alone, and is compiled by nvcc when it is first called.
    """
    import torch

    if not hasattr(torch.ops.tensorrt, "quantize_op"):
        yield
        return
    new_library: Any = torch.library.Library  # torch gives it no types
    library = new_library("tensorrt", "IMPL")

    def compute(x: Any, amax: Any, num_bits: int, exponent_bits: int, *_: bool) -> Any:
        return quantize_dequantize_in_torch(x, amax, num_bits, exponent_bits)

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).*other operators may also be overr")
            for device in ("CPU", "CUDA"):
                library.impl("quantize_op", compute, device, allow_override=True)
        yield
    finally:
        library._destroy()  # noqa: SLF001 - what it registered goes with it


def refuse_left_to_torch(compiled: GraphModule) -> None:
    """Refuse what Torch-TensorRT compiled if roundings were left outside its engines.

    torch would run them by NVIDIA's own kernels, which a library of AOTInductor does not hold.

    Raises:
        UserError: There are such.
    """
    import torch

    graphs = [each for each in compiled.modules() if isinstance(each, torch.fx.GraphModule)]
    left = sum(str(node.target) == _NAME for each in graphs for node in each.graph.nodes)
    if left:
        raise UserError(
            f"{left} roundings to 8 bits are left to torch, outside of TensorRT's engines: give "
            "torch_tensorrt a smaller least_block, or exclude their layers in quantize_program"
        )


def in_plain_torch(program: ExportedProgram) -> ExportedProgram:
    """Write rounding out in torch's own operators, which compilers fuse with their neighbours."""
    if not _rounding(program.graph_module):
        return program
    written: ExportedProgram = program.run_decompositions(
        {quantize_dequantize: quantize_dequantize_in_torch}
    )
    return written


_NAME = "tensorrt.quantize_op.default"


def _rounding(module: GraphModule) -> list[Node]:
    return [each for each in module.graph.nodes if each.target is quantize_dequantize]


def _operator() -> Any:
    """Return NVIDIA's operator."""
    import torch

    from optimize.versions import require_libraries

    require_libraries(MODEL_OPTIMIZER)
    import modelopt.torch.quantization  # noqa: F401 - it registers the operator

    return torch.ops.tensorrt.quantize_op.default
