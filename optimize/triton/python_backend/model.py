"""A ranker behind Triton's Python backend. Copied into every deployed version.

The server's environment has NumPy 1 and the runtimes of ONNX and OpenVINO, so for those this file
stands alone on the CPU; its packing is that of rankers/wire.py, which a test holds it to. What
needs torch, and all that runs on a GPU, is opened by rankserve's own runtimes, from where the
server was started (docs/decisions/031-torch-from-where-the-server-starts.md).
"""

from __future__ import annotations

import hashlib
import json
import locale
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from collections.abc import Callable

SCORE = "score"
MANIFEST = "manifest.json"
ITEM_TO_REQUEST = "item_to_request"
# Where torch and rankserve are, as optimize/triton/installation.py says.
TORCH_PATH = "RANKSERVE_TORCH_PATH"


class TritonPythonModel:
    """One instance: a process of its own that opened the model once."""

    def initialize(self, args: dict[str, str]) -> None:
        """Check every checksum of this version, then open its model.

        Args:
            args: Triton's: the config as JSON, the model's folder and the version.

        Raises:
            RuntimeError: A file is missing or was changed; the message names it.
        """
        config = json.loads(args["model_config"])
        parameters = {key: each["string_value"] for key, each in config["parameters"].items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        manifest = verified_manifest(folder)
        refuse_other_cpu(manifest, folder)
        self.max_candidates = int(parameters["max_candidates"])
        self.tensors = wire_tensors(manifest["signature"])
        self.user_once = manifest["layout"] == "user_once"
        self.resident: Any = None
        on_gpu = args["model_instance_kind"] == "GPU"
        resident = parameters.get("tensors") == "dlpack"
        # On a GPU rankserve's own runtimes run; the parameter is how a CPU goes their way.
        own = {} if on_gpu or resident else {"onnx": open_onnx, "openvino": open_openvino}
        threads = int(parameters["threads"])
        if manifest["format"] in own:
            self.model = own[manifest["format"]](folder, manifest, threads)
            return
        gpu = int(args["model_instance_device_id"]) if on_gpu else None
        self.model = open_by_rankserve(folder, manifest, threads, gpu)
        if resident:
            from optimize.triton.python_backend.resident import ResidentRequests

            device = "cuda" if on_gpu else "cpu"
            self.resident = ResidentRequests(
                self.tensors, self.model, device=device, user_once=self.user_once
            )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Score requests that the dynamic batcher joined, each with candidates of its own number.

        A request that is wrong gets an error of its own; the others are scored.
        """
        answers: list[Any] = [None] * len(requests)
        good, parts = [], []
        for index, request in enumerate(requests):
            arrays, there = self.read(request)
            wrong = self.wrong_shape(arrays)
            if wrong:
                answers[index] = refusal(wrong)
            elif there:
                answers[index] = self.score_there(arrays)
            else:
                good.append(index)
                parts.append(arrays)
        if good:
            joined = self.join(parts)
            if any(each.holds_bad(joined[each.name]) for each in self.tensors):
                good, parts = self.sort_out(good, parts, answers)
                joined = self.join(parts) if good else {}
        if good:
            self.score(good, parts, joined, answers)
        return answers

    def read(self, request: Any) -> tuple[dict[str, Any], bool]:
        """Return a request's tensors, and whether they are to be scored where they are."""
        if self.resident is None:
            return {each.name(): each.as_numpy() for each in request.inputs()}, False
        found: tuple[dict[str, Any], bool] = self.resident.read(
            {each.name(): each for each in request.inputs()}
        )
        return found

    def score_there(self, tensors: dict[str, Any]) -> Any:
        """Answer one request by itself, on the device that holds it; its scores stay there."""
        try:
            wrong = self.resident.describe_bad(tensors)
            if wrong:
                return refusal(wrong)
            scores = self.resident.score(tensors)
            bad = scores.isfinite().logical_not().nonzero()
        except Exception as error:  # noqa: BLE001 - as in score
            return failure(f"the model failed: {error}")
        if len(bad):
            row = int(bad[0])
            return failure(f"the model's score of candidate {row} is {float(scores[row])}")
        tensor = pb_utils.Tensor.from_dlpack(SCORE, scores.reshape(1, -1))
        return pb_utils.InferenceResponse([tensor])

    def wrong_shape(self, arrays: dict[str, Any]) -> str:
        """Return what is wrong with the shapes of one request; empty if nothing is.

        Triton has compared names, dtypes and fixed sizes with the config by now.
        """
        count = -1
        for each in self.tensors:
            shape = arrays[each.name].shape
            if shape[0] != 1:
                return f"{each.name} has {shape[0]} rows; a request carries one user"
            if each.side == "item":
                if shape[1] == 0:
                    return "the request has no candidates; at least 1 is needed"
                if shape[1] > self.max_candidates:
                    return (
                        f"the request has {shape[1]} candidates; "
                        f"this model answers {self.max_candidates} at most"
                    )
                if count not in (-1, shape[1]):
                    return f"{each.name} has {shape[1]} candidates; the tensors before have {count}"
                count = shape[1]
        return ""

    def join(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Put requests below each other: user ``[R, W]``, items ``[ΣN, W]``."""
        joined = {}
        for each in self.tensors:
            arrays = [part[each.name] for part in parts]
            if each.side == "item":
                arrays = [array[0] for array in arrays]
            joined[each.name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return joined

    def sort_out(
        self, good: list[int], parts: list[dict[str, Any]], answers: list[Any]
    ) -> tuple[list[int], list[dict[str, Any]]]:
        """Find the requests that hold bad values and answer them; return the others."""
        still_good, still_parts = [], []
        for index, arrays in zip(good, parts, strict=True):
            wrong = ""
            for each in self.tensors:
                rows = arrays[each.name][0] if each.side == "item" else arrays[each.name]
                wrong = wrong or each.describe_bad(rows)
            if wrong:
                answers[index] = refusal(wrong)
            else:
                still_good.append(index)
                still_parts.append(arrays)
        return still_good, still_parts

    def score(
        self,
        good: list[int],
        parts: list[dict[str, Any]],
        joined: dict[str, Any],
        answers: list[Any],
    ) -> None:
        """Run the joined requests once and give each its scores."""
        item = next(each.name for each in self.tensors if each.side == "item")
        counts = [part[item].shape[1] for part in parts]
        columns: dict[str, Any] = {}
        for each in self.tensors:
            repeats = counts if each.side == "user" and not self.user_once else None
            columns.update(each.unpack(joined[each.name], repeats))
        if self.user_once:
            columns[ITEM_TO_REQUEST] = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        try:
            outputs = self.model(columns)
        except Exception as error:  # noqa: BLE001 - one bad batch must not end the instance
            for index in good:
                answers[index] = failure(f"the model failed: {error}")
            return
        scores = outputs.reshape(-1).astype(np.float32, copy=False)
        finite = np.isfinite(scores).all()
        start = 0
        for index, count in zip(good, counts, strict=True):
            own = scores[start : start + count]
            start += count
            if finite or np.isfinite(own).all():
                tensor = pb_utils.Tensor(SCORE, own.reshape(1, count))
                answers[index] = pb_utils.InferenceResponse([tensor])
            else:
                row = int(np.flatnonzero(~np.isfinite(own))[0])
                answers[index] = failure(f"the model's score of candidate {row} is {own[row]}")


class WireTensor:
    """Features of one side and dtype, as the columns of one tensor."""

    def __init__(self, side: str, dtype: str, features: list[dict[str, Any]]) -> None:
        self.name = f"{side}_{dtype}"
        self.side = side
        self.dtype = dtype
        self.floating = dtype.startswith("float")
        self.features = []
        upper: list[int] = []
        lower: list[int] = []
        limits = np.iinfo(dtype) if dtype.startswith("int") else None
        for each in features:
            width = int(np.prod(each["shape"], dtype=np.int64))
            start = len(upper)
            self.features.append((each["name"], start, start + width, tuple(each["shape"])))
            bounded = each["cardinality"] is not None
            lower += [0 if bounded or limits is None else limits.min] * width
            upper += [
                each["cardinality"] - 1 if bounded else 0 if limits is None else limits.max
            ] * width
        self.bounded = any(each["cardinality"] is not None for each in features)
        # [W] each; meaningless where nothing is bounded.
        self.lower = np.array(lower, dtype=np.int64)
        self.upper = np.array(upper, dtype=np.int64)

    def holds_bad(self, rows: Any) -> bool:
        """Whether any of ``[rows, W]`` is an ID out of its range or not finite."""
        if self.floating:
            return not np.isfinite(rows).all()
        if not self.bounded:
            return False
        return bool((rows.min(axis=0) < self.lower).any() or (rows.max(axis=0) > self.upper).any())

    def describe_bad(self, rows: Any) -> str:
        """Say which feature holds what bad value in which row; empty if none does."""
        if not self.holds_bad(rows):
            return ""
        bad = ~np.isfinite(rows) if self.floating else (rows < self.lower) | (rows > self.upper)
        row, column = (int(place) for place in np.argwhere(bad)[0])
        feature = next(each[0] for each in self.features if each[1] <= column < each[2])
        if self.floating:
            return f"feature {feature!r} holds a value that is not finite in row {row}"
        return (
            f"feature {feature!r} holds the ID {rows[row, column]} in row {row}; "
            f"IDs run from 0 to {self.upper[column]}"
        )

    def unpack(self, rows: Any, repeats: list[int] | None = None) -> dict[str, Any]:
        """Cut ``[rows, W]`` into columns ``[rows, …]``, each contiguous.

        With ``repeats``, row r comes so many times: a user once for each candidate.
        """
        # One transposed copy makes every scalar feature's column contiguous at once: [W, rows].
        across = np.ascontiguousarray(rows.T)
        if repeats is not None:
            across = np.repeat(across, repeats, axis=1)
        columns = {}
        for name, start, stop, shape in self.features:
            if stop - start == 1:
                columns[name] = across[start].reshape(-1, *shape)
            else:
                part = np.ascontiguousarray(across[start:stop].T)
                columns[name] = part.reshape(-1, *shape)
        return columns


def wire_tensors(signature: dict[str, Any]) -> list[WireTensor]:
    """Return the tensors of a signature: user side first, then by dtype as they first appear."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for side in ("user", "item"):
        for each in signature["features"]:
            if each["side"] == side:
                groups.setdefault((side, each["dtype"]), []).append(each)
    return [WireTensor(side, dtype, features) for (side, dtype), features in groups.items()]


def verified_manifest(folder: Path) -> dict[str, Any]:
    """Return a version's manifest after comparing every checksum.

    Raises:
        RuntimeError: Something was changed; the message names the file.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        stated = manifest.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise RuntimeError(f"{path} cannot be read: {error}: deploy again") from None
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    if hashlib.sha256(canonical.encode()).hexdigest() != stated:
        raise RuntimeError(f"{path} was changed or damaged: deploy again")
    for name, expected in manifest["files"].items():
        digest = hashlib.sha256()
        try:
            with (folder / name).open("rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    digest.update(block)
        except OSError as error:
            raise RuntimeError(f"{folder / name} cannot be read: {error}: deploy again") from None
        if digest.hexdigest() != expected:
            raise RuntimeError(
                f"{folder / name}: its SHA-256 is not the manifest's: the file was changed or "
                "damaged: deploy again"
            )
    return manifest


def refuse_other_cpu(manifest: dict[str, Any], folder: Path) -> None:
    """Raise RuntimeError unless this CPU has all that the artifact was made for."""
    needed = set(manifest["requires"].get("isa", "").split())
    # x86 calls them flags, ARM features; every core has the same.
    lines = Path("/proc/cpuinfo").read_text().splitlines() if needed else []
    here = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    missing = needed - set(here.partition(":")[2].split())
    if missing:
        raise RuntimeError(
            f"{folder}: made for a CPU with {', '.join(sorted(missing))}, which this one lacks: "
            "run the recipe on this machine"
        )


def open_onnx(folder: Path, manifest: dict[str, Any], threads: int) -> Callable[[Any], Any]:
    """Open the model as rankserve's in-process runtime does, so that scores are the same."""
    settings = manifest.get("settings", {})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool burns the core that the other instances and the server need.
    spinning = "1" if settings.get("spinning", False) else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.enable_cpu_mem_arena = settings.get("arena", True)
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / manifest["model"]), options, providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_inputs()]
    return lambda columns: session.run(None, {name: columns[name] for name in names})[0]


