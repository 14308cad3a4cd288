from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from rankers.data.amazon import read_amazon
from rankers.data.source import read_log
from rankers.errors import UserError

# Who, what, when; not in the order of time.
REVIEWS = [("ann", "B", 30), ("ann", "A", 10), ("bob", "C", 20), ("bob", "D", 40), ("ann", "C", 50)]
EDITIONS = [("reviewerID", "asin", "unixReviewTime"), ("user_id", "parent_asin", "timestamp")]


def write(path, names=EDITIONS[0]):
    lines = [json.dumps(dict(zip(names, each, strict=True))) for each in REVIEWS]
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("names", EDITIONS)
@pytest.mark.parametrize("file", ["reviews.json", "reviews.jsonl.gz"])
def test_a_request_asks_for_the_next_item(tmp_path, file, names):
    log = read_log(str(write(tmp_path / file, names)))
    log.requests.check(log.signature)
    histories = [each[each != 0].tolist() for each in log.requests.user["history"]]
    bought = [int(each.items["item"][each.labels == 1][0]) for each in log.requests]
    # A B C D are 1 2 3 4. In the order of time: ann after A, bob after C, ann after A and B.
    assert list(zip(histories, bought, strict=True)) == [([1], 2), ([3], 4), ([1, 2], 3)]


def test_the_other_candidates_are_other_items(tmp_path):
    for request in read_amazon(write(tmp_path / "r.json")).requests:
        bought = request.items["item"][request.labels == 1]
        assert len(bought) == 1
        assert bought not in request.items["item"][request.labels == 0]


def test_the_bought_item_stands_anywhere(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(
        "".join(
            json.dumps({"user_id": "u", "asin": f"i{each}", "timestamp": each}) + "\n"
            for each in range(300)
        )
    )
    log = read_amazon(path)
    places = [int(np.argmax(each.labels)) for each in log.requests]
    assert len(set(places)) == 20
    assert read_amazon(path).requests.items["item"].tolist() == log.requests.items["item"].tolist()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not a JSON object"),
        ("[1]", "line 2: has none of reviewerID, user_id"),
        ('{"reviewerID": "u", "unixReviewTime": 1}', "line 2: has none of asin, parent_asin"),
        ('{"reviewerID": "u", "asin": "a", "unixReviewTime": "1"}', "line 2: the time is '1'"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = tmp_path / "r.json"
    path.write_text('{"reviewerID": "u", "asin": "a", "unixReviewTime": 1}\n' + line + "\n")
    with pytest.raises(UserError, match=message):
        read_amazon(path)


def test_one_review_of_each_is_too_little(tmp_path):
    path = tmp_path / "r.json"
    path.write_text('{"reviewerID": "u", "asin": "a", "unixReviewTime": 1}\n')
    with pytest.raises(UserError, match="nobody reviewed twice"):
        read_amazon(path)
