from __future__ import annotations

import numpy as np
import pytest

from rankers.data.log import split_log
from rankers.data.parquet import read_parquet, write_parquet
from rankers.data.synthetic import SIGNATURE, ClickModel
from rankers.errors import UserError
from rankers.quality import quality

ROWS = 30_000


@pytest.fixture(scope="module")
def log():
    return ClickModel().draw(ROWS)


def test_it_is_whole_requests_with_at_least_the_rows_asked_for(log):
    log.requests.check(SIGNATURE)
    assert 0 <= log.requests.rows - ROWS < 700
    assert log.requests.candidates.min() >= 20
    assert log.requests.candidates.max() <= 700
    assert 80 < np.median(log.requests.candidates) < 125


def test_the_same_seed_draws_the_same_and_another_does_not(log):
    again, other = ClickModel().draw(ROWS), ClickModel(seed=1).draw(ROWS)
    for name, column in log.requests.flat().items():
        np.testing.assert_array_equal(column, again.requests.flat()[name])
    np.testing.assert_array_equal(log.requests.labels, again.requests.labels)
    assert other.requests.items["C21"][:500].tolist() != log.requests.items["C21"][:500].tolist()


def test_a_longer_log_begins_with_the_shorter(log):
    rows = log.requests.rows
    longer = ClickModel().draw(ROWS * 10)
    np.testing.assert_array_equal(longer.requests.labels[:rows], log.requests.labels)
    assert longer.requests.rows >= ROWS * 10
    first, second = [
        each.requests.items["C21"][:500].tolist() for each in ClickModel().blocks(300_000)
    ]
    assert first != second, "a log does not repeat itself"


def test_clicks_come_as_often_as_their_probability_says(log):
    labels = log.requests.labels
    assert 0.1 < labels.mean() < 0.3
    judged = quality(log.truth, labels, log.requests.offsets, "probability")
    assert judged.calibration_error < 0.015
    assert 0.75 < judged.auc < 0.85
    assert judged.gauc > 0.7


def test_users_differ_in_what_they_like():
    """Without affinity, the items alone rank as well within a request as the probability."""
    strong, none = ClickModel(affinity=1.5), ClickModel(affinity=1e-9)

    def best_gauc_by_item_alone(model):
        from rankers.data.synthetic import _Truth

        log = model.draw(ROWS)
        item_effect, _ = _Truth(model)._effects(log.requests.items)
        labels, offsets = log.requests.labels, log.requests.offsets
        by_item = quality(item_effect, labels, offsets, "relevance").gauc
        return quality(log.truth, labels, offsets, "probability").gauc - by_item

    assert best_gauc_by_item_alone(strong) > 0.05
    assert abs(best_gauc_by_item_alone(none)) < 0.005


def test_ids_are_skewed(log):
    counts = np.sort(np.bincount(log.requests.items["C21"]))[::-1]
    assert counts[:20].sum() > 0.3 * counts.sum()


class TestParquet:
    def test_it_reads_back_as_it_was_drawn(self, log, tmp_path):
        assert write_parquet(tmp_path / "log.parquet", ROWS) == log.requests.rows
        found = read_parquet(tmp_path / "log.parquet")
        for name, column in log.requests.flat().items():
            np.testing.assert_array_equal(found.requests.flat()[name], column, err_msg=name)
        np.testing.assert_array_equal(found.requests.labels, log.requests.labels)
        np.testing.assert_array_equal(found.requests.offsets, log.requests.offsets)
        np.testing.assert_array_equal(found.truth, log.truth)
        assert [each.name for each in tmp_path.iterdir()] == ["log.parquet"]

    def test_a_log_of_several_blocks_keeps_its_requests_apart(self, tmp_path):
        rows = write_parquet(tmp_path / "log.parquet", 400_000)
        found = read_parquet(tmp_path / "log.parquet").requests
        expected = ClickModel().draw(400_000).requests
        assert found.rows == rows
        np.testing.assert_array_equal(found.offsets, expected.offsets)

    @pytest.mark.parametrize("content", [None, b"", b"PAR1 but no more"])
    def test_a_file_that_is_no_parquet_is_refused(self, tmp_path, content):
        path = tmp_path / "log.parquet"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=r"log\.parquet: (no such file|cannot be read)"):
            read_parquet(path)

    def test_a_file_that_lacks_a_column_is_refused(self, tmp_path):
        from pyarrow import parquet

        path = tmp_path / "log.parquet"
        write_parquet(path, 100)
        parquet.write_table(parquet.read_table(path).drop_columns(["C7"]), path)
        with pytest.raises(UserError, match="column 'C7' is missing"):
            read_parquet(path)

    def test_a_request_of_two_users_is_refused(self, tmp_path):
        import pyarrow as pa
        from pyarrow import parquet

        path = tmp_path / "log.parquet"
        write_parquet(path, 100)
        table = parquet.read_table(path)
        ids = table["C3"].to_numpy().copy()
        ids[1] = (ids[0] + 1) % 40
        table = table.set_column(
            table.schema.get_field_index("C3"), "C3", pa.array(ids, pa.int32())
        )
        parquet.write_table(table, path)
        with pytest.raises(UserError, match="C3 changes within request 0"):
            read_parquet(path)


class TestSplit:
    @pytest.mark.parametrize("by", ["time", "request"])
    def test_every_request_is_on_one_side(self, log, by):
        first, last = split_log(log, share=0.25, by=by, seed=3)
        assert len(first.requests) + len(last.requests) == len(log.requests)
        assert first.requests.rows + last.requests.rows == log.requests.rows
        assert len(last.requests) == round(len(log.requests) * 0.25)
        assert len(last.truth) == last.requests.rows

    def test_by_time_holds_out_the_last(self, log):
        _, last = split_log(log, share=0.25, by="time", seed=0)
        np.testing.assert_array_equal(
            last.requests.labels, log.requests.labels[-last.requests.rows :]
        )

    def test_one_request_cannot_be_split(self, log):
        with pytest.raises(UserError, match="at least 2 are needed"):
            split_log(log.first(1), share=0.2, by="time", seed=0)
