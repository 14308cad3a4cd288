"""What every loader says of a file that is wrong: one line, where it is, and what to do."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from rankers.data.avazu import CATEGORIES
from rankers.data.parquet import write_parquet
from rankers.data.source import read_log
from rankers.errors import UserError

SCHEMA = """\
label = "clicked"
request = "session"
data = "{data}"
[features.item]
cardinality = 10
[features.price]
kind = "number"
"""
TABLE = [["session", "item", "price", "clicked"]]
TABLE += [[f"s{row // 2}", str(row), "1.5", str(row % 2)] for row in range(6)]


def criteo(separator="\t"):
    return [separator.join(["0", *["1"] * 13, *["05db9164"] * 26]) for _ in range(6)]


def avazu():
    header = ["id", "click", "hour", *CATEGORIES]
    rows = [["1", str(row % 2), "14102100", *["a8f2"] * 21] for row in range(6)]
    return [",".join(row) for row in [header, *rows]]


def reviews():
    review = {"reviewerID": "ann", "asin": "B1", "unixReviewTime": 1}
    return [json.dumps(review | {"unixReviewTime": time}) for time in range(6)]


def graded():
    return [f"{row % 3} qid:{row // 2} 1:0.5 2:{row}" for row in range(6)]


def folder_of(ratings, films, separator, beside):
    def write(path, lines):
        path.mkdir()
        (path / ratings).write_text("\n".join(lines) + "\n")
        text = beside.join(["1", "Film", "|".join(["0"] * 19) if films == "u.item" else "Drama"])
        (path / films).write_text(text.replace("|", beside) + "\n")
        if films == "movies.dat":
            (path / "users.dat").write_text("1::F::1::10::48067\n")
        if films == "u.item":
            (path / "u.user").write_text("1|24|M|technician|85711\n")

    return write, [separator.join(["1", "1", "4", str(row)]) for row in range(6)]


def text(path, lines):
    path.write_text("\n".join(lines) + "\n")


def table_as(separator):
    def write(path, lines):
        path.write_text(SCHEMA.format(data="log"))
        path.with_name("log").write_text("\n".join(lines) + "\n")

    return write, [separator.join(row) for row in TABLE]


HUNDRED_K, ONE_M = folder_of("u.data", "u.item", "\t", "|"), folder_of(
    "ratings.dat", "movies.dat", "::", "::"
)  # fmt: skip
LATEST = folder_of("ratings.csv", "movies.csv", ",", ",")
LATEST = (LATEST[0], ["userId,movieId,rating,timestamp", *LATEST[1]])

# The loader, and its file of lines: how it is written, and the lines.
LOADERS = {
    "criteo, tabs": (text, criteo()),
    "criteo, commas": (text, criteo(",")),
    "avazu": (text, avazu()),
    "movielens 100k": HUNDRED_K,
    "movielens 1m": ONE_M,
    "movielens 25m": LATEST,
    "amazon": (text, reviews()),
    "letor": (text, graded()),
    "table, csv": table_as(","),
    "table, tsv": table_as("\t"),
}
# The loader, what is wrong on the fourth line, and what is said after where it is.
FAULTS = [
    ("criteo, tabs", lambda line: line[:-9], r"39 column\(s\); expected 40: label, 13 counts"),
    ("criteo, commas", lambda line: line[:-9], r"39 column\(s\); expected 40"),
    ("criteo, tabs", lambda line: "yes" + line[1:], "the label is 'yes'; expected 0 or 1"),
    ("criteo, tabs", lambda line: line + "0", "C26 is '05db91640'; expected up to 8 hexadecimal"),
    ("avazu", lambda line: line.rpartition(",")[0], r"23 field\(s\); expected 24"),
    ("avazu", lambda line: line.replace("1,0,1", "1,no,1"), "label 'click' is 'no'; expected a n"),
    ("avazu", lambda line: line.replace("14102100", "14102199"), "the hour is .*expected YYMMDDHH"),
    ("movielens 100k", lambda line: line[:-2], r"3 field\(s\); expected user, film, rating, time"),
    ("movielens 1m", lambda line: line[:-3], r"3 field\(s\); expected user, film, rating, time"),
    ("movielens 25m", lambda line: line[:-2], r"3 field\(s\); expected user, film, rating, time"),
    ("movielens 100k", lambda line: line.replace("4", "good"), "'good'; expected user, film, rat"),
    ("movielens 1m", lambda line: line.replace("::4", "::9"), "rating 9.0; expected .*0 to 5"),
    ("movielens 25m", lambda line: line.replace("1,1,", "1,-7,"), "film -7, .*expected 1 or more"),
    ("amazon", lambda line: line[:-1], "not a JSON object"),
    ("amazon", lambda line: line.replace("asin", "name"), "has none of asin, parent_asin; is this"),
    ("amazon", lambda line: line.replace(": 3", ': "3"'), "the time is '3'; expected a number"),
    ("amazon", lambda line: line.replace(": 3", ": NaN"), "the time is nan; expected a number"),
    ("letor", lambda line: line + " x", "'x' is not a feature; expected number:value"),
    ("letor", lambda line: "good" + line[1:], "the grade is 'good'; expected a number of 0 or"),
    ("letor", lambda line: line.replace(" 1:", " 0:"), "number 0 follows 0; numbers start at 1"),
    ("letor", lambda line: line.replace("qid:1 ", ""), "this one is unlike the first"),
    ("table, csv", lambda line: line + ",x", r"5 field\(s\); expected 4"),
    ("table, tsv", lambda line: line + "\tx", r"5 field\(s\); expected 4"),
    ("table, csv", lambda line: line[:-1] + "yes", "label 'clicked' is 'yes'; expected a number"),
    ("table, tsv", lambda line: line[:-1] + "9", "the label is 9; expected 0 to 1"),
    ("table, csv", lambda line: line.replace(",2,", ",12,"), "IDs run from 0 to 9: raise the card"),
    ("table, tsv", lambda line: line.replace("\t2\t", "\tx\t"), "'x'; expected a whole number f"),
    ("table, csv", lambda line: line.replace("1.5", "1e60"), "beyond float32's 3.4e.38; scale it"),
]


@pytest.mark.parametrize(
    ("loader", "fault", "message"), FAULTS, ids=[f"{each[0]}: {each[2][:25]}" for each in FAULTS]
)
def test_it_is_one_line_that_says_where_and_what_to_do(tmp_path, loader, fault, message):
    write, lines = LOADERS[loader]
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    suffix = ".toml" if loader.startswith("table") else ""
    write(good.with_suffix(suffix), lines)
    read_log(str(good.with_suffix(suffix)))  # it is the fault that is refused, and nothing else
    broken = [*lines[:3], fault(lines[3]), *lines[4:]]
    assert broken != lines
    write(bad.with_suffix(suffix), broken)
    with pytest.raises(UserError, match=f"line 4: .*{message}") as caught:
        read_log(str(bad.with_suffix(suffix)))
    assert "\n" not in str(caught.value)


@pytest.fixture
def parquet_table(tmp_path):
    (tmp_path / "schema.toml").write_text(SCHEMA.format(data="log.parquet"))

    def write(**changed):
        columns = {
            "session": ["a", "a", "b"],
            "item": [1, 2, 3],
            "price": [1.0, 2.0, 3.0],
            "clicked": [0, 1, 0],
        }
        parquet.write_table(pa.table(columns | changed), tmp_path / "log.parquet")
        return str(tmp_path / "schema.toml")

    return write


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"item": [1, 12, 3]}, "row 2: feature 'item' is '12'; IDs run from 0 to 9: raise the"),
        ({"item": [1.0, 2.5, 3.0]}, "row 2: feature 'item' is '2.5'; expected a whole number"),
        ({"item": [1, None, 3]}, "row 2: feature 'item' is missing; expected an ID"),
        ({"item": [[1], [2], [3]]}, "'item' is a column of list<.*>; expected an ID a row"),
        ({"clicked": ["0", "yes", "0"]}, "row 2: the label 'clicked' is 'yes'; expected a number"),
        ({"clicked": [0, None, 0]}, "row 2: the label 'clicked' is missing"),
        ({"clicked": [0.0, float("nan"), 0.0]}, "row 2: the label 'clicked' is nan; expected a f"),
        ({"price": [[1.0], [2.0], [3.0]]}, r"row 1: feature 'price' is \[1.0\]; expected a number"),
    ],
)
def test_of_parquet_the_row_is_named(parquet_table, changed, message):
    read_log(parquet_table())
    with pytest.raises(UserError, match=message):
        read_log(parquet_table(**changed))


def test_a_missing_value_within_a_bag_is_no_id(parquet_table, tmp_path):
    path = parquet_table(item=[[1, None], [2, 3], []])
    (tmp_path / "schema.toml").write_text(
        SCHEMA.format(data="log.parquet").replace("cardinality = 10", "buckets = 10\nlength = 2")
    )
    assert (read_log(path).requests.items["item"] > 0).sum(axis=1).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("label", [0, 3], "the label of row 2 is 3; expected 0 or 1"),
        ("label", [0, None], "column 'label' has a missing value"),
        ("C17", [0, 77], "feature 'C17' holds the ID 77 in row 1; IDs run from 0 to 19"),
    ],
)
def test_of_what_make_data_wrote_the_column_is_named(tmp_path, name, values, message):
    path = tmp_path / "log.parquet"
    write_parquet(path, 10)
    table = parquet.read_table(path)
    place = table.column_names.index(name)
    rest = table[name].to_pylist()[2:]
    parquet.write_table(table.set_column(place, name, [[*values, *rest]]), path)
    with pytest.raises(UserError, match=message):
        read_log(str(path))
