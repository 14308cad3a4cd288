"""What an artifact with 8-bit layers says of itself, and where its weights lie."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from optimize.artifact import EVIDENCE
from optimize.gpu_graphs import COMPUTE_CAPABILITY, FP8
from optimize.int8.form import FP8_NEEDS
from optimize.stages.export_onnx import MODEL
from rankers.ranker import FILES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from optimize.int8.form import Int8Form
    from optimize.int8.layers import ChosenLayers, DenseLayer

_PROTOBUF_LIMIT_BYTES = 2**31 - 1


def quantized(
    stage: str, artifact: Artifact, chosen: ChosenLayers, form: Int8Form, more: str = ""
) -> Manifest:
    """Return the manifest of an artifact whose layers a stage quantized.

    Args:
        stage: The stage's name.
        artifact: What it read.
        chosen: The layers.
        form: In which form; the CPU or the GPU that it needs is required from now on.
        more: What else to say.
    """
    manifest = artifact.manifest
    requires, settings = dict(manifest.requires), dict(manifest.settings)
    if form.isa is not None:
        known = requires.get("isa", "").split()
        requires["isa"] = " ".join(dict.fromkeys([*known, form.isa]))
    made = form.precision
    if made == "fp8":
        requires[COMPUTE_CAPABILITY] = FP8_NEEDS
        settings[FP8] = True
    note = f"{stage}: {chosen.describe()} to {made}, {form.describe()}{more}"
    before = manifest.precision
    return replace(
        manifest,
        model=MODEL,
        precision=made if before in {"fp32", made} else f"{before} {made}",
        requires=requires,
        settings=settings,
        notes=(*manifest.notes, note),
    )


def kept_as_it_is(stage: str, artifact: Artifact, chosen: ChosenLayers, folder: Path) -> Manifest:
    """Copy an artifact that has no layers to quantize, and say so."""
    import shutil

    for name in artifact.manifest.files:
        if not name.startswith((f"{EVIDENCE}/", f"{FILES}/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.folder / name, folder / name)
    note = f"{stage}: nothing quantized: {chosen.describe()}"
    return replace(artifact.manifest, notes=(*artifact.manifest.notes, note))


def large(model: Path) -> bool:
    """Whether weights need a file beside the graph, which protobuf limits to 2 GB."""
    return sum(each.stat().st_size for each in model.parent.iterdir()) > _PROTOBUF_LIMIT_BYTES // 2


def names_as_matmul(layers: Sequence[DenseLayer]) -> list[str]:
    """Return what the layers' nodes are called once the library has made each Gemm a MatMul."""
    return [f"{each.name}_MatMul" if each.kind == "Gemm" else each.name for each in layers]
