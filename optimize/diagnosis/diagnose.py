"""The whole diagnosis of a ranker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimize.diagnosis.finding import CODES, Finding
from optimize.diagnosis.ids import examine_ids
from optimize.diagnosis.inputs import examine_inputs
from optimize.diagnosis.onnx_support import examine_onnx
from optimize.diagnosis.operators import examine_operators
from optimize.diagnosis.rows import examine_rows
from optimize.diagnosis.scores import examine_scores
from optimize.diagnosis.sizes import weigh
from optimize.diagnosis.trace import trace_ranker
from optimize.diagnosis.work import count_work

if TYPE_CHECKING:
    from optimize.diagnosis.finding import Severity
    from optimize.diagnosis.inputs import Input
    from optimize.diagnosis.sizes import Sizes
    from optimize.diagnosis.work import Work
    from rankers.ranker import Ranker

SCHEMA = 1
_ORDER = ("error", "warning", "note")
_NO_GRAPH = Finding(
    "not-checked",
    "without an exported program the ONNX translation and the work of a request are not known, and "
    "places, IDs and operators at best for a fixed number of rows",
    "mend what keeps it from exporting, and check again",
)
# With these there is nothing to experiment on.
_FATAL = {"scoring-fails", "wrong-score-count"}


@dataclass(frozen=True)
class Diagnosis:
    """What was found out about a ranker before anything is converted.

    Attributes:
        name: The ranker's.
        score: What its score means (`rankers.features.ScoreKind`).
        findings: Errors first.
        inputs: The features, in the signature's order; empty where nothing can be scored.
        sizes: Where the bytes are.
        work: What requests cost; empty where the module cannot be exported.
        seconds: How long the diagnosis took.
    """

    name: str
    score: str
    findings: tuple[Finding, ...]
    inputs: tuple[Input, ...]
    sizes: Sizes
    work: tuple[Work, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether there is no error among the findings."""
        return not self.count("error")

    def count(self, severity: Severity) -> int:
        """Return how many findings are of a severity."""
        return sum(each.severity == severity for each in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the diagnosis as JSON-ready data."""
        return {
            "schema": SCHEMA,
            "ranker": self.name,
            "score": self.score,
            "passed": self.passed,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "notes": self.count("note"),
            "findings": [each.to_json() for each in self.findings],
            "inputs": [each.to_json() for each in self.inputs],
            "parameters": self.sizes.to_json(),
            "work": [each.to_json() for each in self.work],
            "seconds": round(self.seconds, 3),
        }


def diagnose(ranker: Ranker) -> Diagnosis:
    """Examine a ranker: its scores, rows, inputs, IDs, operators, size and work.

    Nothing is converted or written. The module runs in evaluation mode on a few hundred of its
    evaluation rows, and on changed copies of them.
    """
    started = time.perf_counter()
    inputs: list[Input] = []
    work: list[Work] = []
    trace, found = trace_ranker(ranker)
    findings = list(found)
    scoring = examine_scores(ranker)
    findings += scoring
    if not {each.code for each in scoring} & _FATAL:
        findings += examine_rows(ranker, trace)
        inputs, about_inputs = examine_inputs(ranker, trace)
        findings += about_inputs + examine_ids(ranker, trace)
    findings += examine_operators(ranker, trace)
    if trace is not None and trace.any_rows:
        findings += examine_onnx(trace)
        work = count_work(ranker, trace)
    else:
        findings.append(_NO_GRAPH)
    places = {code: place for place, code in enumerate(CODES)}
    findings.sort(key=lambda each: (_ORDER.index(each.severity), places[each.code]))
    return Diagnosis(
        name=ranker.name,
        score=ranker.signature.score,
        findings=tuple(findings),
        inputs=tuple(inputs),
        sizes=weigh(ranker, trace),
        work=tuple(work),
        seconds=time.perf_counter() - started,
    )
