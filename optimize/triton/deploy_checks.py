"""What is refused before anything is written into a model repository. All raise UserError."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from optimize.devices import runtime_device
from optimize.gpu_graphs import FP8, HALF
from optimize.runtimes import SERVED_BY_TORCH
from optimize.triton.config import CONFIG, backend_of, read_config
from optimize.triton.native_runtime import check_native_runtime
from optimize.triton.version_folder import NATIVE_MODEL
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact
    from optimize.triton.config import Backend, ServingOptions

_FORMATS: dict[Backend, tuple[str, ...]] = {
    "python": ("onnx", "openvino", *SERVED_BY_TORCH),
    "onnxruntime": ("onnx",),
    "tensorrt": ("tensorrt", "onnx"),
    "torch_aoti": ("torch",),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def check_name(name: str) -> None:
    """Refuse what is no name for a model."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is no name for a model: use letters, digits, '_', '-' and '.', "
            "beginning with a letter or digit, 128 at most"
        )


def check_artifact(artifact: Artifact, options: ServingOptions, *, ungated: bool) -> None:
    """Refuse an artifact that the options' backend does not serve, or that a gate stopped."""
    manifest, backend = artifact.manifest, options.backend
    if manifest.layout == "user_state":
        raise UserError(
            f"{artifact.folder}: keeps the state of users, which is not served over Triton yet "
            "(docs/user-once.md); deploy an artifact of the recipe cpu-fp32"
        )
    formats = _FORMATS[backend]
    if manifest.format not in formats or manifest.layout not in {"flat", "user_once"}:
        raise UserError(
            f"{artifact.folder}: a {manifest.layout} {manifest.format} artifact cannot be deployed "
            f"behind the backend {backend!r}; deploy one of these formats: {', '.join(formats)}"
            + (": a plan is for --backend tensorrt" if manifest.format == "tensorrt" else "")
        )
    on_cpu = backend == "python" and options.accelerator == "none"
    if manifest.settings.get(HALF) == "bf16" and on_cpu:
        raise UserError(
            f"{artifact.folder}: in bf16, whose products ONNX Runtime has on GPUs alone, and the "
            "backend 'python' runs on the CPU: use backend onnxruntime, an artifact in fp16, or "
            "one of the stage onnx_gpu_session with accelerator 'cuda'"
        )
    if FP8 in manifest.settings and backend != "tensorrt":
        raise UserError(
            f"{artifact.folder}: in fp8, and a server's ONNX Runtime drops a Relu before it, so "
            "that scores would be others: --backend tensorrt, or an artifact in int8 or fp16"
        )
    for verdict in manifest.verdicts:
        if not verdict.passed and not ungated:
            raise UserError(
                f"{artifact.folder}: the gate {verdict.gate!r} stopped this artifact: "
                f"{verdict.reason}"
            )
    if options.accelerator != "none" and backend == "python":
        _check_on_gpu(artifact)
    if backend == "onnxruntime":
        _check_native(artifact)


def _check_on_gpu(artifact: Artifact) -> None:
    manifest = artifact.manifest
    if runtime_device(manifest, "cuda") == "cpu":
        raise UserError(
            f"{artifact.folder}: rankserve's runtime of {manifest.format} artifacts is one of the "
            "CPU: deploy one of the stage cuda_graphs or onnx_gpu_session with accelerator 'cuda', "
            "or this one without"
        )


def _check_native(artifact: Artifact) -> None:
    if artifact.manifest.model != NATIVE_MODEL:
        raise UserError(
            f"{artifact.folder}: the model's file is {artifact.manifest.model!r}; Triton's "
            f"onnxruntime backend wants {NATIVE_MODEL!r}: deploy with backend python"
        )
    check_native_runtime(artifact.model_path)


def check_compatible(model: Path, own: Path, artifact: Artifact, backend: Backend) -> None:
    """Refuse to replace a model whose requests are others, or one behind another backend.

    Clients hold its features. Its config holds for every version, old and new, and names one
    backend: changing that would leave a moment in which the old version cannot be loaded.
    """
    path = model / CONFIG
    if not model.exists():
        if own == path:
            return
        raise UserError(
            f"model {model.name!r} is not deployed yet: deploy it without a configuration's name "
            f"first, for servers that were told none, and {own.stem!r} beside it then"
        )
    if not path.is_file():
        raise UserError(f"{model}: is there, but has no {CONFIG}: choose another name or remove it")
    config = read_config(path.read_text(), path)
    stated = config.parameters["signature"].string_value if "signature" in config.parameters else ""
    try:
        deployed = _interface(json.loads(stated))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not written by rankserve: choose another name or remove {model}"
        ) from error
    mine = read_config(own.read_text(), own) if own.is_file() else None
    if mine is not None and backend_of(mine) != backend:
        raise UserError(
            f"model {model.name!r} is deployed behind the backend {backend_of(mine)!r}; its "
            "versions share it: deploy under another name, into another repository, or remove "
            f"{model}"
        )
    offered = _interface(artifact.manifest.signature.to_json())
    if deployed != offered:
        raise UserError(
            f"model {model.name!r} is deployed with other features, which its clients hold "
            f"({_difference(deployed, offered)}): deploy this artifact under another name"
        )


def _interface(signature: dict[str, Any]) -> dict[str, Any]:
    """Return what a client's requests depend on. Tables may grow, so cardinalities are left out."""
    features = {
        each["name"]: (each["dtype"], tuple(each["shape"]), each["side"], place)
        for place, each in enumerate(signature["features"])
    }
    return features | {"the score": signature["score"]}


def _difference(deployed: dict[str, Any], offered: dict[str, Any]) -> str:
    for name in (*deployed, *offered):
        if name not in offered:
            return f"{name!r} is gone"
        if name not in deployed:
            return f"{name!r} is new"
        if deployed[name] != offered[name]:
            return f"{name!r} was {deployed[name]} and is now {offered[name]}"
    return "their order"
