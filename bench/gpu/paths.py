"""A ranker behind each runtime: a call with all copies, and one with its data on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from optimize.artifact import Artifact, Manifest, seal
from optimize.half_products import narrow_products
from optimize.runtimes import open_predictor, physical_cores
from optimize.runtimes.cuda_graphs import GraphOptions, GraphPredictor
from optimize.samples import sample_tensors
from optimize.static_inputs import columns_of
from optimize.torch_program import PROGRAM, load_program, program_on, save_program
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch.export import ExportedProgram

    from bench.gpu.cells import Cell
    from rankers.features import Signature
    from rankers.requests import Array, Columns


@dataclass(frozen=True, slots=True)
class Opened:
    """A runtime that is ready.

    Attributes:
        device: ``cpu`` or ``cuda``.
        score: From columns on the host to scores there: all copies included.
        resident: For columns, a call that computes their scores on the device and copies nothing,
            without waiting for it; None where the runtime has no such.
    """

    device: str
    score: Callable[[Columns], Array]
    resident: Callable[[Columns], Callable[[], object]] | None = None


def capture_program(
    module: torch.nn.Module, signature: Signature, layout: str, folder: Path
) -> Artifact:
    """Export a ranker, with the user's part once if asked, as a torch artifact in a folder.

    Raises:
        UserError: It cannot be exported, or the user's part cannot be computed once.
    """
    from optimize.flat_graph import export_module

    names = [each.name for each in signature.features]
    sample = sample_tensors(signature)(11)
    program = export_module(_Named(module, names), dict(sample), dict.fromkeys(names, "rows"))
    if layout == "user_once":
        from optimize.user_once.rewriting import REWRITES, rewrite_user_once

        users = [each.name for each in signature.user]
        found = rewrite_user_once(
            program, names, users, sample_tensors(signature), candidates=500,
            rewrites=list(REWRITES), always=True,
        )  # fmt: skip
        if found.program is None:
            raise UserError(f"the user's part cannot be computed once: {found.reason}")
        program = found.program
    folder.mkdir(parents=True, exist_ok=True)
    save_program(program, folder / PROGRAM)
    made: Any = {"layout": layout}
    return seal(folder, Manifest("suite", "torch", PROGRAM, signature, **made))


def open_path(
    cell: Cell, program: Artifact, loaded: ExportedProgram, device: str, rows: Sequence[int]
) -> Opened:
    """Open a cell's runtime.

    Args:
        cell: Which.
        program: Of `capture_program`, in the cell's layout.
        loaded: The same, on the device.
        device: Of all but ONNX Runtime, which is the base on the CPU.
        rows: The numbers of rows that will be measured: the buckets of CUDA graphs.

    Raises:
        UserError: The runtime cannot be made.
    """
    if cell.runtime == "onnxruntime cpu":
        return Opened("cpu", _onnxruntime(program))
    if cell.runtime.endswith("fused lookups"):
        program = _fused(program)
        loaded = program_on(load_program(program.model_path), device)
    module: Any = loaded.module(check_guards=False)
    narrow_products(module, cell.precision)  # type: ignore[arg-type]
    if cell.runtime.startswith("cuda graphs") or cell.runtime == "max-autotune":
        return _graphs(cell, program, module, device, rows)
    if cell.runtime == "torch.compile":
        # As its users have it: one program for any number of rows.
        module = torch.compile(module, dynamic=True)
    if cell.runtime == "aoti":
        module = _ahead_of_time(module, program, device)
    return _plain(module, program, device)


def _fused(program: Artifact) -> Artifact:
    """Fuse a program's lookups, once for all cells.

    Raises:
        UserError: There is nothing to fuse.
    """
    from optimize.artifact import MANIFEST, open_artifact
    from optimize.stages.fuse_lookups import FuseLookups

    folder = program.folder.parent / f"{program.folder.name}-fused"
    if (folder / MANIFEST).is_file():
        return open_artifact(folder)
    folder.mkdir(exist_ok=True)
    made = seal(folder, FuseLookups().run(program, folder))
    if made.key == program.key:
        raise UserError(made.manifest.notes[-1])
    return made


def _plain(module: Any, program: Artifact, device: str) -> Opened:
    names = program.manifest.inputs

    def there(columns: Columns) -> list[torch.Tensor]:
        return [torch.from_numpy(columns[name]).to(device) for name in names]

    def score(columns: Columns) -> Array:
        with torch.inference_mode():
            scores: Array = _first(module(*there(columns))).float().cpu().numpy().reshape(-1)
        return scores

    def resident(columns: Columns) -> Callable[[], object]:
        given = there(columns)

        def call() -> object:
            with torch.inference_mode():
                return module(*given)

        return call

    return Opened(device, score, resident)


def _graphs(cell: Cell, program: Artifact, module: Any, device: str, rows: Sequence[int]) -> Opened:
    options = GraphOptions(
        sizes=tuple(sorted(rows)),
        compile=cell.part == "compiled",
        max_autotune=cell.runtime == "max-autotune",
        copies_in_graph=cell.runtime.endswith("copies inside"),
    )
    predictor = GraphPredictor(module, columns_of(program.manifest), options, device=device)

    def resident(columns: Columns) -> Callable[[], object]:
        count = max(len(each) for each in columns.values())
        graph = predictor.graphs[predictor.buckets.holding(count)]
        graph.inputs.pack(columns, 0, count)
        graph.run()
        return graph.captured.replay

    return Opened(device, predictor, None if options.copies_in_graph else resident)


def _ahead_of_time(module: Any, program: Artifact, device: str) -> Any:
    """Compile with AOTInductor for the device, for any number of rows, and load it again."""
    from torch import _inductor as inductor

    from optimize.flat_graph import export_module
    from optimize.samples import sample_requests

    manifest = program.manifest
    columns = manifest.columns_of(sample_requests(manifest.signature, [5, 6]))
    tensors = {name: torch.from_numpy(columns[name]).to(device) for name in manifest.inputs}
    users = {each.name for each in manifest.signature.user} if manifest.layout != "flat" else set()
    rows = {name: "requests" if name in users else "rows" for name in manifest.inputs}
    exported = export_module(_Tupled(module), tensors, rows)
    path = program.folder.parent / f"{program.folder.name}.aoti.pt2"
    with torch.no_grad():
        inductor.aoti_compile_and_package(exported, package_path=str(path))
    return inductor.aoti_load_package(str(path))


def _onnxruntime(program: Artifact) -> Callable[[Columns], Array]:
    """Export to ONNX and open it on the CPU, with a thread for each physical core."""
    from optimize.stages.export_onnx import ExportOnnx

    folder = program.folder.parent / f"{program.folder.name}-onnx"
    if not (folder / "manifest.json").is_file():
        folder.mkdir(exist_ok=True)
        seal(folder, ExportOnnx().run(program, folder))
    from optimize.artifact import open_artifact

    return open_predictor(open_artifact(folder), threads=physical_cores())


class _Named(torch.nn.Module):
    """Takes columns by position, and answers with one value in a tuple, as graphs do."""

    def __init__(self, module: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.ranker = module
        self._names = tuple(names)

    def forward(self, *columns: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.ranker(**dict(zip(self._names, columns, strict=True))).reshape(-1).float(),)


class _Tupled(torch.nn.Module):
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.program = module

    def forward(self, *columns: torch.Tensor) -> tuple[torch.Tensor]:
        return (_first(self.program(*columns)),)


def _first(found: Any) -> torch.Tensor:
    scores: torch.Tensor = found[0] if isinstance(found, tuple | list) else found
    return scores
