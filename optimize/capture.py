"""The first step of every run: the ranker as it is becomes a torch.export program.

The user's code runs here and nowhere else. Everything after works on files: the program, the
evaluation requests, and what the original module scored on them.
"""

from __future__ import annotations

import hashlib
import inspect
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import rankers
from optimize.artifact import EVIDENCE, Artifact, ArtifactError, Manifest, Step, open_artifact, seal
from optimize.checksums import fingerprint
from optimize.export import export_ranker, own_functions
from optimize.versions import library_versions
from rankers.errors import UserError
from rankers.files import new_folder
from rankers.requests import RankingRequest, RequestBatch, load_requests, save_requests
from rankers.seen import load_counts, save_counts

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Mapping, Sequence

    from rankers.ranker import Ranker
    from rankers.requests import Array, Columns

STAGE = "capture"
EVALUATION = "evaluation.safetensors"  # in the folder of evidence
SEEN = "seen.safetensors"  # beside it
CALIBRATION = "calibration.safetensors"  # there too, if the ranker has any
_CHUNK_ROWS = 8192
# What decides the artifact's content: this file, the one that traces, and the adapters, of which
# some do otherwise while traced.
_CODE = (
    Path(__file__),
    Path(__file__).with_name("export.py"),
    Path(__file__).with_name("unpack.py"),
    *sorted((Path(rankers.__file__).parent / "adapters").glob("*.py")),
)
# Kernels differ between batch sizes in the last bits of float32; a real dependence is far larger.
_ROW_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Evidence:
    """What every later artifact is judged against.

    Attributes:
        evaluation: The labelled requests.
        scores: What the original module scored on them, float32 ``[ΣN]``.
        probes: For each probed number of candidates N, one request and its scores.
        seen: How often training met each ID (`rankers.seen`); empty if nobody counted.
    """

    evaluation: RequestBatch
    scores: Array
    probes: dict[int, tuple[RankingRequest, Array]]
    seen: Mapping[str, Array] = field(default_factory=dict)


def capture(ranker: Ranker, store: Path, *, candidates: Sequence[int]) -> Artifact:
    """Export a ranker's module and score its evaluation requests, once for the same content.

    Args:
        ranker: What the user handed in.
        store: The folder in which the artifact gets a folder named after its content.
        candidates: The numbers of candidates N to probe parity at.

    Returns:
        A ``torch`` artifact with the evidence in its folder.

    Raises:
        UserError: The module gives NaN, scores a row differently depending on the other rows of its
            batch, gives not one score a row, or cannot be exported.
    """
    started = time.perf_counter()
    scores = score_batch(ranker.score, ranker.evaluation)
    probes = _probes(ranker, candidates)
    _check_scores(ranker, scores)
    _check_rows_are_independent(ranker, probes)
    key = _content_key(ranker, scores, candidates)
    folder = store / f"{STAGE}-{key[:16]}"
    if folder.exists():
        try:
            return open_artifact(folder)
        except ArtifactError:  # damaged since: make it again
            shutil.rmtree(folder)
    from optimize.torch_program import PROGRAM, save_program

    with new_folder(folder) as aside:
        save_program(export_ranker(ranker), aside / PROGRAM)
        _write_evidence(aside / EVIDENCE, ranker.evaluation, scores, probes)
        if ranker.seen is not None:
            save_counts(ranker.seen, aside / EVIDENCE / SEEN)
        if ranker.calibration is not None:
            save_requests(ranker.calibration, aside / EVIDENCE / CALIBRATION)
        ranker.write_files(aside)
        step = Step(
            stage=STAGE,
            options={"candidates": list(candidates)},
            source="",
            versions=library_versions("torch"),
            seconds=round(time.perf_counter() - started, 3),
        )
        seal(
            aside,
            Manifest(
                name=ranker.name,
                format="torch",
                model=PROGRAM,
                signature=ranker.signature,
                lineage=(step,),
            ),
        )
    return open_artifact(folder)


def load_evidence(artifact: Artifact) -> Evidence:
    """Read what `capture` wrote beside the program.

    Raises:
        UserError: The artifact was not made by `capture`.
    """
    from safetensors.numpy import load_file

    folder = artifact.folder / EVIDENCE
    if not (folder / "scores.safetensors").is_file():
        raise UserError(f"{artifact.folder}: holds no evidence; it is not a captured ranker")
    tensors = load_file(folder / "scores.safetensors")
    signature = artifact.manifest.signature
    probes = {}
    for key in tensors:
        if key.startswith("probe/") and key.endswith("/score"):
            prefix = key.removesuffix("score")
            request = RankingRequest(
                user={each.name: tensors[f"{prefix}user/{each.name}"] for each in signature.user},
                items={each.name: tensors[f"{prefix}items/{each.name}"] for each in signature.item},
            )
            probes[int(key.split("/")[1])] = (request, tensors[key])
    return Evidence(
        evaluation=load_requests(folder / EVALUATION),
        scores=tensors["scores"],
        probes=dict(sorted(probes.items())),
        seen=load_counts(folder / SEEN) if (folder / SEEN).is_file() else {},
    )


