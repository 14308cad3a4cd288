"""The stage: tables as products, in torch and in ONNX, before the user's part is split or after."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import onnx
import pytest
import squares_ranker
import table_rankers
import torch

from optimize.artifact import open_artifact
from optimize.build import run_stage
from optimize.capture import capture
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages import make_stage
from optimize.stages.factor_tables import REPORT
from optimize.tables.program import open_tables
from optimize.tables.reads import table_reads
from optimize.torch_program import load_program
from rankers.errors import UserError

METHODS = ("low_rank", "quotient_remainder")
RANKS = {"user": 3, "item": 5, "tags": 4, "region": 2}
UNTUNED = {"steps": 0, "share": 0.6}


def shop(*, ranks=None):
    """The ranker, with tables of lower ranks if they are given, and calibration requests."""
    ranker = table_rankers.shop()
    module = ranker.module
    held = {
        "user": module.user.weight,
        "item": module.item.weight,
        "tags": module.tags.weight,
        "region": module.region,
    }
    with torch.no_grad():
        for name, rank in (ranks or {}).items():
            left, sizes, right = torch.linalg.svd(held[name], full_matrices=False)
            held[name].copy_(left[:, :rank] * sizes[:rank] @ right[:rank])
        for table in (module.item, module.tags):
            table.weight[0] = 0
    return dataclasses.replace(ranker, calibration=table_rankers.requests(60, seed=5))


@pytest.fixture(scope="module")
def flat(store):
    return capture(shop(), store, candidates=(1, 5))


@pytest.fixture(scope="module")
def simple(store):
    """Its tables have the ranks `RANKS`."""
    return capture(shop(ranks=RANKS), store, candidates=(1, 5))


@pytest.fixture(scope="module", params=METHODS)
def factored(request, flat, store):
    options = UNTUNED | {"method": request.param}
    return run_stage("factor_tables", options, flat, store, data=flat)


@pytest.fixture(scope="module")
def once(flat, store):
    return run_stage("user_once", {"when": "always"}, flat, store)


@pytest.fixture(scope="module", params=METHODS)
def split(request, flat, once, store):
    """Factored after the user's part was split; as a program and in ONNX."""
    options = UNTUNED | {"method": request.param}
    artifact = run_stage("factor_tables", options, once, store, data=flat)
    return artifact, run_stage("export_onnx", {}, artifact, store)


@functools.cache
def predictor_of(folder):
    """Open each artifact once: reading a program takes longer than scoring with it."""
    return open_predictor(open_artifact(folder))


def scores(artifact, batch):
    return predictor_of(artifact.folder)(artifact.manifest.columns_of(batch))


def report_of(artifact):
    return json.loads((artifact.folder / REPORT).read_text())


def tables_of(artifact):
    return {each["name"]: each for each in report_of(artifact)["tables"]}


def held_by(artifact):
    program = load_program(artifact.model_path)
    return {
        name.removeprefix("rewritten."): x
        for name, x in (program.state_dict | program.constants).items()
    }


class TestScores:
    def test_tables_of_lower_rank_are_found_out_and_scores_stay(self, simple, store):
        options = {"steps": 0, "share": 0.5}
        artifact = run_stage("factor_tables", options, simple, store, data=simple)
        assert {x: y["rank"] for x, y in tables_of(artifact).items() if y["rank"]} == RANKS
        batch = sample_requests(table_rankers.SIGNATURE, [40, 3, 60])
        batch.user["history"][:, 3:] = 0
        batch.user["tags"][:] = 0
        np.testing.assert_allclose(scores(artifact, batch), scores(simple, batch), atol=2e-4)

    def test_before_the_users_part_is_split(self, factored, store):
        once = run_stage("user_once", {"when": "always"}, factored, store)
        batch = sample_requests(table_rankers.SIGNATURE, [5, 1, 9])
        assert once.manifest.layout == "user_once"
        np.testing.assert_allclose(scores(once, batch), scores(factored, batch), atol=2e-5)

    def test_after_it_and_in_onnx(self, split, flat, store):
        artifact, exported = split
        assert exported.manifest.layout == "user_once"
        for counts in ([1], [20, 3, 30]):
            batch = sample_requests(table_rankers.SIGNATURE, counts)
            np.testing.assert_allclose(
                scores(exported, batch), scores(artifact, batch), atol=2e-5, rtol=2e-5
            )
        assert np.corrcoef(scores(artifact, batch), scores(flat, batch))[0, 1] > 0.5

    def test_codes_come_after(self, factored, store):
        small = run_stage("quantize_tables", {"min_rows": 8}, factored, store)
        batch = sample_requests(table_rankers.SIGNATURE, [40, 3])
        difference = np.abs(scores(small, batch) - scores(factored, batch)).max()
        assert 1e-5 < difference < 0.4
        said = json.loads((small.folder / "tables.json").read_text())["tables"]
        narrow = {x["name"] for x in said if x["width"] == "int8"}
        wanted = "low_rank" if report_of(factored)["method"] == "low_rank" else "quotients"
        assert any(each.endswith(wanted) for each in narrow)


