"""Workloads as TOML files."""

from __future__ import annotations

import pytest

from bench.distributions import Fixed
from bench.workload import make_workload
from bench.workload_recipe import Side, built_in_files, load_recipe
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.requests import save_requests

SIGNATURE = Signature(
    (
        Feature("user_id", "int64", (), "user", 10_000_000),
        Feature("item_id", "int64", (), "item", 1_000_000),
    )
)
BOUNDS = {
    "interactive": (20, 50),
    "feed": (50, 1000),
    "search-rerank": (10, 200),
    "mlperf-like": (100, 700),
}


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_four_are_built_in_and_each_says_what_it_stands_for():
    assert set(built_in_files()) == set(BOUNDS)
    assert all(load_recipe(name).description for name in BOUNDS)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_built_in_one_keeps_its_bounds_on_any_signature(name):
    workload = make_workload(load_recipe(name), SIGNATURE)
    described = workload.describe()
    assert described["name"] == name
    low, high = BOUNDS[name]
    assert low <= described["candidates_min"] <= described["candidates_max"] <= high


def test_interactive_reads_few_rows_again_and_again_and_search_rerank_hardly_any_twice():
    def repeats(name):
        ids = make_workload(load_recipe(name), SIGNATURE).requests.items["item_id"]
        return len(ids) / len(set(ids.tolist()))

    assert repeats("interactive") > 3
    assert repeats("search-rerank") < 1.2


def test_a_file_is_read_in_full(tmp_path):
    recipe = load_recipe(
        write(
            tmp_path,
            "distinct = 7\n[candidates]\nkind='fixed'\ncount=9\n[users]\nzipf=1\n"
            "[items]\nworking_set=100\n[sequences]\nkind='fixed'\ncount=3\n",
        )
    )
    assert (recipe.name, recipe.distinct) == ("mine", 7)
    assert (recipe.candidates, recipe.sequences) == (Fixed(9), Fixed(3))
    assert (recipe.users, recipe.items) == (Side(None, 1), Side(100))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[candidate]\n", "did you mean 'candidates'"),
        ("", r"\[candidates\] is missing"),
        ("candidates = 5\n", r"it is a table, \[candidates\]"),
        ("[candidates]\nkind='fixd'\n", r"\[candidates\] unknown kind 'fixd'"),
        ("[candidates]\nkind='fixed'\ncount=1\n[items]\nziff=1\n", "did you mean 'zipf'"),
        ("[candidates]\nkind='fixed'\ncount=1\n[items]\nworking_set=0\n", "working_set is 0"),
        ("[candidates]\nkind='fixed'\ncount=1\n[items]\nzipf='a'\n", "zipf is 'a'"),
        ("distinct=0\n[candidates]\nkind='fixed'\ncount=1\n", "distinct is 0"),
        ("log='x.parquet'\n[items]\nzipf=1\n", r"\[items\] has nothing to say"),
        ("log='x'\n[candidates]\nkind='uniform'\nmin=1\nmax=2\n", "kind 'fixed', or left out"),
        ("distinct = = 1", "cannot be read as a workload"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_key(tmp_path, text, said):
    with pytest.raises(UserError, match=said) as caught:
        load_recipe(write(tmp_path, text))
    assert "mine.toml" in str(caught.value)


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'feed'"):
        load_recipe("feeed")


def test_recorded_requests_lie_beside_the_file(tmp_path, log):
    save_requests(log, tmp_path / "recorded.safetensors")
    path = write(tmp_path, "log='recorded.safetensors'\ndistinct=10\n")
    workload = make_workload(load_recipe(path), None)
    assert workload.name == "mine"
    assert len(workload.requests) == 10
    path = write(tmp_path, "log='recorded.safetensors'\n[candidates]\nkind='fixed'\ncount=4\n")
    assert set(make_workload(load_recipe(path), None).requests.candidates) == {4}
