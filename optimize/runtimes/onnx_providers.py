"""ONNX Runtime's providers on a GPU: what each is told, as data, and whether one is there.

Names and defaults of options were read in onnxruntime-gpu 1.31; a session with them was not opened
on a GPU yet (docs/gpu.md). Sources:
https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html and
https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optimize.static_inputs import Column

Provider = Literal["cuda", "tensorrt"]
NAMES: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


def missing_provider(provider: str) -> str | None:
    """Say in a line that this build of ONNX Runtime lacks a provider; None if it has it."""
    import onnxruntime

    name = NAMES[provider]
    if name in onnxruntime.get_available_providers():
        return None
    return (
        f"onnxruntime {onnxruntime.__version__} has no {name}: pip uninstall --yes onnxruntime "
        "onnxruntime-gpu, then pip install onnxruntime-gpu (docs/gpu.md)"
    )


def library_folders(cuda_version: str) -> dict[str, Path]:
    """Return the folders of NVIDIA's wheels that hold ``cuda`` and ``cudnn``, where they are there.

    They come with torch for CUDA. CUDA before 13 has a folder for each of its libraries; those are
    loaded with torch.

    Args:
        cuda_version: The one wanted, such as ``13.0``.
    """
    spec = importlib.util.find_spec("nvidia")
    places = [Path(each) for each in spec.submodule_search_locations or ()] if spec else []
    found = {}
    for name, part in (("cuda", f"cu{cuda_version.partition('.')[0]}"), ("cudnn", "cudnn")):
        folders = [each / part / "lib" for each in places]
        there = [each for each in folders if each.is_dir()]
        if there:
            found[name] = there[0]
    return found


def preload_libraries() -> None:
    """Load CUDA and cuDNN from NVIDIA's wheels, for a session on a GPU that is opened next.

    ONNX Runtime itself looks beside itself alone. In the embedded server it has an environment of
    its own, and the wheels are where torch is (docs/decisions/031-torch-from-where-the-server-
    starts.md). A build for the CPU alone needs neither.
    """
    import onnxruntime

    version = onnxruntime.cuda_version
    for name, folder in library_folders(version).items() if version else ():
        # What it does not find it prints, where a command's --json is to be alone.
        with redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls(
                cuda=name == "cuda", cudnn=name == "cudnn", directory=str(folder)
            )


def require_started(session: Any, provider: str) -> None:
    """Raise unless a session runs on the provider that was asked for.

    ONNX Runtime falls back to the CPU with a line in its log where a provider's libraries are not
    found, and is then many times slower than anybody expects.

    Raises:
        UserError: It does not.
    """
    if NAMES[provider] not in session.get_providers():
        import onnxruntime

        libraries = f"CUDA {onnxruntime.cuda_version}".rstrip() + " and cuDNN"
        libraries += " and TensorRT" if provider == "tensorrt" else ""
        raise UserError(
            f"onnxruntime could not start {NAMES[provider]}: the libraries of {libraries} that it "
            "was built for are not found; its own lines above name the one that is missing"
        )


def provider_options(
    provider: Provider,
    *,
    gpu: int,
    stream: int,
    cuda_graph: bool,
    tf32: bool,
    profile: Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]],
    caches: Path,
) -> list[tuple[str, dict[str, str]]]:
    """Return the providers of a session in order, with their options as strings.

    TensorRT's comes before CUDA's, which runs what TensorRT does not take. Neither fp16 nor int8 is
    switched on: the network is then strongly typed, so each value has the graph's own type.

    Args:
        provider: The first.
        gpu: The number of the GPU.
        stream: The address of the CUDA stream that all runs on, copies included.
        cuda_graph: Whether what is launched is captured, for each bucket apart.
        tf32: Whether float32 products may be computed in TF32.
        profile: For TensorRT, each input's least, usual and largest shape.
        caches: The folder of TensorRT's engine, and of its timings in the folder above, which all
            engines share.
    """
    cuda = {
        "device_id": str(gpu),
        "user_compute_stream": str(stream),
        "use_tf32": _flag(tf32),
        # Grown by what is needed: the default doubles the arena each time.
        "arena_extend_strategy": "kSameAsRequested",
        # TensorRT captures what it runs; what is captured twice is an error.
        "enable_cuda_graph": _flag(cuda_graph and provider == "cuda"),
    }
    if provider == "cuda":
        return [(NAMES["cuda"], cuda)]
    tensorrt = {
        "device_id": str(gpu),
        "user_compute_stream": str(stream),
        "trt_cuda_graph_enable": _flag(cuda_graph),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(caches),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(caches.parent),
        **{
            f"trt_profile_{which}_shapes": shapes_text(
                {name: shapes[place] for name, shapes in profile.items()}
            )
            for place, which in enumerate(("min", "opt", "max"))
        },
    }
    return [(NAMES["tensorrt"], tensorrt), (NAMES["cuda"], cuda)]


def profile_of(
    columns: Sequence[Column], usual: int, greatest: int
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Return each column's least, usual and largest shape, from one row to the greatest bucket."""
    return {
        each.name: tuple(  # type: ignore[misc] # of three, as there are three counts
            (1 if each.per_user else rows, *each.shape) for rows in (1, usual, greatest)
        )
        for each in columns
    }


def shapes_text(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return shapes as TensorRT's tools read them.

    >>> shapes_text({"price": (1, 8), "item_id": (1,)})
    'price:1x8,item_id:1'
    """
    return ",".join(f"{name}:{'x'.join(map(str, dims))}" for name, dims in shapes.items())


def _flag(value: bool) -> str:
    return "1" if value else "0"
