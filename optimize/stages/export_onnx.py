"""Stage ``export_onnx``: a torch.export program becomes an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from rankers.features import Feature, Signature
    from rankers.requests import Array, Columns

MODEL = "model.onnx"
OUTPUT = "score"
# A traced batch dimension has been fixed silently before (pytorch#148886), so the graph is run at
# sizes other than the traced one, 1 among them.
CHECKED_ROWS = (1, 3, 257)
_TOLERANCE = 1e-4
_PROTOBUF_LIMIT_BYTES = 2**31 - 1


@dataclass(frozen=True)
class ExportOnnx:
    """Translates the program operator by operator with PyTorch's torch.export-based exporter.

    Every other runtime starts from this graph. The number of rows stays free. The stage runs the
    graph at three other sizes and refuses one that was fixed to the traced size.
    Source: https://docs.pytorch.org/docs/stable/onnx_export.html
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript", "onnxruntime")

    opset: int = field(default=20, metadata={"help": "ONNX operator set, 18 to 23"})

    def __post_init__(self) -> None:
        if not 18 <= self.opset <= 23:
            raise UserError(f"stage 'export_onnx': opset is {self.opset}; expected 18 to 23")

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Export, check at other sizes; see `optimize.stages.Stage.run`."""
        import onnx

        from optimize.torch_program import load_program

        program = load_program(artifact.model_path)
        names = [feature.name for feature in artifact.manifest.signature.features]
        exported = self._export(program, names)
        parameter_bytes = sum(each.nbytes for each in program.state_dict.values())
        exported.save(
            str(folder / MODEL), external_data=parameter_bytes > _PROTOBUF_LIMIT_BYTES // 2
        )
        onnx.checker.check_model(str(folder / MODEL))
        check_rows_stay_free(folder / MODEL, program.module(), artifact.manifest.signature)
        return replace(artifact.manifest, format="onnx", model=MODEL)

    def _export(self, program: Any, names: list[str]) -> Any:
        import torch

        from optimize.export_errors import explain_export_error

        try:
            return torch.onnx.export(
                program,
                input_names=names,
                output_names=[OUTPUT],
                opset_version=self.opset,
                dynamo=True,
                optimize=True,
                verbose=False,
            )
        except Exception as error:  # the exporter wraps whatever its parts raise
            raise UserError(f"ONNX export failed: {explain_export_error(error)}") from error


def check_rows_stay_free(model: Path, module: Any, signature: Signature) -> None:
    """Run a graph and the module it came from at several numbers of rows.

    Raises:
        UserError: The graph fails at one of them, or gives other scores.
    """
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs = {each.name for each in session.get_inputs()}
    for rows in CHECKED_ROWS:
        columns = sample_columns(signature, rows)
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
        if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise UserError(
                f"the ONNX graph's scores differ by {difference:.2g} from torch's at {rows} rows"
            )


def sample_columns(signature: Signature, rows: int) -> Columns:
    """Return random, valid columns in the signature's order: ``[rows, …]`` each."""
    random = np.random.default_rng(rows)
    return {each.name: _sample(each, rows, random) for each in signature.features}


def _sample(feature: Feature, rows: int, random: np.random.Generator) -> Array:
    shape = (rows, *feature.shape)
    if feature.dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    if feature.dtype.startswith("int"):
        # Without a cardinality nothing is known of the range but that 0 and 1 are likely in it.
        return random.integers(0, feature.cardinality or 2, shape).astype(feature.dtype)
    return random.standard_normal(shape).astype(feature.dtype)
