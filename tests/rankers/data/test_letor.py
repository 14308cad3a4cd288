from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_svmlight_file

from rankers.data.letor import read_letor
from rankers.data.source import read_log
from rankers.errors import UserError

LINES = """\
2 qid:7 1:0.5 3:1.5 # first
0 qid:7 2:-1
1 qid:9 3:4e-1
"""


def write(path, text):
    path.write_text(text)
    return path


def test_lines_become_requests_of_their_query(tmp_path):
    log = read_letor(write(tmp_path / "a.txt", LINES))
    assert log.requests.offsets.tolist() == [0, 2, 3]
    assert log.requests.labels.tolist() == [2, 0, 1]
    np.testing.assert_allclose(
        log.requests.items["features"], [[0.5, 0, 1.5], [0, -1, 0], [0, 0, 0.4]]
    )
    assert log.signature.score == "relevance"


def test_real_rows_are_those_scikit_learn_reads(lambdarank):
    log = read_log(str(lambdarank / "lambdarank.rank.train"))
    matrix, grades = load_svmlight_file(str(lambdarank / "lambdarank.rank.train"))
    np.testing.assert_array_equal(log.requests.labels, grades)
    np.testing.assert_allclose(log.requests.items["features"], matrix.toarray(), rtol=1e-6)
    counts = (lambdarank / "lambdarank.rank.train.query").read_text().split()
    assert log.requests.candidates.tolist() == [int(each) for each in counts]


def test_rows_asked_for_end_with_a_whole_query(lambdarank, tmp_path):
    log = read_letor(lambdarank / "lambdarank.rank.train", rows=100)
    assert 0 < log.requests.rows <= 100
    assert log.requests.candidates[:3].tolist() == [1, 13, 5]
    assert read_letor(write(tmp_path / "a.txt", LINES), rows=1).requests.rows == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x qid:1 1:1\n", "line 1: the grade is 'x'; expected a number of 0 or more"),
        ("-1 qid:1 1:1\n", "line 1: the grade is '-1'"),
        ("1 qid:1 1:1\n2 qid:1 a:1\n", "line 2: 'a:1' is not a feature"),
        ("1 qid:1 1:nan\n", "'1:nan' is not a feature"),
        ("1 qid:1 2:1 2:1\n", "feature number 2 follows 2; numbers start at 1 and ascend"),
        ("1 qid:1 0:1\n", "feature number 0 follows 0"),
        ("1 qid: 1:1\n", "qid: names no query"),
        ("1 qid:1 1:1\n1 1:1\n", "line 2: some lines have a qid:"),
        ("1 qid:1 1:1\n1 qid:2 1:1\n1 qid:1 1:1\n", "the lines of qid:1 do not stand together"),
        ("1 1:1\n", "there is no a.txt.query beside it"),
        ("\n# nothing\n", "holds no documents"),
    ],
)
def test_a_broken_file_is_refused_where_it_is_broken(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_letor(write(tmp_path / "a.txt", text))


def test_a_query_file_has_to_fit(tmp_path):
    path = write(tmp_path / "a.txt", "1 1:1\n0 1:2\n")
    write(tmp_path / "a.txt.query", "1\n2\n")
    with pytest.raises(UserError, match=r"have 3 documents in all, but .* has 2"):
        read_letor(path)
    write(tmp_path / "a.txt.query", "1\nx\n")
    with pytest.raises(UserError, match="line 2: 'x' is not a number of documents"):
        read_letor(path)


def test_more_features_than_stated_are_refused(tmp_path):
    with pytest.raises(UserError, match="has a feature number 3, but 2 features were stated"):
        read_letor(write(tmp_path / "a.txt", LINES), features=2)
