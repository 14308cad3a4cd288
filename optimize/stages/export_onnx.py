"""Stage ``export_onnx``: a torch.export program becomes an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optimize.broadcast import broadcast_one_user
from optimize.samples import sample_requests
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest

MODEL = "model.onnx"
OUTPUT = "score"
# A traced batch dimension has been fixed silently before (pytorch#148886), so the graph is run at
# sizes other than the traced one, 1 among them.
# Several requests at once are of use to a graph that takes each user once.
CHECKED_CANDIDATES = ((1,), (3,), (257,), (4, 1, 30))
_TOLERANCE = 1e-4
# Where a sum of another order comes to lie on the other side of a tie, a layer's input is a whole
# code of 8 bits away.
_TOLERANCE_ROUNDED = 2e-2
_PROTOBUF_LIMIT_BYTES = 2**31 - 1


@dataclass(frozen=True)
class ExportOnnx:
    """Translates the program operator by operator with PyTorch's torch.export-based exporter.

    Every other runtime starts from this graph. Embedding bags become gathers and sums on the way,
    as they would be loops otherwise; what `quantize_program` rounded to int8 becomes pairs. The
    number of rows stays free. The stage runs the graph at three other sizes and refuses one that
    was fixed to the traced size.
    Source: https://docs.pytorch.org/docs/stable/onnx_export.html
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript", "onnxruntime")
    code: ClassVar[tuple[str, ...]] = (
        "broadcast.py",
        "flat_graph.py",
        "lookups.py",
        "samples.py",
        "fake_quantization/*.py",
    )

    opset: int = field(default=20, metadata={"help": "ONNX operator set, 18 to 23"})

    def __post_init__(self) -> None:
        if not 18 <= self.opset <= 23:
            raise UserError(f"stage 'export_onnx': opset is {self.opset}; expected 18 to 23")

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Export, check at other sizes; see `optimize.stages.Stage.run`."""
        import onnx

        from optimize.fake_quantization.translating import types_in
        from optimize.lookups import rewrite_lookups
        from optimize.torch_program import load_program

        program = load_program(artifact.model_path)
        manifest = artifact.manifest
        if manifest.layout == "flat":
            program, _ = rewrite_lookups(program, manifest.signature, join=False)
        exported = self._export(program, list(manifest.inputs))
        parameter_bytes = sum(each.nbytes for each in program.state_dict.values())
        large = parameter_bytes > _PROTOBUF_LIMIT_BYTES // 2
        if manifest.layout == "user_once":
            model = exported.model_proto
            broadcast_one_user(model, manifest.signature.user[0].name)
            onnx.save_model(
                model, folder / MODEL, save_as_external_data=large, location=f"{MODEL}.data"
            )
        else:
            exported.save(str(folder / MODEL), external_data=large)
        onnx.checker.check_model(str(folder / MODEL))
        tolerance = _TOLERANCE_ROUNDED if types_in(program) else _TOLERANCE
        check_rows_stay_free(folder / MODEL, program.module(), manifest, tolerance)
        return replace(manifest, format="onnx", model=MODEL, settings={})

    def _export(self, program: Any, names: list[str]) -> Any:
        import torch

        from optimize.export_errors import explain_export_error
        from optimize.fake_quantization.onnx_pairs import translations

        try:
            return torch.onnx.export(
                program,
                input_names=names,
                output_names=[OUTPUT],
                opset_version=self.opset,
                dynamo=True,
                optimize=True,
                verbose=False,
                custom_translation_table=translations(program),
            )
        except UserError:
            raise
        except Exception as error:  # the exporter wraps whatever its parts raise
            raise UserError(f"ONNX export failed: {explain_export_error(error)}") from error


def check_rows_stay_free(
    model: Path, module: Any, manifest: Manifest, tolerance: float = _TOLERANCE
) -> None:
    """Run a graph and the module it came from at several numbers of rows, and of users if it can.

    Args:
        model: The graph's file.
        module: What it came from.
        manifest: Says what both take.
        tolerance: Of scores, as a share of the largest if that is over 1.

    Raises:
        UserError: The graph fails at one of them, or gives other scores.
    """
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs = {each.name for each in session.get_inputs()}
    for counts in CHECKED_CANDIDATES:
        rows = sum(counts)
        columns = manifest.columns_of(sample_requests(manifest.signature, counts))
        columns = {name: columns[name] for name in manifest.inputs}
        with torch.inference_mode():
            expected = module(*(torch.from_numpy(x) for x in columns.values())).numpy()
        try:
            (scores,) = session.run(None, {name: columns[name] for name in inputs})
        except Exception as error:  # onnxruntime has many kinds of its own
            raise UserError(
                f"the ONNX graph fails at {rows} rows: the batch size was fixed while tracing, or "
                f"an operator does not take it: {error}"
            ) from error
        if scores.shape != expected.shape:
            raise UserError(
                f"the ONNX graph gives shape {scores.shape} for {rows} rows; expected "
                f"{expected.shape}: the batch size was fixed while tracing"
            )
        difference = float(np.abs(scores - expected).max())
        if not difference <= tolerance * max(1.0, float(np.abs(expected).max())):
            raise UserError(
                f"the ONNX graph's scores differ by {difference:.2g} from torch's at {rows} rows"
            )
