"""The stage and what it makes: a user's part computed once, kept, and ranked by on later pages."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import history_rankers
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from bench.targets import open_target
from optimize.artifact import ArtifactError, seal, seal_with_verdicts
from optimize.build import run_stage
from optimize.capture import capture
from optimize.cli import main
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.triton.repository import deploy
from optimize.user_state.predictor import REPORT, USER_MODEL, open_user_state
from optimize.user_state.state import OtherVersionError, UserState, UserStateError, join_states
from rankers.errors import UserError
from rankers.requests import RequestError

COUNTS = ([1], [30], [4, 1, 9], [2, 2, 2, 2])


@pytest.fixture(scope="module")
def whole(store):
    flat = capture(history_rankers.attending(), store, candidates=(1, 5))
    return run_stage("export_onnx", {}, run_stage("user_once", {}, flat, store), store)


@pytest.fixture(scope="module")
def made(whole, store):
    return run_stage("user_state", {}, whole, store)


@pytest.fixture(scope="module")
def predictor(made):
    return open_user_state(made.folder, threads=1)


@pytest.fixture
def batch():
    return sample_requests(history_rankers.SIGNATURE, [4, 1, 9])


@pytest.mark.parametrize("counts", COUNTS)
class TestScores:
    def test_by_a_kept_state_they_are_those_of_the_whole_ranker(self, whole, predictor, counts):
        batch = sample_requests(history_rankers.SIGNATURE, counts)
        state = UserState.from_bytes(predictor.user(batch.user).to_bytes())
        scores = predictor.rank(state, batch.items, counts)
        expected = open_predictor(whole)(whole.manifest.columns_of(batch))
        np.testing.assert_allclose(scores, expected, atol=1e-6)

    def test_as_a_predictor_of_whole_requests_it_gives_them_too(self, whole, made, counts):
        columns = made.manifest.columns_of(sample_requests(history_rankers.SIGNATURE, counts))
        expected = open_predictor(whole)(columns)
        np.testing.assert_allclose(open_predictor(made)(columns), expected, atol=1e-6)


class TestPages:
    def test_states_of_one_user_each_are_joined_for_one_call(self, predictor, batch):
        alone = [predictor.user(each.user) for each in batch]
        scores = predictor.rank(join_states(alone), batch.items, batch.candidates)
        apart = [
            predictor.rank(state, each.items) for state, each in zip(alone, batch, strict=True)
        ]
        np.testing.assert_allclose(scores, np.concatenate(apart), atol=1e-6)

    def test_a_state_serves_page_after_page(self, predictor):
        request = sample_requests(history_rankers.SIGNATURE, [30])[0]
        state = predictor.user(request.user)
        pages = [
            predictor.rank(state, {name: x[at : at + 10] for name, x in request.items.items()})
            for at in (0, 10, 20)
        ]
        np.testing.assert_allclose(
            np.concatenate(pages), predictor.rank(state, request.items), atol=1e-6
        )

    def test_other_users_have_other_states(self, predictor, batch):
        state = predictor.user(batch.user)
        items = {name: np.repeat(x[:1], 3, axis=0) for name, x in batch.items.items()}
        assert len(set(predictor.rank(state, items, [1, 1, 1]).tolist())) == 3


class TestRefusals:
    def test_a_new_model_never_meets_an_old_state(self, whole, made, predictor, batch, tmp_path):
        """Not even one that differs in a weight of the candidates' part alone."""
        model = onnx.load(whole.model_path)
        (bias,) = (x for x in model.graph.initializer if x.name.endswith("head.2.bias"))
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
        trained_again = tmp_path / "whole"
        trained_again.mkdir()
        onnx.save_model(model, trained_again / whole.manifest.model)
        new = run_stage("user_state", {}, seal(trained_again, whole.manifest), tmp_path)
        assert new.manifest.files[USER_MODEL] == made.manifest.files[USER_MODEL]
        old = UserState.from_bytes(predictor.user(batch.user).to_bytes())
        with pytest.raises(OtherVersionError, match=f"{made.key[:16]}, .* {new.key[:16]}: compute"):
            open_user_state(new.folder).rank(old, batch.items, [4, 1, 9])

    def test_the_same_artifact_elsewhere_knows_its_states(self, made, predictor, batch, tmp_path):
        copied = seal_with_verdicts(made, (), tmp_path)
        state = predictor.user(batch.user)
        scores = open_user_state(copied.folder).rank(state, batch.items, [4, 1, 9])
        assert scores.shape == (14,)

    def test_what_claims_to_be_a_state_but_is_none(self, predictor, batch):
        state = predictor.user(batch.user)
        name = next(iter(state.tensors))
        for tensors in (
            {},
            state.tensors | {name: state.tensors[name][:2]},
            state.tensors | {name: np.float64(state.tensors[name])},
            state.tensors | {name: np.zeros((), np.float32)},
        ):
            with pytest.raises(UserStateError, match="the user state holds"):
                predictor.rank(UserState(state.version, tensors), batch.items, [4, 1, 9])

    def test_a_user_without_candidates(self, predictor, batch):
        state = predictor.user(batch.user)
        with pytest.raises(RequestError, match="user 1 has no candidates"):
            predictor.rank(state, batch.items, [5, 0, 9])
        none = {name: x[:0] for name, x in batch.items.items()}
        with pytest.raises(RequestError, match="user 0 has no candidates"):
            predictor.rank(state[0], none)

    @pytest.mark.parametrize("counts", [None, [14], [4, 1, 8]])
    def test_candidates_that_do_not_add_up(self, predictor, batch, counts):
        with pytest.raises(RequestError, match="14 candidates for 3 users"):
            predictor.rank(predictor.user(batch.user), batch.items, counts)

    def test_no_users(self, predictor, batch):
        for columns in ({}, {name: x[:0] for name, x in batch.user.items()}):
            with pytest.raises(RequestError, match="no users"):
                predictor.user(columns)

    def test_columns_that_do_not_fit_the_signature(self, predictor, batch):
        with pytest.raises(RequestError, match="holds the ID 50 in row 2"):
            predictor.user(
                batch.user | {"history": np.where(np.arange(3) == 2, 50, 1)[:, None].repeat(6, 1)}
            )
        with pytest.raises(RequestError, match="'price' is missing"):
            predictor.rank(predictor.user(batch.user), {"item": batch.items["item"]}, [4, 1, 9])


