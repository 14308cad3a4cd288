from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rankers.data.avazu import CATEGORIES, read_avazu
from rankers.data.source import data_key, read_log
from rankers.data.table_schema import load_table_schema
from rankers.errors import UserError
from rankers.hashing import hash_ids

SCHEMA = """\
label = "clicked"
request = "session"
data = "log.csv"

[features.user]
side = "user"
buckets = 100

[features.item]
column = "item_id"
cardinality = 10

[features.tags]
buckets = 50
length = 3
separator = "|"

[features.price]
kind = "number"
transform = "log1p"
missing = 0.0
"""
TABLE = """\
session,user,item_id,tags,price,clicked,unread
s1,ann,3,red|new,9.0,1,x
s1,ann,4,,,0,x
s2,"bob, jr",9,red,1.5,0,x
"""


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "schema.toml"
    path.write_text(SCHEMA)
    (tmp_path / "log.csv").write_text(TABLE)
    return path


def as_parquet(folder):
    table = pa.table(
        {
            "session": ["s1", "s1", "s2"],
            "user": ["ann", "ann", "bob, jr"],
            "item_id": pa.array([3, 4, 9], pa.int32()),
            "tags": ["red|new", None, "red"],
            "price": [9.0, None, 1.5],
            "clicked": pa.array([1, 0, 0], pa.int8()),
        }
    )
    parquet.write_table(table, folder / "log.csv")


@pytest.mark.parametrize("form", ["csv", "tsv", "gz", "parquet"])
def test_every_form_of_a_table_gives_the_same_requests(schema, form):
    path = schema.with_name("log.csv")
    if form == "tsv":
        path.write_text(
            TABLE.replace('"bob, jr"', "bob. jr").replace(",", "\t").replace("b. ", "b, ")
        )
    elif form == "gz":
        path.write_bytes(gzip.compress(TABLE.encode()))
    elif form == "parquet":
        as_parquet(schema.parent)
    log = read_log(str(schema))
    log.requests.check(log.signature)
    first, second = log.requests
    assert first.user["user"].tolist() == hash_ids(["ann"], 100, salt="user").tolist()
    assert second.user["user"].tolist() == hash_ids(["bob, jr"], 100, salt="user").tolist()
    assert first.items["item"].tolist() == [3, 4]
    red, new = hash_ids(["red", "new"], 50, salt="tags").tolist()
    assert first.items["tags"].tolist() == [[red, new, 0], [0, 0, 0]]
    np.testing.assert_allclose(first.items["price"], np.log1p([9.0, 0.0]), rtol=1e-6)
    assert first.labels.tolist() == [1, 0]
    assert second.items["tags"].tolist() == [[red, 0, 0]]


def test_lists_of_parquet_are_bags(schema):
    schema.write_text(SCHEMA.replace('separator = "|"\n', ""))
    as_parquet(schema.parent)
    path = schema.with_name("log.csv")
    table = parquet.read_table(path).set_column(3, "tags", [[["red", "new"], None, ["red"]]])
    parquet.write_table(table, path)
    assert (read_log(str(schema)).requests.items["tags"] != 0).sum(axis=1).tolist() == [2, 0, 1]


def test_without_a_request_column_requests_are_runs(schema):
    schema.write_text(SCHEMA.replace('request = "session"\n', "").replace('side = "user"\n', ""))
    assert read_log(str(schema)).requests.rows == 3


def test_the_log_is_known_by_schema_and_table(schema):
    before = data_key(str(schema))
    with schema.with_name("log.csv").open("a") as file:
        file.write("s3,x,1,,1,0,x\n")
    assert data_key(str(schema)) != before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("s1,ann,4", "s1,ann,14", r"log.csv line 3: feature 'item' is '14'; IDs run from 0 to 9"),
        ("s1,ann,4", "s1,ann,-4", "line 3: feature 'item' is '-4'"),
        ("s1,ann,4", "s1,ann,", "line 3: feature 'item' is missing"),
        ("9.0,1,x", "9.0,yes,x", "line 2: the label 'clicked' is 'yes'; expected a number"),
        ("9.0,1,x", "9.0,,x", "line 2: the label 'clicked' is missing"),
        ("9.0,1,x", "9.0,2,x", "line 2: the label is 2; expected 0 to 1"),
        ("1.5,0,x", "cheap,0,x", "line 4: feature 'price' is 'cheap'; expected a number"),
        ("1.5,0,x", "inf,0,x", "line 4: feature 'price' is inf; expected a finite number"),
        ("1.5,0,x", "-1,0,x", "line 4: feature 'price' is -1; log1p needs 0 or more"),
        ("1.5,0,x", "1.5,0", "line 4: 6 field"),
        ("s1,ann,4", "s1,amy,4", "feature 'user' is the user's, but changes within a request in"),
        (
            "s2,",
            "s1,ann,1,,1,0,x\ns2,u,1,,1,0,x\ns1,",
            "do not stand together: one goes on in data",
        ),
        (",clicked,", ",klicked,", "has column 'clicked' 0 times; expected once; did you mean"),
    ],
)
def test_a_broken_table_is_refused_where_it_is_broken(schema, old, new, message):
    path = schema.with_name("log.csv")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read_log(str(schema))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('label = "clicked"', "", "label is missing"),
        ("buckets = 100", "bucket = 100", "unknown key 'bucket'; did you mean 'buckets'"),
        ("buckets = 100", "buckets = 0", "has buckets 0; expected 1 or more"),
        ("buckets = 100", "", "give buckets to hash into, or the cardinality"),
        ('side = "user"', 'side = "shop"', "has side 'shop'"),
        ('kind = "number"', 'kind = "word"', "has kind 'word'"),
        ('"log1p"', '"sqrt"', "has transform 'sqrt'"),
        ("label =", "label", "is not TOML"),
        ('data = "log.csv"', "", "names no table"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(schema, old, new, message):
    assert old in SCHEMA
    schema.write_text(SCHEMA.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read_log(str(schema))


def test_a_schema_without_features_is_refused(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('label = "x"\n')
    with pytest.raises(UserError, match="there are no features"):
        load_table_schema(path)


def avazu(path, hour="14102100"):
    header = ["id", "click", "hour", *CATEGORIES]
    rows = [["1", str(each % 2), hour, *["a8f2"] * 21] for each in range(30)]
    path.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    return path


def test_avazus_rows_keep_the_hour_of_the_day(tmp_path):
    log = read_log(str(avazu(tmp_path / "train.csv", "14102123")))
    log.requests.check(log.signature)
    assert log.requests.rows == 30
    assert set(log.requests.items["hour"].tolist()) == {23}
    assert log.requests.labels.sum() == 15
    assert log.signature.feature("hour").cardinality == 24


def test_avazus_hour_has_eight_digits(tmp_path):
    with pytest.raises(UserError, match="line 2: the hour is 14102199; expected YYMMDDHH"):
        read_avazu(avazu(tmp_path / "train.csv", "14102199"))
