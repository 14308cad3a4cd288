"""One score a row out of whatever a module returns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankers.features import ScoreKind

Activation = Literal["sigmoid", "softmax"]
# A head by its name or place; or one column of it.
HeadName = str | int | tuple[str | int, int]


class Head(nn.Module):
    """Takes one head of what a module returns.

    ::

        Head(model, "logits", activation="sigmoid")             # a transformers output, one label
        Head(model, ("logits", 1), activation="softmax")        # the probability of label 1
        Head(model, "cvr")                                      # of a dictionary or a dataclass
        Head(model, 0)                                          # of a tuple, or of [rows, heads]

    Args:
        module: It takes features by name: a ranker's module, or a `Call`.
        head: A dictionary's key, a field of an output object or a dataclass, a place in a tuple; or
            a column of the one tensor ``[rows, heads]`` that the module returns. ``(head, column)``
            takes a column of a head that has several. None: the module returns one score a row.
        activation: ``sigmoid`` makes probabilities out of logits; ``softmax`` does over the columns
            of the head, of which one is taken.

    Attributes:
        score: What is known of the score, for `Signature`: a probability after an activation, else
            only that higher is better.

    Raises:
        UserError: ``softmax`` without a column to take.
    """

    def __init__(
        self,
        module: nn.Module,
        head: HeadName | None = None,
        *,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.head = head
        self.activation = activation
        _check_activation(activation, [head])
        self.score: ScoreKind = "probability" if activation else "relevance"

    def forward(self, **columns: Tensor) -> Tensor:
        """Return the score of each row, ``[rows]``.

        Raises:
            UserError: The module returns no such head, or not one score a row in it.
        """
        return take_head(self.module(**columns), self.head, self.activation)


class Product(nn.Module):
    """Multiplies heads that are probabilities: the click, and the purchase after it (CTR x CVR).

    Args:
        module: It takes features by name.
        heads: Two or more; see `Head`.
        activation: What makes probabilities out of them; None if they are probabilities.

    Attributes:
        score: ``probability``.

    Raises:
        UserError: There are fewer than two heads.
    """

    def __init__(
        self, module: nn.Module, *heads: HeadName, activation: Activation | None = None
    ) -> None:
        super().__init__()
        if len(heads) < 2:
            raise UserError(f"a product of the heads {list(heads)}; expected two or more")
        self.module = module
        self.heads = heads
        self.activation = activation
        _check_activation(activation, heads)
        self.score: ScoreKind = "probability"

    def forward(self, **columns: Tensor) -> Tensor:
        """Return the score of each row, ``[rows]``; see `Head.forward`."""
        output = self.module(**columns)
        scores = [take_head(output, head, self.activation) for head in self.heads]
        if not torch.compiler.is_exporting():
            for head, each in zip(self.heads, scores, strict=True):
                _check_probabilities(head, each)
        return torch.stack(scores).prod(0)


class WeightedSum(nn.Module):
    """Adds heads up, each with its weight.

    Args:
        module: It takes features by name.
        weights: By head its weight.
        activation: What makes probabilities out of the heads, if they are to be.

    Attributes:
        score: ``relevance``: only the order of a sum means something.

    Raises:
        UserError: There are no heads.
    """

    def __init__(
        self,
        module: nn.Module,
        weights: Mapping[HeadName, float],
        *,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        if not weights:
            raise UserError("a weighted sum of no heads; expected a weight for each head")
        self.module = module
        self.weights = dict(weights)
        self.activation = activation
        _check_activation(activation, weights)
        self.score: ScoreKind = "relevance"

    def forward(self, **columns: Tensor) -> Tensor:
        """Return the score of each row, ``[rows]``; see `Head.forward`."""
        output = self.module(**columns)
        terms = [
            take_head(output, head, self.activation) * weight
            for head, weight in self.weights.items()
        ]
        return torch.stack(terms).sum(0)


def take_head(output: Any, head: HeadName | None, activation: Activation | None) -> Tensor:
    """Return one head of a module's output as scores, ``[rows]``.

    Args:
        output: A tensor, or a tuple, dictionary, dataclass or other object of several.
        head: Which; see `Head`.
        activation: What to apply to it.

    Raises:
        UserError: There is no such head, or it does not hold one score a row.
    """
    name, column = head if isinstance(head, tuple) else (head, None)
    if isinstance(output, Tensor):
        if isinstance(name, int) and column is None and output.dim() == 2:
            column = name  # the columns of the one tensor are the heads
        elif name is not None:
            raise UserError(
                f"no head {name!r}: the module returns one tensor of shape "
                f"{tuple(output.shape)}; give the number of a column"
            )
        tensor = output
    else:
        tensor = _part(output, name)
    if activation == "sigmoid":
        tensor = torch.sigmoid(tensor)
    elif activation == "softmax":
        tensor = torch.softmax(tensor, dim=-1)
    return _one_column(tensor, column, head)


def _part(output: Any, name: str | int | None) -> Tensor:
    """Return the tensor of that name or at that place."""
    parts = _parts(output)
    if name is None and len(parts) == 1:
        (part,) = parts.values()
    elif isinstance(name, int) and -len(parts) <= name < len(parts):
        part = list(parts.values())[name]
    elif isinstance(name, str) and name in parts:
        part = parts[name]
    else:
        raise UserError(
            f"the module returns {type(output).__name__} and no head {name!r}; "
            f"{nearest(str(name), parts)}"
        )
    if not isinstance(part, Tensor):
        raise UserError(f"head {name!r} is {type(part).__name__}; expected a tensor")
    return part


def _parts(output: Any) -> dict[str, Any]:
    """Return what an output is made of, by name, or by place where there are no names."""
    if hasattr(output, "keys"):  # dictionaries, transformers' outputs, torchrec's KeyedTensor
        return {key: output[key] for key in output.keys()}  # noqa: SIM118
    if dataclasses.is_dataclass(output):
        return {each.name: getattr(output, each.name) for each in dataclasses.fields(output)}
    if hasattr(output, "_fields"):  # a named tuple
        return dict(zip(output._fields, output, strict=True))
    if isinstance(output, tuple | list):
        return {str(place): each for place, each in enumerate(output)}
    return dict(vars(output)) if hasattr(output, "__dict__") else {}


def _one_column(tensor: Tensor, column: int | None, head: HeadName | None) -> Tensor:
    if column is not None:
        if tensor.dim() != 2 or not -tensor.shape[1] <= column < tensor.shape[1]:
            raise UserError(
                f"head {head!r} has shape {tuple(tensor.shape)}: it has no column {column}"
            )
        return tensor[:, column]
    if tensor.dim() == 1:
        return tensor
    if tensor.dim() == 2 and tensor.shape[1] == 1:
        return tensor.squeeze(1)
    raise UserError(
        f"head {head!r} has shape {tuple(tensor.shape)}; expected one score a row: say which "
        "column with (head, column)"
    )


def _check_activation(activation: Activation | None, heads: Any) -> None:
    if activation == "softmax":
        for head in heads:
            if head is None or isinstance(head, str):
                raise UserError(
                    f"softmax over head {head!r} gives a probability for each of its columns: say "
                    "which with (head, column)"
                )


def _check_probabilities(head: HeadName, scores: Tensor) -> None:
    low, high = float(scores.min()), float(scores.max())
    if low < 0.0 or high > 1.0:
        raise UserError(
            f"head {head!r} runs from {low:.3g} to {high:.3g} and is no probability, so a product "
            'means nothing: pass activation="sigmoid" if it is a logit'
        )
