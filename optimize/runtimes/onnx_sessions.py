"""Sessions of ONNX Runtime, as an artifact's settings want them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime

from optimize.artifact import ArtifactError
from optimize.gpu_graphs import FP8, HALF

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_CPU = ("CPUExecutionProvider",)


def open_session(
    model: Path,
    threads: int,
    settings: Mapping[str, Any],
    *,
    providers: Sequence[Any] = _CPU,
) -> onnxruntime.InferenceSession:
    """Open a graph.

    Args:
        model: Its file.
        threads: Of one call.
        settings: Of the artifact (`optimize.stages.onnx_session`).
        providers: As ONNX Runtime takes them. On the CPU alone a graph in 16 bits is opened as its
            rounding twin.

    Raises:
        ArtifactError: ONNX Runtime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool burns the core that the server's or client's threads need.
    spinning = "1" if settings.get("spinning", False) else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.enable_cpu_mem_arena = settings.get("arena", True)
    options.log_severity_level = 3
    if FP8 in settings:
        leave_fp8_pairs(options)
    try:
        if HALF in settings and providers is _CPU:
            from optimize.half.rounding import open_rounded

            return open_rounded(model, options)
        return onnxruntime.InferenceSession(model, options, providers=[*providers])
    except Exception as error:
        # onnxruntime has no exception of its own above RuntimeError's many kin.
        raise ArtifactError(f"{model}: ONNX Runtime cannot load it: {error}") from error


def leave_fp8_pairs(options: Any) -> None:
    """Keep ONNX Runtime from rewriting a graph around Q/DQ pairs in fp8, in options of a session.

    It takes the zero point of fp8 for that of unsigned bytes, which cut at 0, and drops the Relu
    before it (1.32, from level 'extended' on; docs/decisions/034-fp8-by-our-own-pairs.md).
    """
    options.add_session_config_entry(
        "optimization.disable_specified_optimizers", "ReluQuantRewrite;ClipQuantRewrite"
    )
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # biases stay floats too
