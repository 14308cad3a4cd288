"""A module called with arguments that are made out of a ranker's features."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Unpack, get_args, get_origin

import torch
from torch import Tensor, nn

from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager


class Argument(ABC):
    """One argument of a module's ``forward``, made out of features.

    Attributes:
        reads: The names of the features that it is made out of.
    """

    reads: tuple[str, ...] = ()

    @abstractmethod
    def make(self, columns: Mapping[str, Tensor]) -> Any:
        """Return the value for these rows.

        Args:
            columns: Every feature by its name, ``[rows, …]``.
        """

    def check(self, module: nn.Module) -> None:
        """Raise a `UserError` if the module cannot take what this makes."""
        del module

    def tracing(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return what is to hold while the module is traced by ``torch.export``."""
        del module
        return nullcontext()


class Keywords(Argument):
    """Several arguments in one: by position it becomes keyword arguments of the module's forward.

    Attributes:
        names: Of these keyword arguments.
    """

    names: tuple[str, ...] = ()

    @abstractmethod
    def spread(self, columns: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the keyword arguments for these rows; see `Argument.make`."""


class Call(nn.Module):
    """Calls a module as it wants to be called.

    ::

        Call(tower, "user_id", "item_id")                  # forward(user, item), by position
        Call(tower, uid="user_id", iid="item_id")          # under other names
        Call(mlp, Dictionary("user_id", "item_id"))        # forward(features)
        Call(deepfm, PackedMatrix(features))               # forward(X), X float32 [rows, columns]
        Call(dlrm, dense_features="dense", sparse_features=KeyedJagged(features))

    Args:
        module: Any trained module; it is used as it is.
        arguments: What its forward gets by position: a feature's name, or an `Argument`.
        keywords: What it gets by keyword.

    Raises:
        UserError: The module's forward does not take these arguments, or needs others; or an
            argument cannot suit it.
    """

    def __init__(
        self, module: nn.Module, /, *arguments: str | Argument, **keywords: str | Argument
    ) -> None:
        super().__init__()
        self.module = module
        self.arguments = arguments
        self.keywords = keywords
        given = (*arguments, *keywords.values())
        self.reads = tuple(dict.fromkeys(name for each in given for name in reads(each)))
        _check_call(module, arguments, keywords)
        for each in given:
            if isinstance(each, Argument):
                each.check(module)

    def forward(self, **columns: Tensor) -> Any:
        """Return what the module returns.

        Args:
            columns: Features by name, ``[rows, …]`` each.

        Raises:
            UserError: A feature is missing, or none of the arguments reads it.
        """
        self._check_features(columns)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for each in self.arguments:
            if isinstance(each, Keywords):
                named |= each.spread(columns)
            else:
                positional.append(make(each, columns))
        named |= {name: make(each, columns) for name, each in self.keywords.items()}
        with ExitStack() as held:
            if torch.compiler.is_exporting():
                for each in (*self.arguments, *self.keywords.values()):
                    if isinstance(each, Argument):
                        held.enter_context(each.tracing(self.module))
            return self.module(*positional, **named)

    def _check_features(self, columns: Iterable[str]) -> None:
        names = set(columns)
        for name in self.reads:
            if name not in names:
                raise UserError(
                    f"{_name(self.module)} is called with feature {name!r}, which the signature "
                    f"does not have; {nearest(name, names)}"
                )
        for name in sorted(names.difference(self.reads)):
            raise UserError(
                f"{_name(self.module)} is not called with feature {name!r}: pass it, or leave it "
                "out of the signature"
            )


def reads(argument: str | Argument) -> tuple[str, ...]:
    """Return the names of the features that an argument reads."""
    return (argument,) if isinstance(argument, str) else argument.reads


def make(argument: str | Argument, columns: Mapping[str, Tensor]) -> Any:
    """Return an argument's value: the feature of that name, or what an `Argument` makes."""
    return columns[argument] if isinstance(argument, str) else argument.make(columns)


def _name(module: nn.Module) -> str:
    return type(module).__name__


def _check_call(
    module: nn.Module,
    arguments: tuple[str | Argument, ...],
    keywords: Mapping[str, str | Argument],
) -> None:
    """Hold the arguments against the module's forward."""
    signature = inspect.signature(module.forward)
    kinds = inspect.Parameter
    spread = [each for each in arguments if isinstance(each, Keywords)]
    names = [*(name for each in spread for name in each.names), *keywords]
    takes: set[str] = set()
    takes_any = False
    for name, parameter in signature.parameters.items():
        if parameter.kind is kinds.VAR_KEYWORD:
            others = _named_by(parameter.annotation)
            takes_any = not others
            takes |= others
        elif parameter.kind in {kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY}:
            takes.add(name)
    for name in names:
        if name not in takes and not takes_any:
            raise UserError(
                f"{_name(module)}.forward takes no argument {name!r}; {nearest(name, takes)}"
            )
    try:
        signature.bind(*range(len(arguments) - len(spread)), **dict.fromkeys(names))
    except TypeError as error:
        raise UserError(
            f"{_name(module)}.forward{_in_short(signature)} cannot be called so: {error}"
        ) from error


def _named_by(annotation: Any) -> set[str]:
    """Return the names that ``**kwargs: Unpack[…]`` allows, or none if it allows any.

    `transformers` models ignore a keyword that they do not know; their annotation tells.
    """
    if get_origin(annotation) is not Unpack:
        return set()
    return set(inspect.get_annotations(get_args(annotation)[0]))


def _in_short(signature: inspect.Signature) -> str:
    return f"({', '.join(signature.parameters)})"