class TestReads:
    def read(self, artifact):
        graph, tables = open_tables(artifact)
        calibration = table_rankers.requests(60, seed=5)
        return table_reads(graph, tables, calibration, artifact.manifest)

    def test_rows_are_counted_as_requests_read_them(self, flat):
        requests = table_rankers.requests(60, seed=5)
        reads = self.read(flat)["user"]
        candidates = np.bincount(requests.user["user_id"], requests.candidates, minlength=400)
        assert reads.read_rows == np.count_nonzero(candidates)
        share = reads.share.numpy()
        seen = candidates > 0
        np.testing.assert_allclose(
            share[seen] / share[seen].sum(), candidates[seen] / candidates.sum()
        )
        assert (share[~seen] > 0).all()
        assert share.sum() == pytest.approx(1)

    def test_padding_is_not_counted(self, flat):
        requests = table_rankers.requests(60, seed=5)
        read = np.unique(np.r_[requests.user["history"].reshape(-1), requests.items["item"]])
        assert self.read(flat)["item"].read_rows == len(read) - 1

    def test_scores_follow_a_users_row_as_much_after_the_split(self, flat, once):
        before, after = self.read(flat), self.read(once)
        for name in ("user", "item", "tags", "kind"):
            sizes = [float(x[name].slopes.trace()) for x in (before, after)]
            assert sizes[1] == pytest.approx(sizes[0], rel=0.35), name


class TestTables:
    def test_the_share_is_of_all_that_may_change_and_the_program_has_those_bytes(self, factored):
        found = tables_of(factored)
        changed = {name for name, x in found.items() if not x["reason"]}
        free = [x for x in found.values() if not x["reason"] or "budget" in x["reason"]]
        before, after = (sum(x[f"bytes_{end}"] for x in free) for end in ("before", "after"))
        assert after <= 0.6 * before
        assert changed
        assert "too" in found["word"]["reason"]
        assert found["kind"]["reason"] == "fewer than 256 rows"
        held = held_by(factored)
        for name in changed:
            parts = [x for key, x in held.items() if key.startswith(f"table_{name}_")]
            assert sum(x.nbytes for x in parts) == found[name]["bytes_after"]

    def test_bytes_of_a_lookup_and_how_far_rows_are_is_told(self, factored):
        for each in tables_of(factored).values():
            if each["reason"]:
                continue
            assert 0 < each["median_row_error"] <= each["worst_row_error"]
            assert each["score_error"] > 0
            assert 0 < each["read_rows"] <= each["rows"]
            row = 4 * each["dimension"]
            wanted = 4 * each["rank"] if each["rank"] else 2 * row
            assert (each["lookup_bytes_before"], each["lookup_bytes_after"]) == (row, wanted)

    def test_padding_stays_exactly_zero(self, factored):
        graph, _ = open_tables(factored)
        columns = sample_requests(table_rankers.SIGNATURE, [9]).flat()
        columns["history"][:] = 0
        columns["tags"][:] = 0
        values = graph.run({name: torch.from_numpy(x) for name, x in columns.items()})
        padded = [
            value
            for value in values.values()
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() == 3
        ]
        made = [x for x in padded if x.shape[1] in {4, 6} and x.shape[2] > 1]
        past = [x for x in made if not x.any()]
        assert len({tuple(x.shape[:2]) for x in past}) == 2

    def test_a_bag_is_summed_before_its_rows_become_wide(self, simple, store):
        options = {"steps": 0, "share": 0.5}
        artifact = run_stage("factor_tables", options, simple, store, data=simple)
        graph, _ = open_tables(artifact)
        rank = {name: x["rank"] for name, x in tables_of(artifact).items()}
        values = graph.run(graph.sample(9))
        shapes = {tuple(x.shape) for x in values.values() if isinstance(x, torch.Tensor)}
        assert {(9, 6, rank["item"]), (9, 4, rank["tags"]), (9, rank["tags"])} <= shapes
        assert not {(9, 6, 16), (9, 4, 12)} & shapes

    def test_ids_are_divided_as_whole_numbers(self, split):
        """As floats they would be wrong above 2^24."""
        artifact, exported = split
        divided = report_of(artifact)["method"] == "quotient_remainder"
        operators = [each.op_type for each in onnx.load(exported.model_path).graph.node]
        assert ("Div" in operators) == divided
        assert "Floor" not in operators

    def test_a_part_does_not_take_the_old_table_along(self, factored):
        """As a view of it would, in the file too."""
        for name, each in held_by(factored).items():
            assert each.untyped_storage().nbytes() == each.nbytes, name


