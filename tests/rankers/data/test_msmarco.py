from __future__ import annotations

import gzip

import numpy as np
import pytest

from rankers.data.msmarco import read_msmarco
from rankers.data.source import data_key, read_log
from rankers.errors import UserError
from rankers.text import TOKENIZER, TextEncoder, load_tokenizer

FILES = {
    "queries.dev.tsv": "7\tred shoes\n9\tblue coat\n5\tnobody asks\n",
    "queries.train.tsv": "1\tother\n",
    "collection.tsv": "".join(f"{n}\tpassage number {n} of red and blue\n" for n in range(60)),
    "qrels.dev.tsv": "7\t0\t3\t1\n9\t0\t50\t1\n9\t0\t4\t0\n",
    "top1000.dev": (
        "7\t3\tred shoes\tpassage of red shoes\n"
        "9\t50\tblue coat\ta blue coat\n"
        "7\t8\tred shoes\tpassage of blue shoes\n"
    ),
    "triples.train.small.tsv": (
        "red shoes\tshoes of red\ta blue coat\n"
        "blue coat\ta blue coat\tshoes of red\n"
        "red shoes\tshoes of red\ta green hat\n"
        "red shoes\ta brown shoe\tshoes of red\n"
    ),
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def texts_of(log, side, name):
    """Return a column's texts, as the log's own tokenizer says them."""
    tokenizer = load_tokenizer(log.files[TOKENIZER])
    column = (log.requests.user if side == "user" else log.requests.items)[name]
    return [tokenizer.decode(row[row != 0].tolist()) for row in column]


def test_top1000_gives_each_querys_passages_with_the_grades_beside_it(folder):
    log = read_log(str(folder / "top1000.dev"))
    log.requests.check(log.signature)
    assert texts_of(log, "user", "query") == ["red shoes", "blue coat"]
    assert log.requests.offsets.tolist() == [0, 2, 3]  # lines of a query need not stand together
    assert texts_of(log, "item", "document") == [
        "passage of red shoes", "passage of blue shoes", "a blue coat",
    ]  # fmt: skip
    assert log.requests.labels.tolist() == [1, 0, 1]
    assert log.signature.score == "probability"


def test_triples_give_each_query_all_its_passages_once(folder):
    log = read_log(str(folder / "triples.train.small.tsv"))
    assert texts_of(log, "item", "document") == [
        "shoes of red", "a blue coat", "a green hat", "a brown shoe", "a blue coat", "shoes of red",
    ]  # fmt: skip
    assert log.requests.offsets.tolist() == [0, 4, 6]
    # Once relevant is relevant, though it is another query's other passage.
    assert log.requests.labels.tolist() == [1, 0, 0, 1, 1, 0]


def test_qrels_take_texts_beside_them_and_draw_passages_that_nobody_judged(folder):
    log = read_log(str(folder / "qrels.dev.tsv"))
    assert texts_of(log, "user", "query") == ["red shoes", "blue coat"]
    first, second = log.requests
    assert first.labels.tolist() == [1, *[0] * (first.candidates - 1)]
    assert second.labels.tolist() == [1, *[0] * (second.candidates - 1)]
    documents = texts_of(log, "item", "document")
    assert documents[0] == "passage number 3 of red and blue"
    assert 15 < first.candidates <= 20
    for start, stop in zip(log.requests.offsets[:-1], log.requests.offsets[1:], strict=True):
        assert len(set(documents[start:stop])) == stop - start  # none twice
    again = read_msmarco(folder / "qrels.dev.tsv", seed=0)
    np.testing.assert_array_equal(again.requests.items["document"], log.requests.items["document"])
    assert texts_of(read_msmarco(folder / "qrels.dev.tsv", seed=1), "item", "document") != documents


def test_a_folder_is_read_by_its_one_file(folder):
    read = read_log(str(folder))
    assert read.requests.labels.tolist() == [1, 0, 1]
    (folder / "top1000.dev").unlink()
    assert read_log(str(folder)).requests.labels.sum() == 2
    (folder / "qrels.train.tsv").write_text("1\t0\t3\t1\n")
    with pytest.raises(UserError, match=r"found: qrels\.dev\.tsv, qrels\.train\.tsv"):
        read_log(str(folder))


def test_graded_judgements_in_trecs_form_are_relevance(folder):
    (folder / "qrels.dev.tsv").write_text("7 Q0 3 3\n7 Q0 8 -1\n")
    log = read_log(str(folder / "qrels.dev.tsv"))
    assert log.requests.labels[:2].tolist() == [3, 0]
    assert log.signature.score == "relevance"
    assert read_log(str(folder / "top1000.dev")).requests.labels.tolist() == [3, 0, 0]


def test_gzipped_files_are_read(folder):
    for name in ("top1000.dev", "qrels.dev.tsv"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    assert read_log(str(folder / "top1000.dev.gz")).requests.labels.tolist() == [1, 0, 1]


def test_a_tokenizer_beside_the_file_is_used_and_is_part_of_what_the_data_is(folder):
    path = str(folder / "triples.train.small.tsv")
    own = read_log(path)
    before = data_key(path)
    given = read_log(str(folder / "top1000.dev")).files[TOKENIZER]
    (folder / TOKENIZER).write_bytes(given)
    assert read_log(path).files[TOKENIZER] == given != own.files[TOKENIZER]
    assert data_key(path) != before


def test_the_vocabulary_is_learned_from_the_first_requests_alone(tmp_path):
    rows = "".join(f"query {n}\tred shoes\tblue coat\n" for n in range(9))
    (tmp_path / "triples.tsv").write_text(f"{rows}zebra\tquagga zz\tgnu zz\n")
    log = read_log(str(tmp_path / "triples.tsv"))
    assert texts_of(log, "user", "query")[0] == "query 0"
    unknown = load_tokenizer(log.files[TOKENIZER]).token_to_id("[UNK]")
    assert log.requests.user["query"][-1, 0] == unknown


def test_long_texts_are_truncated_and_that_is_said(folder, capsys):
    log = read_msmarco(folder / "top1000.dev", document_tokens=3)
    assert texts_of(log, "item", "document")[0] == "passage of red"
    assert "feature 'document': 2 of 3 texts are longer than it" in capsys.readouterr().err
    encoder = TextEncoder(log.files[TOKENIZER], log.signature)
    np.testing.assert_array_equal(
        encoder.encode("document", ["passage of red shoes"])[0], log.requests.items["document"][0]
    )


def test_rows_asked_for_end_with_a_whole_query(folder):
    assert len(read_log(str(folder / "qrels.dev.tsv"), rows=10).requests) == 1
    assert len(read_log(str(folder / "triples.train.small.tsv"), rows=1).requests) == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("top1000.dev", "7\t3\tred shoes\n", r"top1000\.dev line 4: 3 field\(s\).*expected 4"),
        ("triples.train.small.tsv", "a\tb c\td e\tf\n", r"line 5: 4 field\(s\).*expected 3"),
        ("qrels.dev.tsv", "7\t0\t3\n", r"qrels\.dev\.tsv line 4: 3 field\(s\); expected 4"),
        ("qrels.dev.tsv", "7\t0\t3\tyes\n", "line 4: the grade is 'yes'"),
        ("qrels.dev.tsv", "7\t0\t77\t1\n", r"line 4: names '77', which .*collection\.tsv does not"),
        ("qrels.dev.tsv", "8\t0\t3\t1\n", r"line 4: names '8', which .*queries\.dev\.tsv does not"),
    ],
)
def test_a_broken_file_is_refused_where_it_is_broken(folder, name, text, message):
    with (folder / name).open("a") as file:
        file.write(text)
    with pytest.raises(UserError, match=message):
        read_log(str(folder / name))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("collection.tsv", "5\n", r"collection\.tsv line 1: 1 field\(s\) between tabs; expected 2"),
        ("queries.dev.tsv", "\tred\n", r"queries\.dev\.tsv line 1: the first field is empty"),
    ],
)
def test_a_broken_file_beside_it_is_refused_where_it_is_broken(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_log(str(folder / "qrels.dev.tsv"))


def test_what_is_needed_beside_a_file_is_named(folder):
    (folder / "qrels.dev.tsv").unlink()
    with pytest.raises(UserError, match=r"top1000\.dev: needs one file qrels\* .* found: none"):
        read_log(str(folder / "top1000.dev"))


def test_texts_alone_are_refused(folder):
    with pytest.raises(UserError, match="give the qrels or top1000 beside it"):
        read_log(str(folder / "collection.tsv"))
