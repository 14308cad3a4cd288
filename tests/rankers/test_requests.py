from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankers.errors import UserError
from rankers.requests import RequestError, join_requests, load_requests, save_requests

counts = st.lists(st.integers(1, 9), min_size=1, max_size=8)
quick = settings(max_examples=40, deadline=None)


def same(first, second) -> None:
    assert set(first) == set(second)
    for name, column in first.items():
        np.testing.assert_array_equal(column, second[name], err_msg=name)


class TestLaws:
    @quick
    @given(counts)
    def test_flat_of_a_batch_is_its_requests_flat_one_after_another(self, batch_of, counts):
        batch = batch_of(counts)
        flats = [request.flat() for request in batch]
        same(batch.flat(), {n: np.concatenate([x[n] for x in flats]) for n in flats[0]})

    @quick
    @given(counts)
    def test_joining_a_batchs_requests_gives_the_batch(self, batch_of, counts):
        batch = batch_of(counts)
        joined = join_requests(list(batch))
        same(joined.flat(), batch.flat())
        np.testing.assert_array_equal(joined.offsets, batch.offsets)
        np.testing.assert_array_equal(joined.labels, batch.labels)

    @quick
    @given(counts, st.data())
    def test_select_gives_the_chosen_requests_in_the_chosen_order(self, batch_of, counts, data):
        batch = batch_of(counts)
        chosen = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=10))
        selected = batch.select(chosen)
        assert len(selected) == len(chosen)
        for index, request in zip(chosen, selected, strict=True):
            same(request.flat(), batch[index].flat())
            np.testing.assert_array_equal(request.labels, batch[index].labels)

    @quick
    @given(counts, st.integers(1, 40))
    def test_chunks_are_whole_requests_that_make_up_the_batch(self, batch_of, counts, rows):
        batch = batch_of(counts)
        pieces = list(batch.chunks(rows))
        same(
            batch.flat(),
            {n: np.concatenate([x.flat()[n] for x in pieces]) for n in batch.flat()},
        )
        assert sum(len(piece) for piece in pieces) == len(batch)
        assert all(piece.rows <= rows or len(piece) == 1 for piece in pieces)

    @quick
    @given(counts)
    def test_a_saved_batch_reads_back_the_same(self, batch_of, tmp_path_factory, counts):
        batch = batch_of(counts)
        path = tmp_path_factory.mktemp("requests") / "requests.safetensors"
        save_requests(batch, path)
        loaded = load_requests(path)
        same(loaded.flat(), batch.flat())
        np.testing.assert_array_equal(loaded.offsets, batch.offsets)
        np.testing.assert_array_equal(loaded.labels, batch.labels)


class TestIndexing:
    def test_negative_index_counts_from_the_end(self, batch_of):
        assert batch_of([2, 5])[-1].candidates == 5

    def test_index_past_the_end_raises(self, batch_of):
        with pytest.raises(IndexError):
            batch_of([2, 5])[2]


class TestCheck:
    def test_what_fits_passes(self, batch_of, signature):
        batch_of([1, 3]).check(signature)
        batch_of([1, 3])[1].check(signature)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"brand": None},
                r"item feature 'brand' is missing; the ranker reads it: send int64 of shape \(3,\)",
            ),
            (
                {"brnad": np.zeros(3, np.int64)},
                "unknown item feature 'brnad'; did you mean 'brand'",
            ),
            ({"brand": np.zeros(3, np.int32)}, "'brand' has dtype int32; expected int64"),
            ({"brand": np.zeros(2, np.int64)}, r"'brand' has shape \(2,\); expected \(3,\)"),
            ({"brand": np.array([0, 100, 1])}, "'brand' holds the ID 100 in row 1; .* 0 to 99"),
            ({"brand": np.array([0, 1, -1])}, "'brand' holds the ID -1 in row 2"),
            ({"tags": np.zeros((3, 5), np.int64)}, r"'tags' has shape \(3, 5\)"),
            (
                {"picture": np.full((3, 2, 3), np.nan, np.float32)},
                "'picture' holds a value that is not finite in row 0",
            ),
        ],
    )
    def test_what_does_not_fit_is_named(self, batch_of, signature, change, message):
        request = batch_of([3])[0]
        items = {k: v for k, v in (request.items | change).items() if v is not None}
        with pytest.raises(RequestError, match=message):
            replace(request, items=items).check(signature)

    def test_no_candidates_is_refused(self, batch_of, signature):
        request = batch_of([3])[0]
        empty = replace(request, items={k: v[:0] for k, v in request.items.items()}, labels=None)
        with pytest.raises(RequestError, match="no candidates"):
            empty.check(signature)

    def test_an_empty_request_in_a_batch_is_refused_by_its_place(self, batch_of, signature):
        batch = batch_of([3, 2])
        with pytest.raises(RequestError, match="request 1 has no candidates"):
            replace(
                batch,
                offsets=np.array([0, 3, 3, 5]),
                user={k: np.repeat(v, [1, 2], axis=0) for k, v in batch.user.items()},
            ).check(signature)

    def test_labels_of_another_length_are_refused(self, batch_of, signature):
        with pytest.raises(RequestError, match="labels have shape"):
            replace(batch_of([3]), labels=np.zeros(2, np.float32)).check(signature)


def test_joining_nothing_is_refused():
    with pytest.raises(RequestError, match="no requests to join"):
        join_requests([])


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_file_that_is_no_requests_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.safetensors: cannot be read"):
        load_requests(path)