class TestArtifact:
    def test_it_says_what_a_state_is_and_what_it_saves(self, made, predictor, batch):
        report = json.loads((made.folder / REPORT).read_text())
        state = predictor.user(batch.user)
        assert 3 * report["bytes"] == state.nbytes
        assert [each["name"] for each in report["tensors"]] == list(state.tensors)
        # Without the encoder's output padded by a column of ones: 6 events of 8, a mask, two ages.
        assert report["bytes"] == 6 * 8 * 4 + 6 + 2 * 4
        few, many = report["pages"]
        assert few["user_multiply_adds"] == many["user_multiply_adds"] > 0
        assert few["items_multiply_adds"] * 10 == many["items_multiply_adds"] > 0
        assert report["not_counted"] == []
        assert made.manifest.notes[-1].startswith("user_state: 206 bytes of a user can be kept")

    def test_multiply_adds_are_those_of_its_layers(self, made):
        """The encoder of 6 events of 8: projections, two products of attention, feed-forward."""
        few, _ = json.loads((made.folder / REPORT).read_text())["pages"]
        projections, attention, forward = 6 * 8 * (3 * 8 + 8), 2 * 6 * 6 * 8, 2 * 6 * 8 * 16
        assert few["user_multiply_adds"] == projections + attention + forward

    def test_it_is_cut_after_optimize_onnx_as_well(self, whole, store):
        optimized = run_stage("optimize_onnx", {}, whole, store)
        cut = run_stage("user_state", {}, optimized, store)
        requests = sample_requests(history_rankers.SIGNATURE, [4, 1, 9])
        predictor = open_user_state(cut.folder)
        scores = predictor.rank(predictor.user(requests.user), requests.items, [4, 1, 9])
        expected = open_predictor(optimized)(optimized.manifest.columns_of(requests))
        np.testing.assert_allclose(scores, expected, atol=1e-6)

    def test_check_keeps_a_state_and_ranks_by_it(self, made):
        done = CliRunner().invoke(main, ["check", str(made.folder)])
        assert "✓ scores: 3 random rows score" in done.output
        assert f"of version {made.key[:16]}; ranks as its features do" in done.output

    def test_inspect_says_what_it_is(self, made):
        done = CliRunner().invoke(main, ["inspect", str(made.folder)])
        assert "user_state layout" in done.output
        assert made.key[:16] in done.output
        assert made.manifest.notes[-1] in done.output

    def test_a_changed_part_is_found_before_it_is_opened(self, made, tmp_path):
        copied = seal_with_verdicts(made, (), tmp_path)
        path = copied.folder / USER_MODEL
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()  # it shares its bytes with the artifact that it was made from
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=rf"{USER_MODEL}: its SHA-256 is not"):
            open_user_state(copied.folder)


