"""A model for Triton's Python backend that answers with what it was sent: nothing is computed.

A score is the first value of its candidate. Copied into a model's version folder; it imports
nothing of rankserve.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance, one request at a time."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with the first value of each of its candidates."""
        answers = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "item_float32").as_numpy()
            scores = pb_utils.Tensor("score", np.ascontiguousarray(values[..., 0]).reshape(1, -1))
            answers.append(pb_utils.InferenceResponse([scores]))
        return answers