def open_openvino(folder: Path, manifest: dict[str, Any], threads: int) -> Callable[[Any], Any]:
    """Open the model as rankserve's in-process runtime does, so that scores are the same."""
    try:
        import openvino
    except ImportError:
        raise RuntimeError(
            f"{folder}: the server has no OpenVINO: pip install 'rankserve[openvino]' where it is "
            "started from, and start it again"
        ) from None
    products = manifest["precision"].partition(", tables")[0]
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if "bf16" in products else "f32",
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(str(folder / manifest["model"]), "CPU", properties)
    request = compiled.create_infer_request()
    names = [each.any_name for each in compiled.inputs]
    return lambda columns: request.infer(
        {name: columns[name] for name in names}, share_inputs=True
    )[0]


def open_by_rankserve(
    folder: Path, manifest: dict[str, Any], threads: int, gpu: int | None = None
) -> Callable[[Any], Any]:
    """Open a model by rankserve's in-process runtime, on a GPU if one is named.

    torch and rankserve are taken from the environment that started the server, behind everything
    that the server's own has: its NumPy stays the one that the stub needs.
    """
    # The stub runs in the locale "C", and torch.compile reads files of its own that are no ASCII.
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    stated = os.environ.get(TORCH_PATH, "").split(os.pathsep)
    sys.path += [each for each in stated if each and each not in sys.path]
    try:
        import torch

        from optimize.artifact import open_artifact
        from optimize.runtimes import open_predictor
    except ImportError as error:
        where = "runs" if gpu is None else "runs on a GPU"
        raise RuntimeError(
            f"{folder}: {manifest['format']} artifacts need torch and rankserve where the server "
            f"{where}: {error}: start it by `python -m optimize serve` under Python "
            f"3.{sys.version_info.minor}, or install both in its image"
        ) from None
    if gpu is not None:
        torch.cuda.set_device(gpu)
    device = "cpu" if gpu is None else "cuda"
    return open_predictor(open_artifact(folder), device=device, threads=threads)


def refusal(message: str) -> Any:
    """Answer a request that is wrong."""
    error = pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(output_tensors=[], error=error)


def failure(message: str) -> Any:
    """Answer a request that the model failed on."""
    error = pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL)
    return pb_utils.InferenceResponse(output_tensors=[], error=error)
