"""Stage ``recalibrate``: scores become the click probabilities that they say they are."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from optimize.option_values import require_share
from rankers.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from optimize.artifact import Artifact, Manifest
    from optimize.recalibration.judging import Judged
    from optimize.score_map import Piecewise, Scaled
    from rankers.features import ScoreKind
    from rankers.requests import Array, RequestBatch

NAME = "recalibrate"
REPORT = "recalibration.json"
_RESAMPLES = 1000


@dataclass(frozen=True)
class Recalibrate:
    """Fits an increasing function of the score to clicks, and folds it into the program.

    Candidates keep their order; bids, blends and thresholds that read the score as a probability
    get one. It is fitted to one part of the ranker's calibration requests and judged on the other:
    where the logloss does not surely fall there, the program stays as it is. Give calibration
    requests that training has not seen. The gates then hold scores against what the function makes
    of the original's (docs/recalibration.md).
    Sources: Guo et al., arXiv:1706.04599; Platt, 1999; Zadrozny and Elkan, KDD 2002; Oron and
    Flournoy, arXiv:1701.05964.
    """

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"
    needs: ClassVar[tuple[str, ...]] = ("torch", "scikit-learn")
    code: ClassVar[tuple[str, ...]] = (
        "flat_graph.py",
        "samples.py",
        "score_map.py",
        "recalibration/*.py",
        "tables/program.py",
    )
    needs_data: ClassVar[bool] = True
    keep: ClassVar[str] = "if_passed"

    method: Literal["temperature", "platt", "isotonic"] = field(
        default="platt",
        metadata={"help": "a scale of logits; a scale and a shift; any increasing function"},
    )
    strict: bool = field(
        default=True,
        metadata={"help": "of isotonic: rise everywhere, so that no two scores become one"},
    )
    knots: int = field(default=32, metadata={"help": "of isotonic: the most, 4 to 256"})
    judged_on: float = field(
        default=0.4, metadata={"help": "share of the calibration requests that judge the fit"}
    )
    seed: int = field(default=0, metadata={"help": "of drawing that share"})

    def __post_init__(self) -> None:
        if not 4 <= self.knots <= 256:
            raise UserError(f"stage {NAME!r}: knots is {self.knots}; expected 4 to 256")
        require_share(NAME, self, "judged_on")

    def run(self, artifact: Artifact, folder: Path, calibration: RequestBatch) -> Manifest:
        """Fit, judge and fold; see `optimize.stages.LearningStage.run`."""
        from optimize.artifact import copy_model

        manifest = artifact.manifest
        if manifest.score_map:
            raise UserError(
                f"stage {NAME!r}: {artifact.folder} is recalibrated already; once is enough"
            )
        given = manifest.signature.score
        kind: ScoreKind = "probability" if given == "probability" else "logit"
        try:
            change, judged, parts = self._fit(artifact, calibration, kind)
        except UserError as error:
            raise UserError(f"stage {NAME!r}: {error}") from error
        said: dict[str, Any] = {
            "method": self.method,
            "fitted_on": parts[0],
            "judged_on": parts[1],
            "folded": judged.helps,
            "score_map": change.to_json(),
            **judged.to_json(),
        }
        if judged.helps:
            said["place"] = self._fold(artifact, folder, change)
        else:
            copy_model(artifact, folder)
        (folder / REPORT).write_text(json.dumps(said, indent=1) + "\n")
        notes = (*manifest.notes, f"{NAME}: {self._note(judged, parts[1])}")
        if not judged.helps:
            return replace(manifest, notes=notes)
        from optimize.torch_program import PROGRAM

        return replace(
            manifest,
            model=PROGRAM,
            signature=replace(manifest.signature, score=kind),
            score_map=change.to_json(),
            notes=notes,
        )

    def _fit(
        self, artifact: Artifact, calibration: RequestBatch, kind: ScoreKind
    ) -> tuple[Scaled | Piecewise, Judged, tuple[int, int]]:
        """Fit to some requests, judge on the others; and how many there were of each."""
        from optimize.recalibration.fitting import fit_isotonic, fit_scaled
        from optimize.recalibration.judging import clicks_of, judge_map, split_requests

        clicks_of(calibration)
        parts = split_requests(calibration, self.judged_on, self.seed)
        fitted, judging = (calibration.select(each) for each in parts)
        labels, scores = clicks_of(fitted), _scores(artifact, fitted)
        if self.method == "isotonic":
            change: Scaled | Piecewise = fit_isotonic(
                scores, labels, kind, knots=self.knots, strict=self.strict
            )
        else:
            change = fit_scaled(scores, labels, kind, shift=self.method == "platt")
        judged = judge_map(change, _scores(artifact, judging), judging, kind, resamples=_RESAMPLES)
        return change, judged, (len(fitted), len(judging))

    def _fold(self, artifact: Artifact, folder: Path, change: Scaled | Piecewise) -> str:
        from optimize.recalibration.folding import fold_score_map
        from optimize.tables.program import open_program, program_of
        from optimize.torch_program import PROGRAM, save_program

        graph = open_program(artifact)
        place = fold_score_map(graph, change)
        save_program(program_of(graph, artifact.manifest), folder / PROGRAM)
        return place

    def _note(self, judged: Judged, requests: int) -> str:
        done = "" if judged.helps else "kept as it is, since the logloss does not surely fall: "
        tied = ""
        if judged.helps and judged.tied:
            tied = f"; {judged.tied:,} of {judged.pairs:,} pairs of candidates now tie"
        return f"{done}{self.method}: {judged.describe()} on {requests} requests{tied}"


def _scores(artifact: Artifact, requests: RequestBatch) -> Array:
    """Return what an artifact scores, ``[ΣN]``.

    Raises:
        UserError: Some are not finite.
    """
    import numpy as np

    from optimize.capture import score_batch
    from optimize.runtimes import open_predictor

    scores = score_batch(open_predictor(artifact), requests, artifact.manifest.columns_of)
    if not np.isfinite(scores).all():
        raise UserError("some scores of the calibration requests are not finite")
    return scores
