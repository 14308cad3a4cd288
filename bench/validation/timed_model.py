"""A model for Triton's Python backend that answers each request after a known time.

It sleeps, so that its capacity is known and does not depend on what else the machine computes:
instances divided by seconds. Copied into a model's version folder; it imports nothing of rankserve.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance, one request at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read how long an answer takes, from the config's parameter ``seconds``."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.seconds = float(parameters["seconds"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request after its time: the scores are what was sent."""
        answers = []
        for request in requests:
            time.sleep(self.seconds)
            values = pb_utils.get_input_tensor_by_name(request, "item_float32").as_numpy()
            scores = pb_utils.Tensor("score", values.reshape(1, -1).astype(np.float32))
            answers.append(pb_utils.InferenceResponse([scores]))
        return answers
