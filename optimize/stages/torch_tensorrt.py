"""Stage ``torch_tensorrt``: a program whose parts are TensorRT engines, the rest torch's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from optimize.bucket_options import BucketOptions
from rankers.errors import UserError, in_one_line

if TYPE_CHECKING:
    from pathlib import Path

    from torch.export import ExportedProgram

    from optimize.artifact import Artifact, Manifest
    from optimize.static_inputs import Column

NAME = "torch_tensorrt"
MODEL = "model.trt.pt2"
PROGRAM = "model.ep"


@dataclass(frozen=True)
class TorchTensorrt(BucketOptions):
    """Compiles the program by Torch-TensorRT's dynamo frontend, for shapes from 1 to the largest.

    Operators that TensorRT lacks run in torch between the engines, so nothing is refused for one of
    them; a plan of `build_tensorrt` is faster where the whole graph fits. What is written is a
    library of AOTInductor: machine code, as trustworthy as whoever made it. Layers that
    `quantize_program` rounded become int8 or fp8, for which NVIDIA's Model Optimizer must be
    installed (``nvidia-modelopt``): Torch-TensorRT converts its operator. Not run on a GPU yet.
    Sources: https://docs.pytorch.org/TensorRT/dynamo/dynamo_export.html,
    https://docs.pytorch.org/TensorRT/user_guide/shapes_precision/quantization.html
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch_tensorrt"
    needs: ClassVar[tuple[str, ...]] = ("torch-tensorrt", "tensorrt", "torch")
    needs_after: ClassVar[dict[str, tuple[str, ...]]] = {"quantize_program": ("nvidia-modelopt",)}
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    code: ClassVar[tuple[str, ...]] = (
        "tensorrt/torch_options.py",
        "torch_program.py",
        "half_products.py",
        "fake_quantization/*.py",
        "buckets.py",
        "bucket_options.py",
    )

    precision: Literal["fp32", "fp16", "bf16"] = field(
        default="fp16", metadata={"help": "of matrix products; the rest stays float32"}
    )
    tf32: bool = field(
        default=False, metadata={"help": "float32 products in TF32: faster, three digits"}
    )
    version_compatible: bool = field(
        default=False, metadata={"help": "later versions of TensorRT run it; slower"}
    )
    ampere_plus: bool = field(
        default=False, metadata={"help": "every GPU from Ampere on runs it; slower"}
    )
    level: int = field(default=3, metadata={"help": "0 builds fast, 5 compares most tactics"})
    whole: bool = field(
        default=False, metadata={"help": "an operator that TensorRT lacks is an error"}
    )
    least_block: int = field(
        default=5, metadata={"help": "the fewest operators that become an engine"}
    )
    exported_program: bool = field(
        default=False,
        metadata={"help": "save model.ep beside it, which holds a pickle and is not opened here"},
    )

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Compile; see `optimize.stages.Stage.run`."""
        import torch
        import torch_tensorrt

        from optimize.fake_quantization.translating import nvidias_in_torch, refuse_left_to_torch
        from optimize.gpu_graphs import precision_in
        from optimize.runtimes.torch_tensorrt_library import SETTING
        from optimize.static_inputs import columns_of
        from optimize.tensorrt.builder import this_machine, timing_cache
        from optimize.tensorrt.torch_options import TorchBuildOptions, compile_options
        from optimize.torch_program import program_on

        manifest = artifact.manifest
        if manifest.layout not in ("flat", "user_once"):
            raise UserError(f"{NAME} takes no {manifest.layout} program")
        target = this_machine()
        buckets, said = self.choose(NAME)
        options = TorchBuildOptions(
            precision=self.precision,
            tf32=self.tf32,
            version_compatible=self.version_compatible,
            ampere_plus=self.ampere_plus,
            level=self.level,
            whole=self.whole,
            least_block=self.least_block,
        )
        told = compile_options(
            options, torch_tensorrt.__version__, timing_cache=str(timing_cache(target))
        )
        columns = columns_of(manifest)
        usual = buckets.usual(self.histogram())
        program = program_on(
            program_for_tensorrt(artifact, self.precision, target.compute_capability), "cuda"
        )
        inputs = [
            torch_tensorrt.Input(**each) for each in _shapes(columns, usual, buckets.greatest)
        ]
        samples = _samples(columns, usual)
        try:
            with nvidias_in_torch():
                compiled = torch_tensorrt.dynamo.compile(program, inputs=inputs, **told)
            refuse_left_to_torch(compiled)
            for path, kind in self._files(folder):
                torch_tensorrt.save(compiled, str(path), output_format=kind, arg_inputs=samples)
        except UserError:
            raise
        except Exception as error:  # of two compilers: many kinds
            raise UserError(f"Torch-TensorRT cannot compile it: {in_one_line(error)}") from error
        setting = {
            "built": target.to_json(),
            "options": options.to_json(),
            "sizes": list(buckets.sizes),
            "beyond": buckets.beyond,
        }
        return replace(
            manifest,
            format="torch_tensorrt",
            model=MODEL,
            precision=manifest.precision
            if self.precision == "fp32"
            else precision_in(manifest.precision, self.precision),
            requires={"torch": torch.__version__, "tensorrt": target.tensorrt},
            settings={SETTING: setting},
            notes=(*manifest.notes, f"{NAME}: TensorRT {target.tensorrt}, {said}"),
        )

    def _files(self, folder: Path) -> list[tuple[Path, str]]:
        """Return what is saved, and as which of Torch-TensorRT's formats."""
        saved = [(folder / MODEL, "aot_inductor")]
        if self.exported_program:
            saved.append((folder / PROGRAM, "exported_program"))
        return saved


def program_for_tensorrt(
    artifact: Artifact, precision: Literal["fp32", "fp16", "bf16"], compute_capability: str
) -> ExportedProgram:
    """Return an artifact's program as it is compiled: its products' types, its layers of 8 bits.

    Raises:
        UserError: It has layers of 8 bits, and the GPU does not multiply them or a library is
            missing.
    """
    from optimize.fake_quantization.translating import for_tensorrt, refuse_gpu, types_in
    from optimize.half_products import narrowed_program
    from optimize.torch_program import load_program

    program = load_program(artifact.model_path)
    refuse_gpu(types_in(program), compute_capability)
    return for_tensorrt(narrowed_program(program, artifact.manifest, precision))


def _shapes(columns: tuple[Column, ...], usual: int, greatest: int) -> list[dict[str, Any]]:
    """Return the keywords of a ``torch_tensorrt.Input`` for each column."""
    import torch

    from optimize.runtimes.onnx_providers import profile_of

    profile = profile_of(columns, usual, greatest)
    return [
        {
            "min_shape": profile[each.name][0],
            "opt_shape": profile[each.name][1],
            "max_shape": profile[each.name][2],
            "dtype": getattr(torch, each.dtype),
            "name": each.name,
        }
        for each in columns
    ]


def _samples(columns: tuple[Column, ...], rows: int) -> tuple[Any, ...]:
    """Return inputs of the usual size on the GPU: zeros, which every ID feature has."""
    from optimize.static_inputs import StaticInputs

    return StaticInputs(columns, rows, "cuda").tensors
