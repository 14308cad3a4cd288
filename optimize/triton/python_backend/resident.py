"""Requests whose tensors may lie on a GPU: read by DLPack, and scored where they are.

Clients hand tensors over by CUDA shared memory, or another model of the same server makes them.
Requests over gRPC come in the host's memory, GPU or not; those are joined and packed as on the CPU,
and a captured graph copies them to its device at once.

Imported by model.py inside the server, for models that rankserve's own runtime opens. On the CPU
the same code runs where the config's parameter ``tensors`` is ``dlpack``; nothing of it has run on
a GPU yet (docs/gpu.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from rankers.requests import ITEM_TO_REQUEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor


class ResidentRequests:
    """Reads requests, and scores those whose tensors are where the model is.

    Args:
        tensors: The ``WireTensor`` of model.py, in the wire's order.
        predictor: An `optimize.runtimes.Predictor`; with a ``score_resident`` it takes tensors of
            its device.
        device: Of the model, ``cpu`` or ``cuda``.
        user_once: Whether the model takes the user's columns once.
    """

    def __init__(
        self, tensors: Sequence[Any], predictor: Any, *, device: str, user_once: bool
    ) -> None:
        self._tensors = tuple(tensors)
        self._score: Any = getattr(predictor, "score_resident", None)
        self._device = device
        self._user_once = user_once
        self._limits = {
            each.name: (
                torch.from_numpy(each.lower).to(device),
                torch.from_numpy(each.upper).to(device),
            )
            for each in self._tensors
            if each.bounded
        }

    def read(self, tensors: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return a request's tensors, and whether all are on the model's device.

        Args:
            tensors: Triton's, by name; each has ``to_dlpack()``.

        Returns:
            Tensors of torch where all are on the device; NumPy's arrays otherwise.
        """
        found = {
            each.name: _typed(from_dlpack(tensors[each.name].to_dlpack()), each.dtype)
            for each in self._tensors
        }
        if self._score is not None and all(map(self._is_there, found.values())):
            return found, True
        return {name: each.cpu().numpy() for name, each in found.items()}, False

    def _is_there(self, tensor: Tensor) -> bool:
        here = self._device == "cpu" or tensor.get_device() == torch.cuda.current_device()
        return tensor.device.type == self._device and here

    def describe_bad(self, tensors: Mapping[str, Tensor]) -> str:
        """Say which value no kernel may see; empty if there is none.

        It waits for the device: an ID beyond its table would end the process for all requests.
        """
        flags = []
        for each in self._tensors:
            rows = tensors[each.name]
            if each.floating:
                flags.append(~torch.isfinite(rows).all())
            elif each.bounded:
                lower, upper = self._limits[each.name]
                flags.append(((rows < lower) | (rows > upper)).any())
        if not flags or not bool(torch.stack(flags).any()):
            return ""
        for each in self._tensors:
            rows = tensors[each.name]
            wrong: str = each.describe_bad((rows[0] if each.side == "item" else rows).cpu().numpy())
            if wrong:
                return wrong
        return ""

    def score(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Score one request, float32 ``[N]`` on the device, done when it returns.

        Args:
            tensors: Of `read`; `describe_bad` found nothing.
        """
        count = next(tensors[each.name].shape[1] for each in self._tensors if each.side == "item")
        columns: dict[str, Tensor] = {}
        for each in self._tensors:
            rows = tensors[each.name]
            if each.side == "item":
                rows = rows[0]
            elif not self._user_once:
                rows = rows.expand(count, -1)
            for name, start, stop, shape in each.features:
                columns[name] = rows[:, start:stop].reshape(-1, *shape).contiguous()
        if self._user_once:
            columns[ITEM_TO_REQUEST] = torch.zeros(count, dtype=torch.int64, device=self._device)
        scores: Tensor = self._score(columns)
        return scores


def _typed(tensor: Tensor, dtype: str) -> Tensor:
    """Undo what DLPack makes of bools in older releases: bytes."""
    wanted = getattr(torch, np.dtype(dtype).name)
    return tensor if tensor.dtype == wanted else tensor.view(wanted)