@pytest.fixture(scope="module")
def squares(store):
    return capture(squares_ranker.squares(), store, candidates=(1,))


@pytest.mark.parametrize("method", METHODS)
class TestFineTuning:
    def tuned(self, method, squares, store, steps):
        options = {"method": method, "share": 0.5, "tables": "table", "learning_rate": 3e-3}
        return run_stage("factor_tables", options | {"steps": steps}, squares, store, data=squares)

    def test_it_lowers_the_loss(self, method, squares, store):
        artifact = self.tuned(method, squares, store, 60)
        (said,) = report_of(artifact)["fine_tuning"]
        assert said["loss_after"] < 0.95 * said["loss_before"]
        assert "held-out loss" in artifact.manifest.notes[-1]

    def test_padding_narrow_rows_and_other_tables_stay(self, method, squares, store):
        before, after = (held_by(self.tuned(method, squares, store, x)) for x in (0, 60))
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        new = {
            "low_rank": {"table_table_basis"},
            "quotient_remainder": {"table_table_quotients", "table_table_remainders"},
        }[method]
        assert changed == new | {"ranker.out.weight", "ranker.out.bias"}
        graph, _ = open_tables(self.tuned(method, squares, store, 60))
        values = graph.run({"user": torch.arange(9), "item": torch.zeros(9, dtype=torch.int64)})
        wide = [
            x
            for x in values.values()
            if isinstance(x, torch.Tensor) and x.shape == (9, 8) and x.is_floating_point()
        ]
        assert any(not x.any() for x in wide)

    def test_what_it_costs_is_estimated(self, method, squares, store):
        """Half the square of the error is the loss that fine-tuning begins with."""
        said = report_of(self.tuned(method, squares, store, 60))
        (error,) = (x["score_error"] for x in said["tables"] if not x["reason"])
        assert 0.4 < error**2 / 2 / said["fine_tuning"][0]["loss_before"] < 2.5


class TestMistakes:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_share_that_cannot_be_reached(self, flat, store, method):
        options = {"method": method, "share": 0.01, "steps": 0}
        with pytest.raises(UserError, match=r"no less than 0\.\d+ can be reached"):
            run_stage("factor_tables", options, flat, store, data=flat)

    def test_what_can_be_reached_can_be(self, flat, store):
        options = {"share": 0.01, "steps": 0}
        with pytest.raises(UserError, match="no less than") as raised:
            run_stage("factor_tables", options, flat, store, data=flat)
        least = float(str(raised.value).partition("no less than ")[2].split()[0])
        options = {"share": least + 1e-3, "steps": 0}
        artifact = run_stage("factor_tables", options, flat, store, data=flat)
        assert {x["rank"] for x in tables_of(artifact).values() if not x["reason"]} == {1}

    def test_a_name_that_no_table_has(self, flat, store):
        with pytest.raises(UserError, match="no table is called 'usr'"):
            run_stage("factor_tables", {"tables": "usr"}, flat, store, data=flat)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"share": 1.0}, "share is 1.0; expected a share above 0, below 1"),
            ({"min_rows": 0}, "min_rows is 0; expected 1 or more"),
            ({"steps": -1}, "steps is -1; expected 0 or more"),
            ({"method": "hashing"}, "option 'method' is 'hashing'"),
        ],
    )
    def test_options_out_of_range(self, options, said):
        with pytest.raises(UserError, match=said):
            make_stage("factor_tables", options)


def test_a_program_without_tables_to_change_stays(flat, store):
    artifact = run_stage("factor_tables", {"min_rows": 10_000}, flat, store, data=flat)
    batch = sample_requests(table_rankers.SIGNATURE, [9])
    np.testing.assert_array_equal(scores(artifact, batch), scores(flat, batch))
    assert artifact.manifest.notes[-1] == "factor_tables: no table is worth factoring"
