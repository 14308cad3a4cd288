"""Options of stages: lists in a text, and the same words for the same mistake."""

from types import SimpleNamespace

import pytest

from optimize.option_values import names_in, require_least_one, require_share
from rankers.errors import UserError


@pytest.mark.parametrize(
    ("text", "names"),
    [("", ()), (" , ", ()), ("one", ("one",)), (" user, item*,", ("user", "item*"))],
)
def test_names_stand_between_commas(text, names):
    assert names_in(text) == names


@pytest.mark.parametrize("value", [-0.1, 0, 1, 1.5, float("nan")])
def test_a_share_takes_something_and_leaves_something(value):
    require_share("cut", SimpleNamespace(budget=0.5), "budget")
    with pytest.raises(UserError, match=f"stage 'cut': budget is {value}; expected a share above"):
        require_share("cut", SimpleNamespace(budget=value), "budget")


def test_the_option_that_is_less_than_one_is_named():
    given = SimpleNamespace(rounds=1, requests=0)
    require_least_one("cut", given, "rounds")
    with pytest.raises(UserError, match="stage 'cut': requests is 0; expected 1 or more"):
        require_least_one("cut", given, "rounds", "requests")
