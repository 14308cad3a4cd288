"""What passes through an ONNX graph: some of its inner values, for some requests."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from rankers.requests import Array, Columns


def observed(
    model: Any, names: Collection[str], inputs: Sequence[Columns], *, large: bool = False
) -> Iterator[dict[str, Array]]:
    """Yield the values of some names for each request, by name.

    Args:
        model: An ``onnx.ModelProto`` with its weights; it stays as it is.
        names: Of float values.
        inputs: What it takes, for each request.
        large: Whether its weights need a file beside the graph.
    """
    import onnx
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    there = {each.name for each in shown.graph.output}
    for name in names:
        if name not in there:
            kind = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            shown.graph.output.append(kind)
    with tempfile.TemporaryDirectory(prefix="observed-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save_model(shown, path, save_as_external_data=large)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        wanted = [*names]
        for each in inputs:
            yield dict(zip(wanted, session.run(wanted, each), strict=True))
