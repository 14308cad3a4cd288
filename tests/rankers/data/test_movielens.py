from __future__ import annotations

import numpy as np
import pytest

from rankers.data.movielens import read_movielens
from rankers.data.source import read_log
from rankers.errors import UserError

# Two people: 7 rates two films, an hour and more later a third; 8 rates one in between.
RATINGS = [(7, 1, 5, 1000), (7, 2, 2, 1100), (8, 3, 4, 2000), (7, 3, 4, 9000)]


def small(folder):
    """Write the files as the 100K set has them."""
    lines = ["\t".join(map(str, row)) for row in RATINGS]
    (folder / "u.data").write_text("\n".join(lines) + "\n")
    genres = {1: [0, 5], 2: [18], 3: []}
    (folder / "u.item").write_bytes(
        "".join(
            f"{film}|Caf\u00e9 ({film})|01-Jan-1995||http://x|"
            + "|".join("1" if place in genres[film] else "0" for place in range(19))
            + "\n"
            for film in genres
        ).encode("latin-1")
    )
    (folder / "u.user").write_text("7|24|M|technician|85711\n8|53|F|other|94043\n")
    return folder


def million(folder):
    """Write them as the 1M set has them."""
    (folder / "ratings.dat").write_text("".join("::".join(map(str, row)) + "\n" for row in RATINGS))
    (folder / "movies.dat").write_bytes(
        "1::Caf\u00e9 (1995)::Drama|War\n2::B::Comedy\n3::C::Drama\n".encode("latin-1")
    )
    (folder / "users.dat").write_text("7::M::25::12::85711\n8::F::50::1::94043\n")
    return folder


def latest(folder):
    """Write them as the 25M set has them."""
    rows = "".join(f"{u},{i},{r}.0,{t}\n" for u, i, r, t in RATINGS)
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + rows)
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n1,"A, the (1995)",Drama|War\n2,B,Comedy\n3,C,Drama\n', "utf-8"
    )
    return folder


@pytest.mark.parametrize("write", [small, million, latest])
def test_every_format_gives_the_same_sittings(tmp_path, write):
    log = read_log(str(write(tmp_path)))
    log.requests.check(log.signature)
    first, second, third = log.requests
    assert first.items["film"].tolist() == [1, 2]
    assert first.labels.tolist() == [1, 0]
    assert first.user["history"].any() == np.False_
    assert second.items["film"].tolist() == [3]
    assert third.items["film"].tolist() == [3]
    assert third.user["history"][0, :2].tolist() == [1, 0]
    genres = first.items["genres"]
    assert (genres[0] != 0).sum() == 2
    assert (genres[1] != 0).sum() == 1


@pytest.mark.parametrize("write", [small, million])
def test_who_people_are_is_the_users_side(tmp_path, write):
    log = read_movielens(write(tmp_path))
    first, second, third = log.requests
    for name in ("gender", "age", "occupation"):
        assert first.user[name] == third.user[name]
        assert first.user[name] != second.user[name]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("u.data", "7\t1\t5\n", "u.data line 1: 3 field"),
        ("u.data", "7\t1\t5\tx\n", "line 1: invalid literal"),
        ("u.data", "7\t0\t5\t1\n", "line 1: film 0, rating 5.0; expected 1 or more"),
        ("u.data", "", "holds no ratings"),
        ("u.item", "x|A\n", "u.item line 1"),
        ("u.user", "7|24\n", "u.user line 1"),
    ],
)
def test_a_broken_file_is_refused_where_it_is_broken(tmp_path, name, text, message):
    (small(tmp_path) / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_movielens(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    (small(tmp_path) / "u.item").unlink()
    with pytest.raises(UserError, match=r"u.item: no such file"):
        read_movielens(tmp_path)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected one of u.data, ratings.dat, ratings.csv"):
        read_log(str(tmp_path))
