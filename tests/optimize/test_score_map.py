"""Score maps: increasing, undone by their inverse, and the same in a graph as in the gates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.flat_graph import flat_graph
from optimize.recalibration.fitting import fit_isotonic
from optimize.recalibration.folding import fold_score_map
from optimize.score_map import Piecewise, Scaled, score_map_of
from rankers.errors import UserError

MAPS = (
    Scaled(0.4, -0.7, probability=True),
    Scaled(2.5, 0.3, probability=False),
    Piecewise((0.0, 0.1, 0.1001, 0.6, 1.0), (0.0, 0.02, 0.3, 0.31, 1.0), 0.0, probability=True),
    Piecewise((-1.0, 0.5, 2.0), (-3.0, 0.0, 0.1), 0.7, probability=False),
)


def values(change):
    """Float32 neighbours at many places, and a wide grid: ascending."""
    wide = np.linspace(0, 1, 4001) if change.probability else np.linspace(-9, 9, 4001)
    start = wide[::100].astype(np.float32)
    near = [start]
    for _ in range(20):
        near.append(np.nextafter(near[-1], np.float32(2 if change.probability else 99)))
    found = np.unique(np.concatenate([wide.astype(np.float32), *near]))
    return found[found <= 1] if change.probability else found


class Handed(nn.Module):
    """Gives its column as the score."""

    def forward(self, column):
        return column * 1.0


@pytest.mark.parametrize("change", MAPS, ids=repr)
class TestMap:
    def test_a_graph_that_it_was_folded_into_gives_the_same_and_never_falls(self, change):
        column = torch.from_numpy(values(change))
        rows = torch.export.Dim("rows", min=1)
        program = torch.export.export(Handed(), (column[:11],), dynamic_shapes=({0: rows},))
        graph = flat_graph(program, ["column"], [], lambda rows: {"column": column[:rows]})
        fold_score_map(graph, change)
        graph.clean()
        found = graph.score({"column": column}).numpy()
        assert (np.diff(found) >= 0).all()
        np.testing.assert_allclose(found, change(values(change)), atol=3e-6, rtol=3e-6)

    def test_its_inverse_undoes_it(self, change):
        given = values(change)[5:-5]
        undone = change.undo(change(given))
        differs = np.abs(undone - given)
        # What float32 keeps of a score near 1, or of a flat piece, is less than it had.
        assert np.quantile(differs, 0.9) < 1e-5

    def test_it_is_read_as_it_was_written(self, change):
        assert score_map_of(change.to_json()) == change


@pytest.mark.parametrize(
    "data",
    [
        {"form": "scaled", "scale": -1.0, "shift": 0.0, "probability": True},
        {"form": "piecewise", "x": [0, 1], "y": [1, 0], "end_slope": 0, "probability": True},
        {"form": "piecewise", "x": [0, 0], "y": [0, 1], "end_slope": 0, "probability": True},
    ],
    ids=["backwards", "falling", "without width"],
)
def test_what_changes_the_order_is_no_score_map(data):
    with pytest.raises(UserError, match="keep their order"):
        score_map_of(data)


class TestIsotonicFit:
    def fit(self, knots=32, *, strict=True, rows=4000):
        random = np.random.default_rng(0)
        scores = random.random(rows).astype(np.float32)
        labels = (random.random(rows) < scores**2).astype(np.float32)
        return fit_isotonic(scores, labels, "probability", knots=knots, strict=strict)

    def test_it_finds_a_curve_that_no_scale_is(self):
        grid = np.linspace(0.05, 0.95, 50)
        assert np.abs(self.fit()(grid) - grid**2).mean() < 0.03

    def test_it_has_no_more_knots_than_asked_for(self):
        assert len(self.fit(knots=8).x) <= 8
        assert len(self.fit(knots=8, strict=False).x) <= 8
        assert 8 < len(self.fit().x) <= 32

    def test_strict_it_rises_everywhere_and_else_it_has_flat_parts(self):
        assert self.fit().strict
        assert not self.fit(strict=False).strict

    def test_a_share_is_never_quite_none_or_all(self):
        scores = np.linspace(0, 1, 200, dtype=np.float32)
        found = fit_isotonic(
            scores, (scores > 0.5).astype(np.float32), "logit", knots=8, strict=True
        )
        assert np.isfinite(found.y).all()
        assert found.y[0] < -3 < 3 < found.y[-1]
