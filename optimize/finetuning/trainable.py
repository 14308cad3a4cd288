"""Which parameters of a program can learn, and the program as a module whose gradients flow.

What ``torch.export`` writes is the ranker in evaluation mode: dropout is gone, and statistics of
batch norms are constants. Both stay so. Other buffers, such as codes of tables, are no parameters
and stay as well, but for matrices that a rewrite cut out of a layer's.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.fx import Node

from optimize.tables.program import ids_of
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.export import ExportedProgram
    from torch.fx import GraphModule

aten = torch.ops.aten
_BAGS = {
    aten.embedding_bag.default,
    aten.embedding_bag.padding_idx,
    aten._embedding_bag.default,  # noqa: SLF001 - an operator's name
    aten._embedding_bag_forward_only.default,  # noqa: SLF001
}


def trainable_module(program: ExportedProgram) -> GraphModule:
    """Return a program as a module that shares its parameters: what it learns, the program has.

    Save the program itself afterwards; nothing need be exported anew. A program that writes in
    place can be trained as well, where autograd takes its writes.
    """
    module: GraphModule = program.module(check_guards=False)
    learn_matrices(module)
    return module


def learn_matrices(module: GraphModule) -> None:
    """Make constant matrices that layers multiply by parameters, with the same memory.

    What a rewrite cut out of a layer's matrix is a constant, but a weight all the same.
    """
    for node in module.graph.nodes:
        found = weight_of(node)
        if found is None:
            continue
        name = str(found[0].target)
        owner_name, _, attribute = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        held = getattr(owner, attribute)
        if not isinstance(held, nn.Parameter) and held.is_floating_point() and held.dim() == 2:
            delattr(owner, attribute)
            owner.register_parameter(attribute, nn.Parameter(held.detach()))


def weight_of(node: Node) -> tuple[Node, Node, int] | None:
    """Return a dense layer's matrix, its input and the matrix's dimension of outputs.

    None for what is no product of an input by something that the module holds.
    """
    place = {
        aten.linear.default: (1, 0, 0),
        aten.matmul.default: (1, 0, 1),
        aten.mm.default: (1, 0, 1),
        aten.addmm.default: (2, 1, 1),
    }.get(node.target)  # type: ignore[call-overload]
    if place is None:
        return None
    weight, x = node.args[place[0]], node.args[place[1]]
    if not isinstance(weight, Node) or not isinstance(x, Node) or weight.op != "get_attr":
        return None
    return (weight, x, place[2]) if x.op != "get_attr" else None


def trainable_parameters(
    module: nn.Module, *, frozen: Sequence[str] = (), train_tables: bool = False
) -> tuple[dict[str, nn.Parameter], dict[str, str]]:
    """Tell parameters that can learn from those that stay.

    Args:
        module: A program's module, or any other.
        frozen: Patterns of names of those that stay, as in a shell.
        train_tables: Whether embedding tables learn.

    Returns:
        Those that learn by name, and why each of the others stays.

    Raises:
        UserError: A pattern fits no parameter, or nothing is left to learn.
    """
    parameters = dict(module.named_parameters())
    for pattern in frozen:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            listed = ", ".join([*parameters][:8]) or "none"
            raise UserError(
                f"frozen names {pattern!r}, which fits no parameter; the first are {listed}"
            )
    tables = set() if train_tables else table_names(module)
    learn, stay = {}, {}
    for name, parameter in parameters.items():
        if any(fnmatchcase(name, pattern) for pattern in frozen):
            stay[name] = "frozen"
        elif name in tables:
            stay[name] = "a table"
        elif not parameter.is_floating_point():
            stay[name] = f"of {parameter.dtype}"
        else:
            learn[name] = parameter
    if not learn:
        raise UserError("nothing can be fine-tuned: all parameters are frozen or tables")
    return learn, stay


def table_names(module: nn.Module) -> set[str]:
    """Return the names of the parameters whose rows are looked up."""
    found = {
        f"{name}.weight" if name else "weight"
        for name, each in module.named_modules()
        if isinstance(each, nn.Embedding | nn.EmbeddingBag)
    }
    if isinstance(module, torch.fx.GraphModule):
        found |= {
            str(source.target)
            for node in module.graph.nodes
            if (source := _looked_up(node)) is not None and source.op == "get_attr"
        }
    # A table that several names hold has one among the parameters.
    held = {id(x) for name, x in module.named_parameters(remove_duplicate=False) if name in found}
    return {name for name, x in module.named_parameters() if id(x) in held}


def _looked_up(node: Node) -> Node | None:
    """Return what a node reads rows of; None if it reads no rows."""
    source: Any = node.args[0] if node.args else None
    if not isinstance(source, Node):
        return None
    return source if node.target in _BAGS or ids_of(node) is not None else None
