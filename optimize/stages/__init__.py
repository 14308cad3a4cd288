"""Stages: each turns one artifact into another. One file a stage.

A stage is a frozen dataclass of options. Class data says what it reads, makes and needs, so that
the command line can list stages and check a recipe without importing torch. Its module imports
heavy libraries only inside `Stage.run`.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from rankers.requests import RequestBatch

# name → "module:class". To add a stage, write its file and add its line.
STAGES = {
    "build_tensorrt": "optimize.stages.build_tensorrt:BuildTensorrt",
    "compile_inductor": "optimize.stages.compile_inductor:CompileInductor",
    "cuda_graphs": "optimize.stages.cuda_graphs:CudaGraphs",
    "drop_fields": "optimize.stages.drop_fields:DropFields",
    "export_onnx": "optimize.stages.export_onnx:ExportOnnx",
    "factor_tables": "optimize.stages.factor_tables:FactorTables",
    "fuse_lookups": "optimize.stages.fuse_lookups:FuseLookups",
    "fold_rare_rows": "optimize.stages.fold_rare_rows:FoldRareRows",
    "export_openvino": "optimize.stages.export_openvino:ExportOpenvino",
    "half_precision": "optimize.stages.half_precision:HalfPrecision",
    "lookups": "optimize.stages.lookups:Lookups",
    "onnx_gpu_session": "optimize.stages.onnx_gpu_session:OnnxGpuSession",
    "onnx_session": "optimize.stages.onnx_session:OnnxSession",
    "optimize_onnx": "optimize.stages.optimize_onnx:OptimizeOnnx",
    "prune_neurons": "optimize.stages.prune_neurons:PruneNeurons",
    "quantize_aware": "optimize.stages.quantize_aware:QuantizeAware",
    "quantize_dynamic": "optimize.stages.quantize_dynamic:QuantizeDynamic",
    "quantize_program": "optimize.stages.quantize_program:QuantizeProgram",
    "quantize_static": "optimize.stages.quantize_static:QuantizeStatic",
    "quantize_tables": "optimize.stages.quantize_tables:QuantizeTables",
    "quantize_weights": "optimize.stages.quantize_weights:QuantizeWeights",
    "recalibrate": "optimize.stages.recalibrate:Recalibrate",
    "sparsify": "optimize.stages.sparsify:Sparsify",
    "tensorrt_operators": "optimize.stages.tensorrt_operators:TensorrtOperators",
    "torch_compile": "optimize.stages.torch_compile:TorchCompile",
    "torch_tensorrt": "optimize.stages.torch_tensorrt:TorchTensorrt",
    "user_once": "optimize.stages.user_once:UserOnce",
    "user_state": "optimize.stages.user_state:KeepUserState",
}


class Stage(Protocol):
    """What a stage is.

    Attributes:
        consumes: The artifact format it reads.
        produces: The artifact format it makes.
        needs: Distributions that must be installed; their versions are part of the cache key.
        code: What else in `optimize` decides the result, as patterns of files; part of the cache
            key as well, as the stage's own file is.

    One whose result is for some devices alone says ``devices``, of `optimize.devices.DEVICES`. One
    that needs more of a library than that it is installed has a method ``unmet()``: a line about
    what is missing, or None.

    One that needs another distribution where a certain stage came before it names both in
    ``needs_after``, so that a branch without it is skipped before anything is made.

    One whose options name files has a property ``reads`` with their paths: what is in them is part
    of the cache key. One that makes its result for the CPU at hand has ``made_for_cpu = True``: so
    are the CPU's instruction sets. One that is all that tells a branch from another has
    ``idle_ends_branch = True``: where it leaves the model as it was, a branch would only repeat
    the other, and ends.
    """

    consumes: ClassVar[str]
    produces: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    code: ClassVar[tuple[str, ...]]

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Write the new model into ``folder`` and return its manifest, not yet sealed.

        Args:
            artifact: What to read; its checksums were compared.
            folder: An empty folder. The caller seals it and puts it in place.

        Raises:
            UserError: The model cannot be converted; the message says at what and why.
        """
        ...


class LearningStage(Protocol):
    """A `Stage` with ``needs_data = True``: it learns from requests that are not the evaluation's.

    Its `run` gets them as a third argument; part of the cache key is what they hold.
    """

    needs_data: ClassVar[bool]

    def run(self, artifact: Artifact, folder: Path, calibration: RequestBatch) -> Manifest:
        """Do as `Stage.run`; ``calibration`` are the ranker's calibration requests."""
        ...


def needs_data(stage: Stage) -> bool:
    """Whether a stage is a `LearningStage`: those that say nothing are none."""
    return bool(getattr(stage, "needs_data", False))


def made_for_cpu(stage: Stage) -> bool:
    """Whether the result depends on the CPU at hand, by the stage's ``made_for_cpu``."""
    return bool(getattr(stage, "made_for_cpu", False))


def stage_class(name: str) -> type[Any]:
    """Return the class of the stage called ``name``.

    Raises:
        UserError: There is none; the message names the nearest.
    """
    if name not in STAGES:
        raise UserError(f"unknown stage {name!r}; {nearest(name, STAGES)}")
    module, _, attribute = STAGES[name].partition(":")
    found: type[Any] = getattr(importlib.import_module(module), attribute)
    return found


def make_stage(name: str, options: dict[str, Any]) -> Stage:
    """Make a stage from its name and options, as a recipe gives them.

    Raises:
        UserError: The stage or an option is unknown, or an option has the wrong type.
    """
    kind = stage_class(name)
    hints = typing.get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}
    for option, value in options.items():
        if option not in fields:
            raise UserError(f"stage {name!r} has no option {option!r}; {nearest(option, fields)}")
        if not _fits(value, hints[option]):
            expected = getattr(hints[option], "__name__", str(hints[option]))
            raise UserError(f"stage {name!r}: option {option!r} is {value!r}; expected {expected}")
    try:
        stage: Stage = kind(**options)
    except TypeError as error:
        raise UserError(f"stage {name!r}: {error}") from error
    return stage


def stage_options(stage: Stage) -> dict[str, Any]:
    """Return every option of a stage with its value."""
    return dataclasses.asdict(typing.cast("Any", stage))


def _fits(value: object, hint: Any) -> bool:
    """Whether a value from TOML or the command line is of an option's declared type."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in typing.get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is not None:
        return isinstance(value, origin)
    return isinstance(value, hint)
