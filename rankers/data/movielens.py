"""MovieLens: ratings of films by people, in the file formats of 100K, 1M and 10M to 25M.

A request is one person's sitting: ratings of theirs less than an hour apart. Its candidates are the
films they rated then, a label of 1 is a rating of 4 stars or more, and the user's side is what was
known before the sitting began: the films they had liked, and who they are where the files say so.

Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankers.bags import pad_bags
from rankers.data.histories import Events, sittings
from rankers.data.lines import stream_text
from rankers.data.log import RankingLog
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.hashing import hash_ids
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rankers.requests import Array, Columns

LIKED_FROM = 4.0
HISTORY = 50
GENRES = 6  # of one film, at most; the files have 19 in all
_GENRE_BUCKETS = 40
_GAP_S = 3600


@dataclass(frozen=True, slots=True)
class _Form:
    """How one of the data sets is written.

    Attributes:
        ratings: The file of ratings: user, item, rating, seconds since 1970.
        separator: Of its fields.
        beside: The separator of the files of films and people.
        header: Whether files begin with the columns' names.
        films: The file of films, and where in a line their genres are (``|`` between them).
        people: The file of users, and where in a line gender, age and occupation are; None where
            the data set does not say who people are.
    """

    ratings: str
    separator: str
    beside: str
    header: bool
    films: tuple[str, int]
    people: tuple[str, tuple[int, int, int]] | None


_FORMS = (
    _Form("u.data", "\t", "|", header=False, films=("u.item", -1), people=("u.user", (2, 1, 3))),
    _Form("ratings.dat", "::", "::", header=False, films=("movies.dat", 2),
          people=("users.dat", (1, 2, 3))),
    _Form("ratings.csv", ",", ",", header=True, films=("movies.csv", -1), people=None),
)  # fmt: skip


def read_movielens(folder: Path, *, rows: int | None = None) -> RankingLog:
    """Read a data set to a log.

    Features: user ``history`` (films liked before, at most 50, the newest last), and ``gender``,
    ``age`` and ``occupation`` where known; item ``film`` and ``genres``. A film's ID is its number
    in the files; 0 is padding.

    Args:
        folder: As it was unpacked.
        rows: How many ratings to read at most, in the order of the file.

    Raises:
        UserError: A file is missing or broken; the message names the line.
    """
    form = next((each for each in _FORMS if (folder / each.ratings).is_file()), None)
    if form is None:
        names = ", ".join(each.ratings for each in _FORMS)
        raise UserError(f"{folder}: no MovieLens data here; expected one of {names}")
    events, rating = _ratings(folder / form.ratings, form, rows)
    genres = _genres(folder / form.films[0], form, largest=int(events.item.max()))
    log = sittings(events, positive=rating >= LIKED_FROM, gap_s=_GAP_S, history=HISTORY)
    films = len(genres)
    item: Columns = {"film": log.item, "genres": genres[log.item]}
    user: Columns = {"history": log.history}
    features = [
        Feature("history", "int64", (HISTORY,), "user", films, padding=0),
        Feature("film", "int64", (), "item", films),
        Feature("genres", "int64", (GENRES,), "item", _GENRE_BUCKETS + 1, padding=0),
    ]
    if form.people is not None:
        described = _people(folder / form.people[0], form)
        for place, (name, buckets) in enumerate(_PERSON.items()):
            values = [described.get(int(each), ("", "", ""))[place] for each in log.user]
            user[name] = hash_ids(values, buckets, salt=name)
            features.append(Feature(name, "int64", (), "user", buckets + 1))
    return RankingLog(
        requests=RequestBatch(user, item, log.offsets, log.label),
        signature=Signature(tuple(features), "probability"),
    )


# What is known of a person, and into how many buckets it is hashed: 7 ages (61 in 100K), 21 jobs.
_PERSON = {"gender": 8, "age": 200, "occupation": 100}


def _fields(path: Path, separator: str, *, header: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield where each line is, and its fields."""
    import csv

    for number, text in _text_of(path):
        if (header and number == 1) or not text:
            continue
        quoted = separator == "," and '"' in text  # titles with commas are quoted
        yield (
            f"{path} line {number}",
            (next(csv.reader([text])) if quoted else text.split(separator)),
        )


def _text_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines; the data sets of before 2014 have titles in Latin-1."""
    from rankers.data.lines import stream_lines

    if path.suffix == ".csv":
        yield from stream_text(path)
        return
    for first, lines in stream_lines(path):
        for number, line in enumerate(lines, first):
            yield number, line.decode("latin-1").rstrip("\r\n")


def _ratings(path: Path, form: _Form, rows: int | None) -> tuple[Events, Array]:
    users: list[int] = []
    items: list[int] = []
    ratings: list[float] = []
    times: list[int] = []
    for where, fields in _fields(path, form.separator, header=form.header):
        if rows is not None and len(users) >= rows:
            break
        if len(fields) != 4:
            raise UserError(f"{where}: {len(fields)} field(s); expected user, film, rating, time")
        try:
            user, item, rating, time = (
                int(fields[0]), int(fields[1]), float(fields[2]), int(fields[3]),
            )  # fmt: skip
        except ValueError as error:
            raise UserError(f"{where}: {error}; expected user, film, rating, time") from error
        if item < 1 or not 0 <= rating <= 5:
            raise UserError(f"{where}: film {item}, rating {rating}; expected 1 or more, 0 to 5")
        users.append(user)
        items.append(item)
        ratings.append(rating)
        times.append(time)
    if not users:
        raise UserError(f"{path}: the file holds no ratings")
    events = Events(np.array(users), np.array(items), np.array(times, dtype=np.float64))
    return events, np.array(ratings, dtype=np.float32)


def _genres(path: Path, form: _Form, *, largest: int) -> Array:
    """Return every film's genres by its number, int64 ``[films, GENRES]``, 0 where there are none.

    100K marks genres by 19 zeros and ones at the end of a line, later sets name them.
    """
    by_film: dict[int, list[str]] = {}
    for where, fields in _fields(path, form.beside, header=form.header):
        try:
            film = int(fields[0])
            if form.ratings == "u.data":
                marks = fields[-19:]
                by_film[film] = [str(place) for place, mark in enumerate(marks) if mark == "1"]
            else:
                by_film[film] = fields[form.films[1]].split("|")
        except (ValueError, IndexError) as error:
            raise UserError(f"{where}: {error}; expected a film's number, title, genres") from error
    films = max(largest, max(by_film, default=0)) + 1
    feature = Feature("genres", "int64", (GENRES,), "item", _GENRE_BUCKETS + 1, padding=0)
    bags = [
        np.unique(hash_ids(by_film.get(film, []), _GENRE_BUCKETS, salt="genres"))
        for film in range(films)
    ]
    return pad_bags([bag[bag != 0] for bag in bags], feature)


def _people(path: Path, form: _Form) -> dict[int, tuple[str, str, str]]:
    assert form.people is not None  # noqa: S101 - asked for where there are people only
    found = {}
    for where, fields in _fields(path, form.beside, header=form.header):
        try:
            gender, age, occupation = (fields[place] for place in form.people[1])
            found[int(fields[0])] = (gender, age, occupation)
        except (ValueError, IndexError) as error:
            raise UserError(f"{where}: {error}; expected a user's description") from error
    return found
