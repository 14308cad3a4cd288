from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest

from rankers.data.criteo import COLUMNS, read_criteo, stream_criteo
from rankers.errors import UserError


def row(label="0", counts=None, categories=None):
    return [label, *(counts or ["1"] * 13), *(categories or ["05db9164"] * 26)]


def write(path, rows, separator="\t", *, header=False, end="\n"):
    lines = [separator.join(each) for each in ([list(COLUMNS)] if header else []) + rows]
    text = "".join(line + end for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


class TestReal:
    def test_values_are_those_of_the_file(self, criteo_sample):
        log = read_criteo(criteo_sample)
        log.requests.check(log.signature)
        with criteo_sample.open() as file:
            rows = list(csv.DictReader(file))
        assert log.requests.rows == len(rows) == 200
        assert len(log.requests) >= 10
        assert log.requests.labels.tolist() == [float(each["label"]) for each in rows]
        for place in range(13):
            raw = [float(each[f"I{place + 1}"] or 0) for each in rows]
            np.testing.assert_allclose(
                log.requests.items["dense"][:, place], np.log1p(np.maximum(raw, 0)), rtol=1e-6
            )
        for name in ("C1", "C20", "C26"):
            missing = [each[name] == "" for each in rows]
            np.testing.assert_array_equal(log.requests.items[name] == 0, missing)
            ids = dict(zip((x[name] for x in rows), log.requests.items[name], strict=True))
            assert [ids[x[name]] for x in rows] == log.requests.items[name].tolist()

    @pytest.mark.parametrize("name", ["train.tsv", "train.tsv.gz", "train.csv", "train.csv.gz"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_every_form_of_the_file_reads_the_same(self, criteo_sample, tmp_path, name, end):
        with criteo_sample.open() as file:
            rows = list(csv.reader(file))[1:]
        comma = ".csv" in name
        path = write(tmp_path / name, rows, "," if comma else "\t", header=comma, end=end)
        expected, found = read_criteo(criteo_sample), read_criteo(path)
        for column, values in expected.requests.flat().items():
            np.testing.assert_array_equal(found.requests.flat()[column], values, err_msg=column)
        np.testing.assert_array_equal(found.requests.labels, expected.requests.labels)

    def test_pieces_make_up_the_file(self, criteo_sample):
        pieces = list(stream_criteo(criteo_sample, chunk_bytes=5000))
        assert len(pieces) > 5
        whole = read_criteo(criteo_sample).requests
        np.testing.assert_array_equal(
            np.concatenate([each.ids["C7"] for each in pieces]), whole.items["C7"]
        )


class TestHashing:
    def test_a_value_has_its_own_id_in_each_category_and_ids_stay_in_range(self, tmp_path):
        rows = [row(categories=[f"{number:08x}"] * 26) for number in range(500)]
        items = read_criteo(write(tmp_path / "f", rows), buckets=50).requests.items
        assert (items["C1"] != items["C2"]).mean() > 0.9
        assert set(items["C1"].tolist()) == set(range(1, 51))

    def test_case_and_leading_zeros_do_not_change_the_value(self, tmp_path):
        rows = [row(categories=[text] * 26) for text in ("00ab", "AB", "ab", "000000aB")]
        assert len(set(read_criteo(write(tmp_path / "f", rows)).requests.items["C1"])) == 1


class TestBroken:
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (row()[:-1], r"39 column\(s\); expected 40"),
            ([*row(), "x"], r"41 column\(s\); expected 40"),
            (row(label="2"), "the label is '2'; expected 0 or 1"),
            (row(label=""), "the label is ''; expected 0 or 1"),
            (row(counts=["1"] * 4 + ["many"] + ["1"] * 8), "I5 is 'many'; expected a number"),
            (row(counts=["inf"] + ["1"] * 12), "I1 is 'inf'; expected a number"),
            (row(categories=["05db9164"] * 25 + ["xyz"]), "C26 is 'xyz'; .*hexadecimal"),
            (row(categories=["05db91640"] * 26), "C1 is '05db91640'; .*up to 8 hexadecimal"),
            (row(categories=["é"] * 26), "holds a byte that is not ASCII"),
            ([""], r"1 column\(s\); expected 40"),
        ],
    )
    @pytest.mark.parametrize("header", [False, True])
    def test_the_line_is_named(self, tmp_path, bad, message, header):
        path = write(tmp_path / "log", [row()] * 30 + [bad] + [row()] * 5, header=header)
        line = 32 if header else 31
        with pytest.raises(UserError, match=f"log line {line}: {message}"):
            list(stream_criteo(path, chunk_bytes=1000))

    def test_an_unknown_column_in_the_header_is_named(self, tmp_path):
        path = tmp_path / "log"
        path.write_text(",".join(COLUMNS).replace("C26", "C27") + "\n" + ",".join(row()) + "\n")
        with pytest.raises(UserError, match="line 1: the header has column 'C26' 0 times"):
            read_criteo(path)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(UserError, match="nothing: no such file"):
            read_criteo(tmp_path / "nothing")

    def test_an_empty_file_is_refused(self, tmp_path):
        (tmp_path / "empty").touch()
        with pytest.raises(UserError, match="empty"):
            read_criteo(tmp_path / "empty")

    def test_a_truncated_gzip_is_refused(self, tmp_path):
        path = write(tmp_path / "log.gz", [row()] * 100)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(UserError, match=r"log\.gz: cannot be read"):
            read_criteo(path)
