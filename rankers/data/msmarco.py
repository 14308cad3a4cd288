"""Queries and passages in MS MARCO's files: texts become token IDs, judgements become labels.

Which file it is told by what is in it; all are tab-separated, without a header, plain or gzipped:

- ``qrels*``: query ID, 0, passage ID, grade (also with spaces, as TREC has them). The texts are
  beside it, in ``queries*.tsv`` and ``collection*.tsv``: an ID and a text each. Few passages are
  judged, so passages drawn from the collection join each query's, as not relevant.
- ``top1000*``: query ID, passage ID, query, passage. The grades are beside it, in ``qrels*``.
- ``triples*``: query, relevant passage, other passage.

A request is a query with all its passages, wherever in the file they stand. The vocabulary is a
``tokenizer.json`` beside the file, or is learned from the texts of the first requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rankers.data.log import RankingLog
from rankers.data.msmarco_files import Form, Pair, form_of, stream_pairs, stream_texts
from rankers.data.vocabulary import TOKENS, train_wordpiece
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.requests import RequestBatch
from rankers.text import (
    TOKENIZER,
    TextEncoder,
    load_tokenizer,
    read_tokenizer,
    say_truncated,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rankers.requests import Array

QUERY, DOCUMENT = "query", "document"
QUERY_TOKENS, DOCUMENT_TOKENS = 32, 160
DRAWN = 19  # passages that join those which qrels judges
LEARNED = 0.8  # the share of requests whose texts make the vocabulary: those trained on by default


@dataclass
class _Requests:
    """Queries in the order of their first line, and what is known of them.

    Attributes:
        grades: By query, by passage.
        where: By query or passage ID, the line that named it first.
        queries: Texts by query ID.
        passages: Texts by passage ID.
    """

    grades: dict[str, dict[str, float]] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    passages: dict[str, str] = field(default_factory=dict)

    def add(self, pair: Pair) -> bool:
        """Add a pair; whether it is new. Of two grades the higher holds."""
        passages = self.grades.setdefault(pair.query, {})
        new = pair.passage not in passages
        passages[pair.passage] = max(pair.grade, passages.get(pair.passage, 0.0))
        for each in (pair.query, pair.passage):
            self.where.setdefault(each, pair.where)
        if pair.texts is not None:
            self.queries[pair.query], self.passages[pair.passage] = pair.texts
        return new


def read_msmarco(
    path: Path,
    *,
    rows: int | None = None,
    seed: int = 0,
    query_tokens: int = QUERY_TOKENS,
    document_tokens: int = DOCUMENT_TOKENS,
    tokens: int = TOKENS,
) -> RankingLog:
    """Read a file to a log with the features ``query`` (user) and ``document``, token IDs each.

    Texts longer than a feature are truncated to its first tokens; how many is said on standard
    error.

    Args:
        path: One of the files; or a folder with one of top1000 or, if there is none, of qrels.
        rows: How many candidates to read, about, at most.
        seed: Of the passages that are drawn.
        query_tokens: The most tokens of a query.
        document_tokens: The most tokens of a passage.
        tokens: The most tokens of a vocabulary that is learned.

    Raises:
        UserError: A file is missing or broken (the message names the line), or a text is.
    """
    path = _chosen(path)
    found = _judged(path, rows, seed)
    users, items, labels = _columns(found)
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in found.grades.values()])])
    tokenizer = _vocabulary(path, found, tokens)
    size = load_tokenizer(tokenizer).get_vocab_size(with_added_tokens=True)
    log = RankingLog(
        RequestBatch({}, {}, offsets.astype(np.int64), labels),
        Signature(
            (
                Feature(QUERY, "int64", (query_tokens,), "user", size, padding=0),
                Feature(DOCUMENT, "int64", (document_tokens,), "item", size, padding=0),
            ),
            "relevance" if labels.max() > 1 else "probability",
        ),
        files={TOKENIZER: tokenizer},
    )
    encoder = TextEncoder(tokenizer, log.signature)
    log.requests.user[QUERY] = encoder.encode(QUERY, users)
    distinct, place = _distinct(items)
    log.requests.items[DOCUMENT] = encoder.encode(DOCUMENT, distinct)[place]
    say_truncated(path, encoder.truncated, {QUERY: len(users), DOCUMENT: len(distinct)})
    return log


def msmarco_files(path: Path) -> list[Path]:
    """Return the files that a log is read from, if ``path`` is one of these or a folder of them."""
    path = _chosen(path)
    form = _form(path)
    beside = {"qrels": ("queries*", "collection*"), "top1000": ("qrels*",), "triples": ()}[form]
    own = path.with_name(TOKENIZER)
    files = [path, *(_beside(path, each) for each in beside)]
    return [*files, own] if own.is_file() else files


def _judged(path: Path, rows: int | None, seed: int) -> _Requests:
    form = _form(path)
    found = _Requests()
    count = 0
    for pair in stream_pairs(path, form):
        if rows is not None and count >= rows and pair.query not in found.grades:
            break
        if form == "qrels" and pair.query not in found.grades:
            count += DRAWN
        count += found.add(pair)
    if not found.grades:
        raise UserError(f"{path}: the file holds no pairs")
    if form == "qrels":
        _draw(found, _beside(path, "collection*"), seed)
        _fill(found.queries, _beside(path, "queries*"), found.where, list(found.grades))
    elif form == "top1000":
        for pair in stream_pairs(_beside(path, "qrels*"), "qrels"):
            if pair.passage in found.grades.get(pair.query, {}):
                found.grades[pair.query][pair.passage] = pair.grade
    return found


def _draw(found: _Requests, collection: Path, seed: int) -> None:
    """Add passages of drawn lines to each query's, and read the texts of all."""
    total = sum(1 for _ in stream_texts(collection))
    random = np.random.default_rng(seed)
    lines = random.integers(total, size=(len(found.grades), min(DRAWN, total)))
    drawn: dict[int, list[str]] = {}
    for query, places in zip(found.grades, lines.tolist(), strict=True):
        for place in places:
            drawn.setdefault(place, []).append(query)
    for place, (passage, text) in enumerate(stream_texts(collection)):
        for query in drawn.get(place, ()):
            found.grades[query].setdefault(passage, 0.0)
            found.where.setdefault(passage, f"{collection}")
        if passage in found.where:
            found.passages[passage] = text
    wanted = (passage for passages in found.grades.values() for passage in passages)
    _check_all(found.passages, collection, found.where, wanted)


