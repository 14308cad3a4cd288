"""What each feature is worth, which went, and what was saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.wire import request_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optimize.fields.choosing import Dropped
    from optimize.fields.importance import Importance
    from rankers.features import Signature


@dataclass(frozen=True)
class Report:
    """Of one run of the stage.

    Attributes:
        worth: Of each feature.
        chosen: What goes.
        table_bytes: Of the weights that went with each feature.
        weight_bytes: Of all weights, before.
        signatures: Before and after.
        candidates: Of the median calibration request.
        requests: How many calibration requests were used.
    """

    worth: tuple[Importance, ...]
    chosen: Dropped
    table_bytes: Mapping[str, int]
    weight_bytes: int
    signatures: tuple[Signature, Signature]
    candidates: int
    requests: int

    @property
    def request_bytes(self) -> tuple[int, int]:
        """Of a request of the median number of candidates on the wire, before and after."""
        before, after = (request_bytes(each, self.candidates) for each in self.signatures)
        return before, after

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data; features are in order, the one worth least first."""
        before, after = self.request_bytes
        return {
            "requests": self.requests,
            "candidates": self.candidates,
            "request_bytes": {"before": before, "after": after},
            "weight_bytes": {
                "before": self.weight_bytes,
                "after": self.weight_bytes - sum(self.table_bytes.values()),
            },
            **self.chosen.to_json(),
            "fields": [
                each.to_json()
                | {
                    "dropped": each.feature in self.table_bytes,
                    "wire_bytes": self._wire_bytes(each.feature),
                }
                | (
                    {"weight_bytes": self.table_bytes[each.feature]}
                    if each.feature in self.table_bytes
                    else {}
                )
                for each in sorted(self.worth, key=lambda each: each.rank)
            ],
        }

    def describe(self) -> str:
        """Say in a line what went and what it saves."""
        if not self.table_bytes:
            kept = "; ".join(f"{name}: {why}" for name, why in self.chosen.kept.items())
            return f"kept all {len(self.worth)} features: {kept or 'so many may stay'}"
        before, after = self.request_bytes
        left = self.weight_bytes - sum(self.table_bytes.values())
        named = ", ".join(f"{each.feature} ({each.kind})" for each in self.chosen.constants)
        said = (
            f"dropped {len(self.table_bytes)} of {len(self.worth)} features: {named}; a request of "
            f"{self.candidates} candidates {before:,} → {after:,} bytes, weights "
            f"{self.weight_bytes:,} → {left:,} bytes"
        )
        auc = self.chosen.losses.get("auc")
        if auc is not None:
            said += f"; AUC loss on {self.requests} calibration requests {auc.estimate:+.2g} "
            said += f"[{auc.low:+.2g}, {auc.high:+.2g}]"
        elif self.chosen.change is not None:
            said += f"; scores move by {self.chosen.change.estimate:.2%} of their spread"
        return said

    def _wire_bytes(self, name: str) -> int:
        """Return what a feature takes of a request."""
        feature = self.signatures[0].feature(name)
        rows = 1 if feature.side == "user" else self.candidates
        return rows * feature.width * np.dtype(feature.dtype).itemsize
