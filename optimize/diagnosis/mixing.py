"""What operators that mix rows are called, and what to do about each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.diagnosis.finding import Finding

if TYPE_CHECKING:
    from optimize.diagnosis.finding import Place

# Of those that are not in `_REMEDIES`.
_MIXING = "compute it within each row: reduce, sort or multiply over no dimension that holds rows"
# By operator: what it is when it runs over the rows, and what to do.
_REMEDIES: dict[str, tuple[str, str]] = {
    "softmax": (
        "a softmax over the rows",
        "take it over a row's own dimension; normalize a request's candidates after scoring",
    ),
    "log_softmax": ("a log-softmax over the rows", "as for training only: leave it out of forward"),
    "matmul": (
        "a product of rows with rows (attention between candidates, in-batch logits)",
        "let a row attend to its own history only; serve candidates that see each other as one row",
    ),
    "scaled_dot_product_attention": (
        "attention between rows",
        "keep the rows in the first dimension (batch_first=True), so that attention is within one",
    ),
    "mean": ("a mean over the rows", "keep the training mean in a buffer, or reduce within a row"),
    "sum": ("a sum over the rows", _MIXING),
    "sort": ("a sort over the rows", _MIXING),
    "cumsum": ("a running sum over the rows", _MIXING),
    "max": ("a maximum over the rows", "scale by a constant from training, kept in a buffer"),
    "layer_norm": ("a norm over the rows", "normalize over a row's own dimensions"),
}
_SAME_AS = {
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "mm": "matmul",
    "bmm": "matmul",
    "linear": "matmul",
    "einsum": "matmul",
    "addmm": "matmul",
    "baddbmm": "matmul",
    "amax": "max",
    "group_norm": "layer_norm",
    "instance_norm": "layer_norm",
}
_STATISTICS = ("batch_norm", "native_batch_norm", "_native_batch_norm_legit", "instance_norm")


def mixed_at(place: Place | None) -> Finding:
    """Return the finding that rows mix at a place; None where it is not known."""
    name = place.operator.rpartition(".")[2] if place else ""
    if name in _STATISTICS:
        return Finding(
            "batch-statistics",
            "batch norm uses the statistics of the batch in evaluation mode: a row's score depends "
            "on the rows beside it",
            "track running statistics in training (track_running_stats=True, training=False when "
            "scoring)",
            place=place,
        )
    how, remedy = _REMEDIES.get(
        _SAME_AS.get(name, name), (f"by {name}" if name else "where is not known", _MIXING)
    )
    return Finding(
        "rows-mix",
        f"a row's score depends on the other rows of its batch: {how}",
        remedy,
        place=place,
    )