def _fill(texts: dict[str, str], file: Path, where: dict[str, str], wanted: list[str]) -> None:
    known = set(wanted)
    texts.update(each for each in stream_texts(file) if each[0] in known)
    _check_all(texts, file, where, wanted)


def _check_all(
    texts: dict[str, str], file: Path, where: dict[str, str], wanted: Iterator[str] | list[str]
) -> None:
    for each in wanted:
        if each not in texts:
            raise UserError(f"{where[each]}: names {each!r}, which {file} does not have")


def _columns(found: _Requests) -> tuple[list[str], list[str], Array]:
    """Return texts of queries ``[R]`` and of their passages ``[ΣN]``, and labels ``[ΣN]``."""
    users = [found.queries[each] for each in found.grades]
    pairs = [pair for passages in found.grades.values() for pair in passages.items()]
    labels = np.array([grade for _, grade in pairs], dtype=np.float32)
    return users, [found.passages[passage] for passage, _ in pairs], labels


def _vocabulary(path: Path, found: _Requests, tokens: int) -> bytes:
    own = path.with_name(TOKENIZER)
    if own.is_file():
        return read_tokenizer(own)
    queries = list(found.grades)[: max(1, round(len(found.grades) * LEARNED))]
    passages = dict.fromkeys(passage for query in queries for passage in found.grades[query])
    texts = [found.queries[each] for each in queries]
    texts += [found.passages[each] for each in passages]
    return train_wordpiece(lambda: texts, tokens)


def _distinct(texts: list[str]) -> tuple[list[str], Array]:
    """Return each text once, and where in that list each of ``texts`` is."""
    places: dict[str, int] = {}
    place = np.array([places.setdefault(each, len(places)) for each in texts], dtype=np.int64)
    return list(places), place


def _form(path: Path) -> Form:
    from rankers.data.lines import stream_text

    first = next((line for _, line in stream_text(path) if line.strip()), "")
    form = form_of(first)
    if form is None:
        raise UserError(
            f"{path} line 1: neither qrels (query ID, 0, passage ID, grade) nor top1000 (query ID, "
            "passage ID, query, passage) nor triples (query, relevant passage, other passage)"
        )
    return form


def _beside(path: Path, pattern: str) -> Path:
    """Return the file that belongs to ``path``: the only one, or the one of the same split."""
    found = _named(path.parent, pattern)
    if len(found) > 1:
        split = set(path.name.split(".")[1:])
        shared = [len(split & set(each.name.split(".")[1:])) for each in found]
        found = [each for each, count in zip(found, shared, strict=True) if count == max(shared)]
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise UserError(f"{path}: needs one file {pattern} beside it; found: {names}")
    return found[0]


def _chosen(path: Path) -> Path:
    """Return the file that a folder is read from; a file itself."""
    if not path.is_dir():
        return path
    found = _named(path, "top1000*") or _named(path, "qrels*")
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise UserError(f"{path}: name one file of top1000 or qrels in it; found: {names}")
    return found[0]


def _named(folder: Path, pattern: str) -> list[Path]:
    return sorted(each for each in folder.glob(pattern) if each.is_file())
