"""In which form a CPU multiplies 8-bit numbers rightly, and fast.

Instructions before VNNI add two products of an unsigned and a signed byte into 16 bits, which
overflow silently, so weights take 7 bits there. VNNI adds into 32 bits. Arm multiplies two signed
bytes. Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
(onnxruntime#5849, #6004 are what happens otherwise).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection

Activations = Literal["uint8", "int8", "fp8"]
_VNNI = ("avx512_vnni", "avx_vnni")
_ARM = ("i8mm", "asimddp", "sve")


@dataclass(frozen=True, slots=True)
class Int8Form:
    """How 8-bit layers are written.

    Attributes:
        activations: The type of a layer's quantized input. Weights are int8, beside fp8 ones fp8.
        seven_bits: Whether weights take 7 bits only.
        isa: The instruction set without which the result may be wrong, or slow; None if it is right
            on any CPU.
        four_bits: Whether weights are int4, which are multiplied as floats.
    """

    activations: Activations
    seven_bits: bool
    isa: str | None
    four_bits: bool = False

    @property
    def precision(self) -> str:
        """What products of it are called in a manifest."""
        if self.activations == "fp8":
            return "fp8"
        return "int4" if self.four_bits else "int8"

    def describe(self) -> str:
        """Return the form in a few words."""
        if self.activations == "fp8":
            return f"activations and weights E4M3, for GPUs from compute capability {FP8_NEEDS}"
        bits = f"{4 if self.four_bits else 7 if self.seven_bits else 8}-bit weights"
        for_cpu = "for any CPU" if self.isa is None else f"for {self.isa}"
        return f"{self.activations} activations, {bits}, {for_cpu}"


# What TensorRT multiplies, on GPUs: signed, around zero, all 8 bits.
TENSORRT = Int8Form("int8", seven_bits=False, isa=None)
# The same in floats of 8 bits, which Ada and Hopper were the first to multiply.
TENSORRT_FP8 = Int8Form("fp8", seven_bits=False, isa=None)
FP8_NEEDS = "8.9"


def int8_form(isa: Collection[str]) -> Int8Form:
    """Return the form for a CPU.

    Args:
        isa: Its instruction sets, as /proc/cpuinfo names them.
    """
    for each in _VNNI:
        if each in isa:
            return Int8Form("uint8", seven_bits=False, isa=each)
    for each in _ARM:
        if each in isa:
            return Int8Form("int8", seven_bits=False, isa=each)
    return Int8Form("uint8", seven_bits=True, isa=None)


def form_here() -> Int8Form:
    """Return the form for this machine's CPU."""
    from bench.environment import environment

    return int8_form(environment().isa)
