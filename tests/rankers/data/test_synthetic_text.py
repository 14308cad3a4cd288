from __future__ import annotations

import itertools

import numpy as np
import pytest

from rankers.data.source import read_log
from rankers.data.synthetic_text import DOCUMENT, PARTS, QUERY, SIGNATURE, THINGS, TextModel
from rankers.errors import UserError
from rankers.quality import quality
from rankers.text import TOKENIZER, TextEncoder, load_tokenizer


@pytest.fixture(scope="module")
def log():
    return TextModel().draw(12_000)


@pytest.fixture(scope="module")
def texts():
    """Return the columns of texts of the same log, by side."""
    blocks = [each.requests for each in TextModel().texts(12_000)]
    return {
        QUERY: np.concatenate([each.user[QUERY] for each in blocks]),
        DOCUMENT: np.concatenate([each.items[DOCUMENT] for each in blocks]),
    }


def auc(scores, log):
    requests = log.requests
    return quality(scores, requests.labels, requests.offsets, "relevance").auc


def test_requests_fit_their_signature_and_bring_their_tokenizer(log):
    log.requests.check(SIGNATURE)
    assert log.requests.rows >= 12_000
    assert list(log.files) == [TOKENIZER]
    for column in (log.requests.user[QUERY], log.requests.items[DOCUMENT]):
        assert ((column[:, :-1] != 0) | (column[:, 1:] == 0)).all()  # padding comes last


def test_token_ids_are_those_of_the_texts(log, texts):
    encoder = TextEncoder(log.files[TOKENIZER], SIGNATURE, too_long="refuse")
    columns = (log.requests.user[QUERY], log.requests.items[DOCUMENT])
    for name, column in zip((QUERY, DOCUMENT), columns, strict=True):
        np.testing.assert_array_equal(encoder.encode(name, texts[name].tolist()), column)
    unknown = load_tokenizer(log.files[TOKENIZER]).token_to_id("[UNK]")
    assert not any((column == unknown).any() for column in columns)


def test_the_same_seed_draws_the_same_and_a_longer_log_begins_with_it(log):
    longer = TextModel().draw(15_000)
    assert longer.files == log.files
    np.testing.assert_array_equal(longer.requests.user[QUERY][:50], log.requests.user[QUERY][:50])
    np.testing.assert_array_equal(
        longer.requests.items[DOCUMENT][: log.requests.rows], log.requests.items[DOCUMENT]
    )
    other = TextModel(seed=1).draw(500).requests
    assert not np.array_equal(other.items[DOCUMENT][:500], log.requests.items[DOCUMENT][:500])


def test_clicks_follow_the_truth(log):
    assert log.truth.mean() == pytest.approx(0.3, abs=0.02)
    assert log.truth.mean() == pytest.approx(log.requests.labels.mean(), abs=0.015)


@pytest.mark.parametrize("part", ["thing", "colour", "part", "condition", "liking"])
def test_every_part_of_the_meaning_is_worth_finding(log, part):
    without = TextModel(**{part: 1e-9}).draw(12_000)
    assert auc(log.truth, log) > auc(without.truth, without) + 0.005


def test_shared_words_are_not_enough(log):
    query = np.repeat(log.requests.user[QUERY], log.requests.candidates, axis=0)
    document = log.requests.items[DOCUMENT]
    shared = (query[:, :, None] == document[:, None, :]) & (query[:, :, None] != 0)
    overlap = shared.any(axis=2).sum(axis=1) / (query != 0).sum(axis=1)
    best = auc(log.truth, log)
    assert (auc(overlap.astype(np.float32), log) - 0.5) / (best - 0.5) < 0.4


def test_another_name_of_the_thing_is_as_good_as_the_same(log, texts):
    """Documents of the thing that was asked for: by the same name, and by another of its names."""
    thing = {name: place for place, names in enumerate(THINGS) for name in names}

    def name_in(text):
        return next(word for word in text.split() if word in thing)

    asked = np.repeat([name_in(each) for each in texts[QUERY]], log.requests.candidates)
    offered = np.array([name_in(each) for each in texts[DOCUMENT]])
    same = np.array([thing[a] == thing[b] for a, b in zip(asked, offered, strict=True)])
    named, otherwise = log.truth[same & (asked == offered)], log.truth[same & (asked != offered)]
    assert named.mean() == pytest.approx(otherwise.mean(), abs=0.03)
    assert otherwise.mean() > log.truth[~same].mean() + 0.3


def test_with_and_without_agree_or_contradict_by_any_of_their_words(log, texts):
    signs = {"with": 1, "including": 1, "without": -1, "no": -1}

    def parts(text):
        words = text.split()
        return {
            word: signs[before]
            for before, word in itertools.pairwise(words)
            if before in signs and word in PARTS
        }

    asked = np.repeat([parts(each) for each in texts[QUERY]], log.requests.candidates)
    offered = [parts(each) for each in texts[DOCUMENT]]
    agreement = np.array(
        [
            sum(sign * document.get(part, 0) for part, sign in query.items())
            for query, document in zip(asked, offered, strict=True)
        ]
    )
    truth = [log.truth[agreement == each].mean() for each in (-1, 0, 1)]
    assert truth[0] + 0.1 < truth[1] < truth[2] - 0.1


def test_it_has_a_name_on_the_command_line():
    assert read_log("synthetic:texts", rows=50).signature == SIGNATURE
    with pytest.raises(UserError, match="did you mean 'texts'"):
        read_log("synthetic:text", rows=50)
