"""What the ONNX Runtime inside NVIDIA's Triton image can load.

It is not the one that artifacts are gated with here: the image carries a release of its own. The
table of Triton's releases and their ONNX Runtime is in
https://github.com/triton-inference-server/server/blob/main/docs/introduction/compatibility.md.
For another image, change the constants here together with Dockerfile.triton. The limits were found
by asking the Python package of that release: it opens graphs up to them and refuses the next ones;
the operators are those of its ``get_all_operator_schema()``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TRITON_RELEASE = "26.08"
ONNX_RUNTIME = "1.28.0"
NEWEST_IR = 13
NEWEST_OPSET = 26
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"}
# Those of the domain com.microsoft, one a line. The offline optimizer of a newer ONNX Runtime may
# write operators that this one lacks.
_OPERATORS = Path(__file__).with_name("native_operators.txt")


def check_native_runtime(path: Path) -> None:
    """Check that the image's ONNX Runtime loads a graph, as far as the graph says.

    Raises:
        UserError: The IR version, the operator set or an operator is too new for it.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    problem = next(_problems(model), None)
    if problem:
        raise UserError(
            f"{path}: {problem}, and the ONNX Runtime {ONNX_RUNTIME} of Triton {TRITON_RELEASE} "
            "does not know that: export it again for an older one, or deploy with backend python"
        )


def _problems(model: Any) -> Iterator[str]:
    """Say what is too new; nothing if all is known."""
    if model.ir_version > NEWEST_IR:
        yield f"the graph is of ONNX IR version {model.ir_version} (up to {NEWEST_IR} will do)"
    for each in model.opset_import:
        if each.domain in ("", "ai.onnx") and each.version > NEWEST_OPSET:
            yield f"the graph is of operator set {each.version} (up to {NEWEST_OPSET} will do)"
    own = {(each.domain, each.name) for each in model.functions}
    supported = set(_OPERATORS.read_text().split())
    bodies = [model.graph.node, *(each.node for each in model.functions)]
    for node in (node for body in bodies for node in _nodes(body)):
        if (node.domain, node.op_type) in own:
            continue
        known = node.domain != "com.microsoft" or node.op_type in supported
        if node.domain not in _DOMAINS or not known:
            yield f"the graph has an operator {node.domain}.{node.op_type}"


def _nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """Return nodes and those of the graphs within them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)