def load_calibration(captured: Artifact) -> RequestBatch | None:
    """Read the requests that stages may learn from; None if the ranker came without."""
    path = captured.folder / EVIDENCE / CALIBRATION
    return load_requests(path) if path.is_file() else None


def score_batch(
    score: Callable[[Columns], Array],
    batch: RequestBatch,
    columns_of: Callable[[RequestBatch], Columns] = RequestBatch.flat,
) -> Array:
    """Score all rows of ``batch`` in chunks of whole requests; float32 ``[ΣN]``.

    Args:
        score: From columns to scores: a ranker's ``score`` or a predictor.
        batch: The requests.
        columns_of: Makes requests the columns that ``score`` takes.
    """
    return np.concatenate([score(columns_of(chunk)) for chunk in batch.chunks(_CHUNK_ROWS)])


def _probes(ranker: Ranker, candidates: Sequence[int]) -> dict[int, tuple[RankingRequest, Array]]:
    """Score one user against N candidates, for each N: candidates come from the whole batch."""
    evaluation = ranker.evaluation
    random = np.random.default_rng(0)
    probes = {}
    for count in candidates:
        user = int(random.integers(len(evaluation)))
        rows = random.integers(evaluation.rows, size=count)
        request = RankingRequest(
            user={name: column[user : user + 1] for name, column in evaluation.user.items()},
            items={name: column[rows] for name, column in evaluation.items.items()},
        )
        probes[count] = (request, ranker.score(request.flat()))
    return probes


def _check_scores(ranker: Ranker, scores: Array) -> None:
    if len(scores) != ranker.evaluation.rows:
        raise UserError(
            f"ranker {ranker.name!r} gave {len(scores)} scores for {ranker.evaluation.rows} rows; "
            "its forward returns one score a row, [rows] or [rows, 1]"
        )
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        request = int(np.searchsorted(ranker.evaluation.offsets, bad[0], side="right")) - 1
        raise UserError(
            f"ranker {ranker.name!r} gives {scores[bad[0]]} for {len(bad)} of {len(scores)} "
            f"evaluation rows, first in request {request}: train it again or mend its inputs"
        )


def _check_rows_are_independent(
    ranker: Ranker, probes: dict[int, tuple[RankingRequest, Array]]
) -> None:
    """Compare the first rows of the largest probe with the same rows scored alone."""
    request, together = probes[max(probes)]
    columns = request.flat()
    for row in range(min(3, len(together))):
        alone = ranker.score({name: column[row : row + 1] for name, column in columns.items()})
        difference = abs(float(alone[0]) - float(together[row]))
        if difference > _ROW_TOLERANCE * max(1.0, abs(float(alone[0]))):
            raise UserError(
                f"ranker {ranker.name!r} scores a row {alone[0]:.6g} alone and {together[row]:.6g} "
                f"among {len(together)}: rows must not depend on their batch (a softmax or a mean "
                "over the batch, or batch statistics computed at inference)"
            )


def _content_key(ranker: Ranker, scores: Array, candidates: Sequence[int]) -> str:
    """Fingerprint everything the export depends on: weights, code, inputs, and what came out."""
    digest = hashlib.sha256()
    for name, tensor in ranker.module.state_dict().items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    for function in own_functions(ranker.module):
        digest.update(_source(function).encode())
    digest.update(np.ascontiguousarray(scores).tobytes())
    for batch in (ranker.evaluation, ranker.calibration):
        if batch is not None:
            _digest_requests(digest, batch)
    for name, counts in sorted((ranker.seen or {}).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(counts).tobytes())
    return fingerprint(
        {
            "content": digest.hexdigest(),
            "files": {name: hashlib.sha256(x).hexdigest() for name, x in ranker.files.items()},
            "name": ranker.name,
            "signature": ranker.signature.to_json(),
            "candidates": list(candidates),
            "code": [hashlib.sha256(each.read_bytes()).hexdigest() for each in _CODE],
            "versions": library_versions("torch"),
        }
    )


def _digest_requests(digest: hashlib._Hash, batch: RequestBatch) -> None:
    labels = {} if batch.labels is None else {"": batch.labels}
    for columns in (batch.user, batch.items, {"": batch.offsets}, labels):
        for name, column in sorted(columns.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(column).tobytes())


def _source(function: types.FunctionType) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # made at run time: its compiled form tells it apart
        return function.__code__.co_code.hex()


def _write_evidence(
    folder: Path,
    evaluation: RequestBatch,
    scores: Array,
    probes: dict[int, tuple[RankingRequest, Array]],
) -> None:
    from safetensors.numpy import save_file

    folder.mkdir()
    save_requests(evaluation, folder / EVALUATION)
    tensors = {"scores": scores}
    for count, (request, expected) in probes.items():
        tensors[f"probe/{count}/score"] = expected
        for side, columns in (("user", request.user), ("items", request.items)):
            for name, column in columns.items():
                tensors[f"probe/{count}/{side}/{name}"] = np.ascontiguousarray(column)
    save_file(tensors, folder / "scores.safetensors")
