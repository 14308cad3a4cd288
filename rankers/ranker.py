"""A ranker: a trained module, what it reads, and the requests that judge it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError, in_one_line, nearest
from rankers.leaks import check_held_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from rankers.features import Signature
    from rankers.requests import Array, Columns, RequestBatch

FILES = "files"  # the folder that they are kept in


@dataclass(frozen=True)
class Ranker:
    """What a user hands in.

    Attributes:
        name: A short name; folders and models are named after it.
        module: The trained module, used as it is. ``forward`` takes the signature's features by
            name, one row for each (user, candidate) pair, and returns one score a row: ``[rows]``
            or ``[rows, 1]``.
        signature: The features, and what the score means.
        evaluation: Labelled requests that were held out of training.
        seen: By feature, in how many training rows (of a user feature, requests) each ID came,
            int64 ``[cardinality]``: what rare and cold mean in an evaluation. None if nobody
            counted.
        files: What makes IDs out of raw values, by file name, such as ``tokenizer.json``. They are
            kept beside it in checkpoints, artifacts and deployed versions, in the folder ``files``.
        calibration: Requests from training that later steps may learn from, with or without labels:
            quantization reads ranges off them. None is among those of the evaluation. None where
            there are no such requests; a few hundred are enough.
    """

    name: str
    module: nn.Module
    signature: Signature
    evaluation: RequestBatch
    seen: Mapping[str, Array] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    calibration: RequestBatch | None = None

    def __post_init__(self) -> None:
        self.evaluation.check(self.signature)
        if self.evaluation.labels is None:
            raise UserError(f"ranker {self.name!r}: its evaluation requests have no labels")
        for name in self.files:
            if Path(name).name != name:
                raise UserError(f"ranker {self.name!r}: {name!r} is no name for one of its files")
        if self.calibration is not None:
            self._check_calibration(self.calibration)

    def write_files(self, folder: Path) -> None:
        """Write the ranker's files, if it has any, into ``folder/files``."""
        for name, content in self.files.items():
            (folder / FILES).mkdir(exist_ok=True)
            (folder / FILES / name).write_bytes(content)

    def score(self, columns: Columns) -> Array:
        """Score flat rows with the module as it is, in evaluation mode and without gradients.

        Args:
            columns: Every feature, ``[rows, …]``.

        Returns:
            float32 ``[rows]``.

        Raises:
            UserError: The module's ``forward`` raised something; the message says what and where.
        """
        training = self.module.training
        self.module.eval()
        try:
            return self._score(columns)
        finally:
            self.module.train(training)

    def _check_calibration(self, calibration: RequestBatch) -> None:
        if not len(calibration):
            raise UserError(f"ranker {self.name!r}: there are no calibration requests; give None")
        try:
            calibration.check(self.signature)
            check_held_out(calibration, self.evaluation)
        except UserError as error:
            raise UserError(f"ranker {self.name!r}: its calibration requests: {error}") from error

    def _score(self, columns: Columns) -> Array:
        import torch

        with torch.inference_mode():
            inputs = {
                name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in columns.items()
            }
            try:
                scores = self.module(**inputs)
            except UserError as error:  # an adapter's, which says what to do
                raise UserError(f"ranker {self.name!r}: {error}") from error
            except Exception as error:
                raise UserError(f"ranker {self.name!r}: {in_one_line(error)}") from error
        if not isinstance(scores, torch.Tensor):
            raise UserError(
                f"ranker {self.name!r}: its module returns {type(scores).__name__}; expected one "
                "tensor of scores: pick one with rankers.adapters.Head"
            )
        result: Array = scores.reshape(-1).float().numpy()
        return result


def load_ranker(spec: str) -> Ranker:
    """Load a ranker by what a person would call it.

    Args:
        spec: ``file.py:function`` or ``package.module:function`` (called without arguments, returns
            a `Ranker`), a checkpoint folder that ``python -m rankers train`` made, or a name in the
            zoo, whose ranker is trained on its synthetic log the first time.

    Raises:
        UserError: There is no such ranker, or the function does not return one.
    """
    path = Path(spec)
    if path.is_dir():
        from rankers.checkpoint import load_checkpoint

        return load_checkpoint(path)
    if ":" in spec:
        return _call(spec, load_function(spec))
    from rankers.zoo.catalogue import ZOO

    if spec in ZOO:
        from rankers.zoo import load_trained

        return load_trained(spec)
    raise UserError(
        f"no ranker {spec!r}: it is not file.py:function, package.module:function, a checkpoint "
        f"folder or a name in the zoo; {nearest(spec, ZOO)}"
    )


def load_function(spec: str) -> Callable[..., Any]:
    """Import the function that ``file.py:function`` or ``package.module:function`` names.

    Raises:
        UserError: It cannot be imported, or there is no such function.
    """
    source, _, attribute = spec.rpartition(":")
    module = _load_source(source)
    function: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(function):
        functions = [name for name, value in vars(module).items() if callable(value)]
        raise UserError(f"{spec}: no function {attribute!r}; {nearest(attribute, functions)}")
    return function


def _load_source(source: str) -> Any:
    """Import a Python file by its path, or a module by its dotted name."""
    if not source.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        try:
            return importlib.import_module(source)
        except ModuleNotFoundError as error:
            raise UserError(f"no module {source!r} can be imported: {error}") from error
    path = Path(source).resolve()
    if not path.is_file():
        raise UserError(f"no file {source!r} to load a ranker from")
    sys.path.insert(0, str(path.parent))  # the file may import its neighbours
    location = importlib.util.spec_from_file_location(path.stem, path)
    if location is None or location.loader is None:
        raise UserError(f"{source}: cannot be imported as Python")
    module = importlib.util.module_from_spec(location)
    sys.modules[path.stem] = module
    try:
        location.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{source}: cannot be imported: {in_one_line(error)}") from error
    return module


def _call(spec: str, function: Callable[[], Any]) -> Ranker:
    """Call the function that makes the ranker."""
    try:
        ranker = function()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{spec}: {in_one_line(error)}") from error
    if not isinstance(ranker, Ranker):
        raise UserError(f"{spec}: returned {type(ranker).__name__}; expected a rankers Ranker")
    return ranker
