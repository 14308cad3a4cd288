"""A torch program behind Triton's PyTorch backend, compiled ahead of time: ``torch_aoti``.

::

    REPOSITORY/NAME/config.pbtxt         an ensemble of one step: the names that clients send
    REPOSITORY/NAME/1/                   empty, as an ensemble's version is
    REPOSITORY/NAME.aoti/config.pbtxt    platform "torch_aoti", backend "pytorch"
    REPOSITORY/NAME.aoti/1/model.pt2     takes the wire tensors, gives score [1, N]

The backend names inputs by their place, ``INPUT__0``, and takes no batches: a request at a time.
docs/decisions/030-torch-aoti-behind-an-ensemble.md says where that is written.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.artifact import ArtifactError, Step, open_artifact, seal
from optimize.samples import sample_requests
from optimize.triton.config import CONFIG, LEAST_INSTANCES, config_text
from optimize.triton.tensors import TYPES, dims_of, warm_up
from rankers.errors import UserError
from rankers.files import new_folder
from rankers.wire import SCORE, pack_request, wire_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor
    from torch.export import ExportedProgram

    from optimize.artifact import Artifact
    from optimize.triton.config import ServingOptions
    from rankers.features import Signature
    from rankers.wire import WireTensor

MODEL = "model.pt2"
SUFFIX = ".aoti"
_STEP = "wire_package"
_CHECKED = (1, 2, 37)
_TRACED = 11  # candidates: a number no shape in a ranker is likely to have by itself
_MOVED = 1e-4  # of the scores: compiled code rounds otherwise than the operators one by one


def place_aoti(
    artifact: Artifact, repository: Path, name: str, options: ServingOptions, aside: Path
) -> Path:
    """Compile a torch artifact and put it into a repository, as a new model.

    The compiled model is placed first, so that the ensemble is never there without it.

    Args:
        artifact: A torch program, flat or user-once.
        repository: Where; held by the caller.
        name: Of the ensemble.
        options: With ``accelerator = "cuda"`` it is compiled for the GPU at hand.
        aside: Where things are written first.

    Returns:
        The folder with the compiled model.

    Raises:
        UserError: There is such a model, no such device, or the program cannot be compiled, or its
            compiled form scores otherwise.
    """
    device = "cuda" if options.accelerator == "cuda" else "cpu"
    inner, outer = repository / f"{name}{SUFFIX}", repository / name
    if not outer.exists() and _is_ours(inner):
        shutil.rmtree(inner)  # of a deploy that was killed before its ensemble was there
    for model in (inner, outer):
        if model.exists():
            raise UserError(
                f"{model} is there: torch_aoti deploys new models only; choose another name, or "
                "remove it"
            )
    repository.mkdir(parents=True, exist_ok=True)
    signature = artifact.manifest.signature
    with new_folder(inner, beside=aside) as folder:
        version = folder / "1"
        version.mkdir()
        write_package(artifact, version, device)
        (folder / CONFIG).write_text(config_text(inner_config(signature, inner.name, options)))
    with new_folder(outer, beside=aside) as folder:
        (folder / "1").mkdir()
        (folder / CONFIG).write_text(
            config_text(outer_config(signature, name, inner.name, options))
        )
    return inner / "1"


def _is_ours(inner: Path) -> bool:
    try:
        return open_artifact(inner / "1").manifest.lineage[-1].stage == _STEP
    except (ArtifactError, IndexError):
        return False


def write_package(artifact: Artifact, folder: Path, device: str) -> None:
    """Compile a torch artifact for wire tensors into a folder, and prove that it scores the same.

    Raises:
        UserError: As of `place_aoti`.
    """
    from optimize.devices import require_device
    from optimize.runtimes import open_predictor
    from optimize.stages.compile_inductor import compile_program, program_for
    from optimize.torch_program import program_on
    from optimize.versions import library_versions

    require_device(device)
    manifest = artifact.manifest
    started = time.perf_counter()
    program, _ = program_for(artifact, "cpu", rewrite=device == "cpu")
    if any("rankserve." in str(node.target) for node in program.graph.nodes):
        raise UserError(
            f"{artifact.folder}: its fused lookups are operators that Triton's backend has not: "
            "deploy the artifact that fuse_lookups read"
        )
    wired = program_on(wire_program(program, manifest.signature, manifest.layout), device)
    requires = compile_program(wired, folder / MODEL, device=device)
    requests = [sample_requests(manifest.signature, [count]) for count in _CHECKED]
    plain = replace(artifact, manifest=replace(manifest, settings={}))
    predict = open_predictor(plain, device=device, threads=1)
    expected = [predict(manifest.columns_of(each)) for each in requests]
    check_package(folder / MODEL, manifest.signature, requests, expected, device)
    step = Step(
        stage=_STEP,
        options={"device": device},
        source=artifact.key,
        versions=library_versions("torch"),
        seconds=round(time.perf_counter() - started, 3),
    )
    made = replace(
        manifest, format="inductor", model=MODEL, layout="wire", settings={},
        requires=manifest.requires | requires, lineage=(*manifest.lineage, step),
    )  # fmt: skip
    seal(folder, made)


def wire_program(program: ExportedProgram, signature: Signature, layout: str) -> ExportedProgram:
    """Return a program from a request's wire tensors to ``score [1, N]``.

    Args:
        program: From columns, flat or user-once.
        signature: Its features.
        layout: Which of both.
    """
    import torch
    from torch.export import Dim, export

    tensors = wire_tensors(signature)
    names = [each.name for each in signature.features]
    module = program.module(check_guards=False)
    once = layout == "user_once"

    class Wire(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ranker = module

        def forward(self, *wire: Tensor) -> Tensor:
            columns: dict[str, Tensor] = {}
            items = next(x for each, x in zip(tensors, wire, strict=True) if each.side == "item")
            count = items.shape[1]
            for each, packed in zip(tensors, wire, strict=True):
                rows = packed if each.side == "user" else packed[0]
                start = 0
                for feature in each.features:
                    column = rows[:, start : start + feature.width]
                    column = column.reshape(-1, *feature.shape)
                    if each.side == "user" and not once:
                        column = column.expand(count, *feature.shape)
                    columns[feature.name] = column
                    start += feature.width
            given = [columns[name] for name in names]
            if once:
                given.append(torch.zeros(count, dtype=torch.int64, device=items.device))
            scores: Tensor = self.ranker(*given)
            return scores.reshape(1, -1).float()

    request = sample_requests(signature, [_TRACED])[0]
    packed = pack_request(tensors, request)
    sample = tuple(torch.from_numpy(packed[each.name]) for each in tensors)
    candidates = Dim("candidates", min=1)
    shapes = (tuple({} if each.side == "user" else {1: candidates} for each in tensors),)
    try:
        with torch.no_grad():
            return export(Wire(), sample, dynamic_shapes=shapes)
    except Exception as error:  # torch.export raises many kinds, few of them its own
        from optimize.export_errors import explain_export_error

        raise UserError(
            f"the program cannot take wire tensors: {explain_export_error(error)}"
        ) from error


def check_package(
    path: Path, signature: Signature, requests: Sequence[Any], expected: Sequence[Any], device: str
) -> None:
    """Load a package as the backend does, and compare its scores of wire tensors.

    Raises:
        UserError: They differ, or it takes other inputs than the config says.
    """
    import torch
    from torch import _inductor as inductor

    tensors = wire_tensors(signature)
    loaded = inductor.aoti_load_package(str(path))
    for batch, scores in zip(requests, expected, strict=True):
        packed = pack_request(tensors, batch[0])
        given = [torch.from_numpy(packed[each.name]).to(device) for each in tensors]
        with torch.inference_mode():
            found = loaded(*given)
        moved = float(np.abs(found.cpu().numpy()[0] - scores).max())
        if found.shape != (1, len(scores)) or not moved <= _MOVED:
            raise UserError(
                f"the compiled package scores {len(scores)} candidates otherwise, by {moved:.2g}"
            )


def inner_config(signature: Signature, name: str, options: ServingOptions) -> Any:
    """Return the config of the compiled model: inputs by their place, one request at a time."""
    from tritonclient.grpc import model_config_pb2 as pb

    from optimize.runtimes import physical_cores

    tensors = wire_tensors(signature)
    on_gpu = options.accelerator == "cuda"
    count = options.instances or (1 if on_gpu else max(LEAST_INSTANCES, physical_cores()))
    config = pb.ModelConfig(
        name=name,
        backend="pytorch",
        platform="torch_aoti",
        input=[_input(f"INPUT__{at}", each) for at, each in enumerate(tensors)],
        output=[pb.ModelOutput(name="OUTPUT__0", data_type="TYPE_FP32", dims=[1, -1])],
        instance_group=[
            pb.ModelInstanceGroup(
                kind="KIND_GPU" if on_gpu else "KIND_CPU", count=count, gpus=options.gpus
            )
        ],
        model_warmup=[_warm_up(tensors, size) for size in options.warm_up_candidates],
    )
    # Of the whole server: the first model that says it decides for all.
    config.parameters["INTRA_OP_THREAD_COUNT"].string_value = str(options.threads)
    config.parameters["INTER_OP_THREAD_COUNT"].string_value = "1"
    return config


def outer_config(signature: Signature, name: str, inner: str, options: ServingOptions) -> Any:
    """Return the config of the ensemble that gives the model the names that clients send."""
    from tritonclient.grpc import model_config_pb2 as pb

    tensors = wire_tensors(signature)
    step = pb.ModelEnsembling.Step(model_name=inner, model_version=-1)
    for at, each in enumerate(tensors):
        step.input_map[f"INPUT__{at}"] = each.name
    step.output_map["OUTPUT__0"] = SCORE
    config = pb.ModelConfig(
        name=name,
        platform="ensemble",
        input=[_input(each.name, each) for each in tensors],
        output=[pb.ModelOutput(name=SCORE, data_type="TYPE_FP32", dims=[1, -1])],
        ensemble_scheduling=pb.ModelEnsembling(step=[step]),
    )
    stated = json.dumps(signature.to_json(), separators=(",", ":"))
    config.parameters["signature"].string_value = stated
    config.parameters["max_candidates"].string_value = str(options.max_candidates)
    return config


def _input(name: str, tensor: WireTensor) -> Any:
    from tritonclient.grpc import model_config_pb2 as pb

    return pb.ModelInput(name=name, data_type=TYPES[tensor.dtype], dims=[1, *dims_of(tensor)])


def _warm_up(tensors: Sequence[WireTensor], candidates: int) -> Any:
    inputs = {
        f"INPUT__{at}": (each.dtype, [1, *dims_of(each, candidates)])
        for at, each in enumerate(tensors)
    }
    return warm_up(f"1_request_of_{candidates}", 1, inputs)
