"""Stands in for Triton's ONNX Runtime backend, which the embedded server does not have.

It does what that backend does with a version's folder and requests, and no more: opens
``model.onnx``, puts requests that the server joined below each other, runs the graph once, and cuts
its output apart again. So the server's own part is real: the config, its checks of requests, the
queue and which requests are joined.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        parts = [{each.name(): each.as_numpy() for each in one.inputs()} for one in requests]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        try:
            (scores,) = self.session.run(["score"], joined)
        except Exception as error:  # noqa: BLE001 - the backend answers with whatever it says
            return [
                pb_utils.InferenceResponse([], pb_utils.TritonError(str(error))) for _ in requests
            ]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("score", scores[row : row + 1])])
            for row in range(len(requests))
        ]
