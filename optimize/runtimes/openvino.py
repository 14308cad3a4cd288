"""OpenVINO on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.artifact import Artifact, ArtifactError
from optimize.versions import require_libraries
from rankers.errors import UserError, in_one_line

if TYPE_CHECKING:
    from optimize.runtimes import Predictor
    from rankers.requests import Array, Columns


def open_artifact(artifact: Artifact, *, device: str, threads: int) -> Predictor:
    """Compile an OpenVINO artifact for this CPU.

    Raises:
        UserError: The device is not ``cpu``, or OpenVINO is not installed.
        ArtifactError: OpenVINO cannot load the model.
    """
    if device != "cpu":
        raise UserError(f"the openvino runtime runs on cpu; {device!r} was asked for")
    require_libraries("openvino")
    import openvino

    # Tables in bf16 are no products in bf16.
    products = artifact.manifest.precision.partition(", tables")[0]
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Left to itself OpenVINO computes in bf16 wherever the CPU can.
        "INFERENCE_PRECISION_HINT": "bf16" if "bf16" in products else "f32",
        # Every instance of a server would pin its threads to the same first cores.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        compiled = openvino.Core().compile_model(artifact.model_path, "CPU", properties)
    except Exception as error:  # openvino raises plain RuntimeErrors of many lines
        raise ArtifactError(
            f"{artifact.model_path}: OpenVINO cannot load it: {in_one_line(error)}"
        ) from error
    request = compiled.create_infer_request()
    names = [each.any_name for each in compiled.inputs]

    def predict(inputs: Columns) -> Array:
        results = request.infer({name: inputs[name] for name in names}, share_inputs=True)
        scores: Array = results[0].reshape(-1)
        return scores

    return predict
