"""TensorRT's builder and runtime, told what `optimize.tensorrt.building` says.

Every name was looked up in the Python bindings of 10.9, 10.15 and 11.4. **Not run yet**: that takes
a GPU (docs/gpu.md). Source:
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimize.tensorrt.building import builder_settings
from optimize.tensorrt.compatibility import Target
from optimize.versions import require_libraries
from rankers.cache import cache_folder
from rankers.errors import UserError
from rankers.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.tensorrt.building import BuilderSettings, BuildOptions
    from optimize.tensorrt.profiles import Profile


@dataclass(frozen=True, slots=True)
class Built:
    """What the builder made.

    Attributes:
        plan: The serialized engine.
        layers: What kernels it has, as TensorRT's inspector says it in JSON.
    """

    plan: bytes
    layers: str


def this_machine() -> Target:
    """Return the version of TensorRT and the GPU of this machine.

    Raises:
        UserError: TensorRT is not installed, or there is no GPU.
    """
    require_libraries("tensorrt")
    from optimize.devices import require_device

    require_device("cuda")
    import tensorrt
    import torch

    major, minor = torch.cuda.get_device_capability()
    return Target(tensorrt.__version__, torch.cuda.get_device_name(), f"{major}.{minor}")


def timing_cache(target: Target) -> Path:
    """Return the file of timings that all builds on a GPU by a version of TensorRT share."""
    name = re.sub(r"[^a-z0-9.]+", "-", f"{target.tensorrt} {target.gpu}".lower()).strip("-")
    return cache_folder() / "tensorrt" / f"timings-{name}.cache"


def build_engine(
    graph: Path,
    profiles: tuple[Profile, ...],
    options: BuildOptions,
    *,
    target: Target,
    log: Path,
) -> Built:
    """Build an engine of an ONNX graph for this machine's GPU.

    Args:
        graph: Its file; weights may lie beside it.
        profiles: The shapes it takes.
        options: How it is built.
        target: This machine, as `this_machine` says.
        log: The file that everything the builder says is written to.

    Raises:
        UserError: TensorRT does not take the graph, or cannot build it; the message ends in what it
            said last.
    """
    import tensorrt as trt

    settings = builder_settings(options, target.tensorrt)
    said = _log_to(log)
    builder = trt.Builder(said)
    flags = sum(
        1 << int(getattr(trt.NetworkDefinitionCreationFlag, each))
        for each in settings.network_flags
    )
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, said)
    for each in settings.parser_flags:
        parser.set_flag(getattr(trt.OnnxParserFlag, each))
    if not parser.parse_from_file(str(graph)):
        errors = [str(parser.get_error(place)) for place in range(parser.num_errors)]
        raise UserError(f"TensorRT does not take the graph: {'; '.join(errors[:3])} ({log})")
    config = _configure(builder, settings)
    for profile in profiles:
        made = builder.create_optimization_profile()
        for name, (least, usual, most) in profile.shapes.items():
            made.set_shape(name, least, usual, most)
        if config.add_optimization_profile(made) < 0:
            raise UserError(f"TensorRT does not take the profile {profile.shapes} ({log})")
    cache_file = timing_cache(target)
    cache = config.create_timing_cache(cache_file.read_bytes() if cache_file.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UserError(f"TensorRT cannot build the engine: {said.last_error or 'see'} ({log})")
    write_atomically(cache_file, bytes(config.get_timing_cache().serialize()))
    data = bytes(plan)
    inspector = load_engine(data, options, said).create_engine_inspector()
    return Built(data, inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def load_engine(plan: bytes, options: BuildOptions, said: Any = None) -> Any:
    """Return the ``ICudaEngine`` of a plan whose checksum was compared (`read_plan`).

    Raises:
        UserError: TensorRT cannot load it.
    """
    import tensorrt as trt

    runtime = trt.Runtime(said or trt.Logger(trt.Logger.WARNING))
    # A version-compatible plan brings the runtime that it runs by: code of the host.
    runtime.engine_host_code_allowed = options.version_compatible
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise UserError("TensorRT cannot load the plan; its own lines above say why")
    return engine


def _configure(builder: Any, settings: BuilderSettings) -> Any:
    import tensorrt as trt

    config = builder.create_builder_config()
    for each in settings.set_flags:
        config.set_flag(getattr(trt.BuilderFlag, each))
    for each in settings.clear_flags:
        config.clear_flag(getattr(trt.BuilderFlag, each))
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, settings.hardware)
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, settings.verbosity)
    config.builder_optimization_level = settings.level
    if settings.workspace_bytes:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    return config


def _log_to(path: Path) -> Any:
    """Return a logger that writes everything into a file and keeps the last error."""
    import tensorrt as trt

    class FileLog(trt.ILogger):  # type: ignore[misc] # tensorrt has no types here
        def __init__(self) -> None:
            super().__init__()
            self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.last_error = message
            if severity < trt.ILogger.VERBOSE:
                with path.open("a") as file:
                    file.write(f"{severity.name}: {message}\n")

    return FileLog()
