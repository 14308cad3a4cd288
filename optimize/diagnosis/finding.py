"""What a diagnosis finds: a code, where it is, what is wrong, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

# Every code, its severity, and what it means. docs/check.md explains each.
# error: `run` would refuse the ranker, or what it serves would be wrong.
# warning: it works, but slower, larger or nearer to a fault than it need be.
CODES: dict[str, tuple[Severity, str]] = {
    "cannot-export": ("error", "torch.export cannot trace the module"),
    "onnx-unknown-operator": ("error", "the ONNX exporter has no translation for an operator"),
    "scoring-fails": ("error", "forward raises on evaluation rows"),
    "one-row-fails": ("error", "a request of one candidate cannot be scored"),
    "wrong-score-count": ("error", "the module does not return one score a row"),
    "rows-mix": ("error", "a row's score depends on the other rows of its batch"),
    "batch-statistics": ("error", "batch norm uses the batch's statistics"),
    "position-matters": ("error", "a row's score depends on its place in the batch"),
    "batch-size-matters": ("error", "a row's score depends on how many rows the batch has"),
    "active-dropout": ("error", "dropout is active in evaluation mode"),
    "random-scores": ("error", "the same rows score differently each time, by chance"),
    "state-changes": ("error", "scoring changes a buffer or a parameter"),
    "hidden-state": ("error", "the same rows score differently each time, not by chance"),
    "not-finite-scores": ("error", "some scores are NaN or infinite"),
    "not-a-probability": ("error", "scores declared as probabilities leave [0, 1]"),
    "constant-scores": ("error", "every row gets the same score"),
    "unused-feature": ("warning", "a feature has no influence on the score"),
    "probably-user-side": ("warning", "an item feature never changes within a request"),
    "constant-feature": ("note", "a feature has one value in all evaluation requests"),
    "id-beyond-table": ("error", "a valid ID has no row in its embedding table"),
    "id-beyond-dtype": ("error", "the largest ID does not fit the feature's dtype"),
    "id-lost-in-float": ("error", "IDs pass through a float that cannot tell them apart"),
    "float-ids": ("note", "IDs pass through a float that can just hold them"),
    "no-cardinality": ("warning", "nothing says which IDs the embedding table can take"),
    "negative-ids": ("warning", "negative IDs read a table from its end"),
    "unused-table-rows": ("note", "an embedding table has rows that no valid ID reads"),
    "embedding-bag": ("warning", "EmbeddingBag is slow in ONNX Runtime, unknown to TensorRT"),
    "column-vectors": ("warning", "a matrix product over a batch of column vectors is slow"),
    "shape-from-values": ("warning", "a tensor's size depends on values"),
    "control-flow": ("warning", "a loop or a branch stays in the graph"),
    "complex": ("warning", "complex numbers have no type in the runtimes"),
    "float64": ("warning", "double precision costs twice, and TensorRT has none"),
    "sort": ("note", "sorting is slow, and limited in TensorRT"),
    "scatter": ("note", "scattered writes are slow"),
    "not-checked": ("warning", "a part of the diagnosis could not be done"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a module something happens.

    Attributes:
        module: The submodule's path, such as ``tower.norm``; empty for the module itself.
        operator: Such as ``aten.softmax``.
        source: The user's line, such as ``model.py:12 `x.softmax(0)` ``; empty if unknown.
    """

    module: str = ""
    operator: str = ""
    source: str = ""

    def __str__(self) -> str:
        return ", ".join(each for each in (self.module, self.operator, self.source) if each)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person should know or mend.

    Attributes:
        code: A key of `CODES`.
        what: What is wrong, with the values.
        remedy: What to do.
        features: The features it is about.
        place: Where in the module, if known.
    """

    code: str
    what: str
    remedy: str
    features: tuple[str, ...] = ()
    place: Place | None = None

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return CODES[self.code][0]

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON-ready data."""
        place = self.place or Place()
        return {
            "severity": self.severity,
            "code": self.code,
            "what": self.what,
            "remedy": self.remedy,
            "features": list(self.features),
            "module": place.module,
            "operator": place.operator,
            "source": place.source,
        }