class TestDocumentation:
    def test_the_example_pages_by_a_kept_state(self, made, predictor, tmp_path, monkeypatch):
        page = (Path(__file__).parents[2] / "docs" / "user-once.md").read_text()
        (code,) = re.findall(r"<!-- example: kept state -->\n```python\n(.*?)```", page, re.DOTALL)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "build").mkdir()
        (tmp_path / "build" / "shop").symlink_to(made.folder)
        request, more = (sample_requests(history_rankers.SIGNATURE, [count])[0] for count in (5, 7))
        known = {"request": request, "more_items": more.items}
        exec(compile(code, "example", "exec"), known)  # noqa: S102 - our own page
        expected = predictor.rank(predictor.user(request.user), more.items)
        np.testing.assert_array_equal(known["second_page"], expected)


class TestBench:
    def test_a_later_page_is_a_target_of_its_own(self, made, predictor):
        target = open_target(f"kept:{made.folder}", threads=1)
        request = sample_requests(history_rankers.SIGNATURE, [20])[0]
        prepared = target.prepare(request)
        expected = predictor.rank(predictor.user(request.user), request.items)
        np.testing.assert_array_equal(target(prepared), expected)
        kept, items = prepared
        assert len(UserState.from_bytes(kept)) == 1
        assert items.keys() == request.items.keys()
        described = target.describe()
        assert described["name"] == target.name == "attending onnx fp32 user-state kept"
        assert described["kind"] == "kept user state"
        assert described["key"] == made.key

    def test_what_keeps_no_state_is_no_such_target(self, onnx_artifact):
        with pytest.raises(UserError, match="keeps no user state"):
            open_target(f"kept:{onnx_artifact.folder}")


class TestWhereItDoesNotFit:
    def test_a_flat_graph_has_no_user_part(self, onnx_artifact, store):
        with pytest.raises(UserError, match=r"has the layout 'flat'.*user_once comes first"):
            run_stage("user_state", {}, onnx_artifact, store)

    def test_of_one_that_was_kept_flat_it_says_why(self, onnx_artifact, store):
        kept = replace(onnx_artifact.manifest, notes=("user_once: kept flat: not worth it",))
        with pytest.raises(UserError, match=r"\(user_once: kept flat: not worth it\)"):
            run_stage("user_state", {}, replace(onnx_artifact, manifest=kept), store)

    def test_no_stage_comes_after_it(self, made, store):
        with pytest.raises(UserError, match="user_state is the last stage"):
            run_stage("optimize_onnx", {}, made, store)

    def test_another_artifact_keeps_no_state(self, onnx_artifact):
        with pytest.raises(ArtifactError, match="has the layout 'flat' and keeps no user state"):
            open_user_state(onnx_artifact.folder)

    def test_it_is_not_deployed(self, made, tmp_path):
        with pytest.raises(UserError, match="not served over Triton yet"):
            deploy(made, tmp_path / "models", "attending", ungated=True)

    @pytest.mark.parametrize("content", [b"", b"{}", b'{"tensors": [{"name": "state/0"}]}'])
    def test_an_artifact_that_does_not_say_what_a_state_is(self, made, tmp_path, content):
        copied = seal_with_verdicts(made, (), tmp_path / "copied")
        (copied.folder / REPORT).unlink()
        (copied.folder / REPORT).write_bytes(content)
        resealed = seal(copied.folder, copied.manifest)
        with pytest.raises(ArtifactError, match=f"{REPORT}: cannot be read"):
            open_predictor(resealed)
