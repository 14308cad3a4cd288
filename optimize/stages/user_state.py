"""Stage ``user_state``: the user's part becomes a graph of its own, whose result can be kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from optimize.user_state.cut import Crossing
    from rankers.requests import Array

_SCHEMA = 1
# Candidates of a page: what is saved depends on them.
_PAGES = (20, 200)
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class KeepUserState:
    """Cuts a user-once graph in two, so that a user's part serves several requests.

    It pays where a user comes back soon with the same features: paging through results, a feed that
    is refreshed. A client keeps the state, which names the version of the artifact, and gives it
    back; optimize/user_state/predictor.py ranks by it. The last stage of a recipe: no other reads
    two graphs. Weights that both parts read are held twice.
    """

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    code: ClassVar[tuple[str, ...]] = ("samples.py", "user_state/*.py")

    def run(self, artifact: Artifact, folder: Path) -> Manifest:
        """Cut, compare with the whole graph; see `optimize.stages.Stage.run`."""
        from optimize.user_state.halves import write_halves
        from optimize.user_state.predictor import CANDIDATES_MODEL, LAYOUT, REPORT

        manifest = artifact.manifest
        if manifest.layout != "user_once":
            said = [each for each in manifest.notes if each.startswith("user_once: ")]
            why = said[-1] if said else "the stage user_once comes first"
            raise UserError(
                f"{artifact.folder}: has the layout {manifest.layout!r}, and no user's part apart "
                f"({why})"
            )
        report = _report(manifest, folder, write_halves(artifact, folder))
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")
        made = replace(
            manifest,
            model=CANDIDATES_MODEL,
            layout=LAYOUT,
            notes=(*manifest.notes, f"user_state: {_said(report)}"),
        )
        _check_scores(artifact, folder, made)
        return made


def _report(
    manifest: Manifest, folder: Path, crossing: Sequence[tuple[Crossing, Array]]
) -> dict[str, Any]:
    """Return what a state is, its size, and what pages take without it and with it."""
    from optimize.samples import sample_requests
    from optimize.user_state.predictor import CANDIDATES_MODEL, USER_MODEL
    from optimize.user_state.work import multiply_adds

    tensors, states = [], {}
    for each, value in crossing:
        own = np.ascontiguousarray(np.moveaxis(value, each.axis, 0)[:1])  # [1, …]
        states[each.state] = own
        of_one = {"name": each.state, "dtype": str(own.dtype), "shape": list(own.shape[1:])}
        tensors.append(of_one | {"value": each.value, "bytes": own.nbytes})
    pages: list[dict[str, Any]] = []
    unknown: set[str] = set()
    for candidates in _PAGES:
        columns = sample_requests(manifest.signature, [candidates]).joined() | states
        work: dict[str, Any] = {"candidates": candidates}
        for part, model in (("user", USER_MODEL), ("items", CANDIDATES_MODEL)):
            work[f"{part}_multiply_adds"], others = multiply_adds(folder / model, columns)
            unknown.update(others)
        pages.append(work)
    return {
        "schema": _SCHEMA,
        "tensors": tensors,
        "bytes": sum(each["bytes"] for each in tensors),
        "pages": pages,
        "not_counted": sorted(unknown),
    }


def _check_scores(artifact: Artifact, folder: Path, made: Manifest) -> None:
    """Compare both parts with the whole, for one user and several."""
    from optimize.artifact import Artifact as Opened
    from optimize.runtimes import open_predictor
    from optimize.samples import sample_requests
    from optimize.stages.export_onnx import CHECKED_CANDIDATES

    whole, parts = (open_predictor(each) for each in (artifact, Opened(folder, made)))
    for counts in CHECKED_CANDIDATES:
        columns = made.columns_of(sample_requests(made.signature, counts))
        expected, scores = whole(columns), parts(columns)
        difference = float(np.abs(scores - expected).max())
        if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise UserError(f"the parts' scores differ by {difference:.2g} from the whole graph's")


def _said(report: dict[str, Any]) -> str:
    """Return the report in one line."""
    shares = []
    for page in report["pages"]:
        user, items = page["user_multiply_adds"], page["items_multiply_adds"]
        shares.append(f"{user / max(1, user + items):.0%} for {page['candidates']}")
    line = (
        f"{report['bytes']:,} bytes of a user can be kept; of the multiply-adds they save "
        f"{' and '.join(shares)} candidates"
    )
    if report["not_counted"]:
        line += f" (not counted: {', '.join(report['not_counted'])})"
    return line
