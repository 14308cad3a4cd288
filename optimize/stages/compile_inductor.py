"""Stage ``compile_inductor``: a torch.export program becomes machine code (AOTInductor)."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from optimize.gpu_graphs import GPU, GRAPHS, gpu_architecture, precision_in
from optimize.instruction_sets import ISA, instruction_sets
from rankers.errors import UserError, in_one_line

if TYPE_CHECKING:
    from pathlib import Path

    from torch.export import ExportedProgram

    from optimize.artifact import Artifact, Manifest
    from optimize.half_products import Precision

MODEL = "model.aoti.pt2"
# -march=native would use instructions that nobody wrote down. A level of the x86-64 psABI is the
# same everywhere: its sets by /proc/cpuinfo's names, as far as bench.environment knows them.
_LEVELS = (
    ("x86-64-v4", ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl")),
    ("x86-64-v3", ("avx2", "fma", "f16c")),
)
# What tells an x86 CPU that multiplies bfloat16 by itself; those with amx_bf16 have it too.
_BF16 = "avx512_bf16"
# Compiler flags of the vector code that Inductor writes, where /proc/cpuinfo's names differ.
_FLAG_NAMES = {
    "avx512vnni": "avx512_vnni",
    "avx512bf16": "avx512_bf16",
    "avx512fp16": "avx512_fp16",
}


@dataclass(frozen=True)
class CompileInductor:
    """Compiles the program ahead of time to a shared library, with PyTorch's Inductor.

    Neighbouring operators become one loop of C++ each, so rankers of many small operators gain
    most. Needs a C++ compiler and takes from seconds to minutes. The library is machine code: it
    runs on CPUs that have the instruction sets in the manifest, and it is as trustworthy as whoever
    made it, since nothing but its checksum can be examined (docs/runtimes.md).

    For a CPU the program is first put into words that Inductor is faster with: pooled lookups are
    embedding bags, short rows are added one by one, biases by loops, fixed picks are copies of
    runs. Its products are MKL's or OpenBLAS's, which take any number of candidates alike.
    Inductor's own choice, oneDNN with packed weights, makes a kernel for each number and layer.
    With ``precision = "bf16"`` they are oneDNN's in bfloat16, with sums in float32, on a CPU that
    multiplies so by itself; a kernel is made for each number there too.

    After `cuda_graphs` its buckets stay: one library for any number of rows runs in each of them,
    in static buffers, with one copy there and one back, as a CUDA graph where the device is
    ``cuda`` (docs/gpu.md).
    Source: https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "inductor"
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    code: ClassVar[tuple[str, ...]] = (
        "torch_program.py",
        "lookups.py",
        "flat_graph.py",
        "for_inductor/*.py",
        "tables/program.py",
        "half_products.py",
        "fake_quantization/*.py",
    )
    made_for_cpu: ClassVar[bool] = True

    device: Literal["cpu", "cuda"] = field(
        default="cpu", metadata={"help": "what the code is for; cuda: the GPU at hand"}
    )

    precision: Literal["fp32", "bf16"] = field(
        default="fp32",
        metadata={"help": "on cpu: what matrix products are computed in: fp32 or bf16"},
    )
    freezing: bool = field(
        default=True, metadata={"help": "on cpu: weights are constants of the code"}
    )
    rewrite: bool = field(
        default=True,
        metadata={
            "help": "on cpu: put pooled lookups, sums, biases and fixed picks into words that "
            "Inductor is faster with"
        },
    )
    pack_weights: bool = field(
        default=False,
        metadata={
            "help": "on cpu: products by oneDNN, which makes its code anew for each number of "
            "candidates; for requests of few different sizes"
        },
    )
    max_autotune: bool = field(
        default=False,
        metadata={
            "help": "try several kernels for each matrix product; compiles for longer; on cpu "
            "weights are packed"
        },
    )

    @property
    def devices(self) -> tuple[str, ...]:
        """What the result is for."""
        from optimize.devices import DEVICES

        return ("cuda",) if self.device == "cuda" else DEVICES

    def unmet(self) -> str | None:
        """Say that this CPU has no products in the precision; None if it has."""
        if self.precision == "fp32" or _BF16 in instruction_sets():
            return None
        return f"products in bf16 need a CPU with {_BF16}, which this one lacks"

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Compile; see `optimize.stages.Stage.run`."""
        from optimize.devices import require_device

        require_device(self.device)
        graphs = GRAPHS in artifact.manifest.settings
        if self.precision != "fp32" and (graphs or self.device == "cuda"):
            raise UserError(
                "compile_inductor has a precision for cpu without buckets alone; else cuda_graphs "
                "says it"
            )
        unmet = self.unmet()
        if unmet:
            raise UserError(unmet)
        program, notes = program_for(
            artifact, self.device, rewrite=self.rewrite, precision=self.precision
        )
        requires = compile_program(
            program,
            folder / MODEL,
            device=self.device,
            freezing=self.freezing,
            pack_weights=self.pack_weights,
            max_autotune=self.max_autotune,
        )
        manifest = artifact.manifest
        settings = {key: manifest.settings[key] for key in (GRAPHS,) if key in manifest.settings}
        if self.device == "cuda":
            settings["device"] = "cuda"
        precision = manifest.precision
        if self.precision != "fp32":
            precision = precision_in(precision, self.precision)
            requires[ISA] = " ".join(sorted({*requires[ISA].split(), _BF16}))
        return replace(
            manifest,
            format="inductor",
            model=MODEL,
            precision=precision,
            requires=manifest.requires | requires,
            settings=settings,
            notes=(*manifest.notes, *(f"compile_inductor: {each}" for each in notes)),
        )


def compile_program(
    program: ExportedProgram,
    path: Path,
    *,
    device: str,
    freezing: bool = True,
    pack_weights: bool = False,
    max_autotune: bool = False,
) -> dict[str, str]:
    """Compile a program that is on its device into a ``.pt2`` package.

    Returns:
        What it takes to run it, as an artifact's manifest says it.

    Raises:
        UserError: There is no compiler, or Inductor cannot compile the program.
    """
    import torch
    from torch import _inductor as inductor

    _require_compiler()
    march, isa = _target()
    configs: dict[str, Any] = {
        "freezing": freezing and device == "cpu",
        "max_autotune": max_autotune,
        # Inductor's own kernels, which autotuning tries, want packed weights as oneDNN's do.
        "cpp.weight_prepack": pack_weights or max_autotune,
        # As many threads as the runtime is told, not as many as there were here.
        "cpp.dynamic_threads": True,
        "cpp.march": march,
    }
    try:
        with torch.no_grad():
            inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs=configs
            )
    except Exception as error:  # the compiler has many kinds of its own
        raise UserError(f"Inductor cannot compile the program: {in_one_line(error)}") from error
    # The library calls into torch's own, whose interface holds for one release.
    requires = {"torch": torch.__version__, ISA: " ".join(isa)}
    return requires | {GPU: gpu_architecture()} if device == "cuda" else requires


def program_for(
    artifact: Artifact, device: str, *, rewrite: bool = True, precision: Precision = "fp32"
) -> tuple[ExportedProgram, list[str]]:
    """Return what is compiled of an artifact, on a device, and a line for each thing rewritten.

    Args:
        artifact: Of the format ``torch``.
        device: ``cpu`` or ``cuda``.
        rewrite: Whether the program for a CPU is put into words that Inductor is faster with.
        precision: Of its products; with buckets it is what `cuda_graphs` said.
    """
    from optimize.fake_quantization.translating import in_plain_torch
    from optimize.for_inductor import rewrite_for_cpu
    from optimize.half_products import narrowed_program
    from optimize.lookups import rewrite_lookups
    from optimize.torch_program import load_program, program_on

    manifest = artifact.manifest
    program = load_program(artifact.model_path)
    here = rewrite and device == "cpu"
    done: list[str] = []
    if manifest.layout == "flat" and not here:
        program, done = rewrite_lookups(program, manifest.signature, join=False)
    if GRAPHS in manifest.settings:
        precision = manifest.settings[GRAPHS].get("precision", "fp32")
    program = narrowed_program(program, manifest, precision)
    if here:
        program, done = rewrite_for_cpu(program, manifest)
    return program_on(in_plain_torch(program), device), done


def _require_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise UserError(
            "compile_inductor needs a C++ compiler, and none was found: install g++, or name one "
            "in the environment variable CXX"
        ) from error


def _target() -> tuple[str | None, tuple[str, ...]]:
    """Return what to compile for, as -march takes it, and the instruction sets it may use."""
    here = instruction_sets()
    if platform.machine() != "x86_64":
        return None, here
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    chosen = pick_vec_isa()
    flags = chosen.build_arch_flags().split() if chosen else []
    names = [each.removeprefix("-m").replace("-", "_") for each in flags]
    vector = {_FLAG_NAMES.get(each, each) for each in names}
    for level, sets in _LEVELS:
        if set(sets) <= set(here):
            return level, tuple(each for each in here if each in vector or each in sets)
    return "x86-64", tuple(each for each in here if each in vector)
