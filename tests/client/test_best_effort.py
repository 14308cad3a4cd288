"""Less than all scores, where they do not come: what is answered, and that it says so."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_ranker import make_request

from client import (
    AsyncRankerClient,
    DeadlineExceeded,
    Degrading,
    InvalidRequest,
    ModelFailed,
    ModelNotFound,
    Policies,
    Ranked,
    RankerClient,
    ServerOverloaded,
)
from client.best_effort import LESS, WHOLE, BestEffort, Less
from rankers.errors import UserError

NAN = np.float32("nan")


def asking(server, degrade, **policies):
    return RankerClient(
        server.grpc_url, "tiny", timeout_s=30, policies=Policies(degrade=degrade, **policies)
    )


@pytest.fixture
def random():
    return np.random.default_rng(17)


def spoilt(request, place):
    """Make the score of one candidate NaN, which fails its whole call."""
    request.items["price"][place, 0] = -1.0
    return request


@pytest.mark.end_to_end
class TestAServer:
    def test_that_answers_gives_all_scores(self, tiny_server, tiny_predictor, random):
        request = make_request(random, 4001)  # three calls
        with asking(tiny_server, Degrading(fewer=2, partial=True, after=1.0)) as client:
            ranked = client.rank_best_effort(request)
            assert "degraded" not in client.counts()
        assert (ranked.complete, ranked.how, ranked.model) == (True, "", "tiny")
        np.testing.assert_allclose(ranked.scores, tiny_predictor(request.flat()), atol=1e-6)

    def test_that_is_overloaded_is_asked_for_a_variants_scores(
        self, tiny_server, tiny_predictor, random
    ):
        request = make_request(random, 30)
        degrade = Degrading(variant="tiny_openvino")
        with asking(tiny_server, degrade, limit=True) as client:
            client._fleet.replicas[0].under_way = 1000
            with pytest.raises(ServerOverloaded):
                client.rank(request)
            ranked = client.rank_best_effort(request)
            client._fleet.replicas[0].under_way = 0
            assert client.counts()["degraded"] == 1
        assert (ranked.complete, ranked.how) == (False, "variant")
        assert ranked.model == "tiny_openvino"
        np.testing.assert_allclose(ranked.scores, tiny_predictor(request.flat()), atol=1e-3)

    def test_that_fails_on_all_is_asked_for_the_first(self, tiny_server, tiny_predictor, random):
        request = spoilt(make_request(random, 5), 4)
        with asking(tiny_server, Degrading(fewer=3)) as client:
            ranked = client.rank_best_effort(request)
        assert (ranked.complete, ranked.how) == (False, "fewer candidates")
        expected = tiny_predictor(make_request(np.random.default_rng(17), 5).flat())
        np.testing.assert_allclose(ranked.scores[:3], expected[:3], atol=1e-6)
        assert np.isnan(ranked.scores[3:]).all()

    def test_that_fails_on_a_part_gives_the_others(self, tiny_server, tiny_predictor, random):
        request = make_request(random, 4001)
        expected = tiny_predictor(request.flat())
        with asking(tiny_server, Degrading(partial=True)) as client:
            ranked = client.rank_best_effort(spoilt(request, 4000))
        assert (ranked.complete, ranked.how) == (False, "partial")
        missing = np.isnan(ranked.scores)
        np.testing.assert_array_equal(np.flatnonzero(missing), np.arange(2667, 4001))
        np.testing.assert_allclose(ranked.scores[~missing], expected[~missing], atol=1e-6)

    def test_that_fails_on_everything_is_an_error(self, tiny_server, random):
        request = spoilt(make_request(random, 3), 0)
        with (
            asking(tiny_server, Degrading(fewer=2, partial=True)) as client,
            pytest.raises(ModelFailed, match="score of candidate 0 is nan"),
        ):
            client.rank_best_effort(request)

    def test_that_stands_still_is_an_error_at_the_deadline(
        self, tiny_server, standing_still, random
    ):
        request = make_request(random, 3)
        with asking(tiny_server, Degrading(fewer=2, partial=True)) as client:
            client.rank(request)
            with standing_still(tiny_server), pytest.raises(DeadlineExceeded):
                client.rank_best_effort(request, timeout_s=0.01)

    def test_is_not_asked_for_less_where_the_request_is_wrong(self, tiny_server, random):
        request = make_request(random, 3)
        request.items["item_id"][0] = 10**6
        with (
            asking(tiny_server, Degrading(fewer=1, partial=True)) as client,
            pytest.raises(InvalidRequest, match="'item_id' holds the ID 1000000"),
        ):
            client.rank_best_effort(request)

    def test_without_the_variant_says_so_at_the_first_request(self, tiny_server, random):
        with (
            asking(tiny_server, Degrading(variant="tiny_int8")) as client,
            pytest.raises(ModelNotFound, match="no model 'tiny_int8'"),
        ):
            client.rank_best_effort(make_request(random, 3))

    def test_is_asked_the_same_by_coroutines(self, tiny_server, random):
        async def use():
            degrade = Degrading(variant="tiny_openvino", fewer=2)
            async with AsyncRankerClient(
                tiny_server.grpc_url, "tiny", timeout_s=30, policies=Policies(degrade=degrade)
            ) as client:
                whole = await client.rank_best_effort(make_request(random, 2))
                assert (whole.complete, len(whole.scores)) == (True, 2)
                ranked = await client.rank_best_effort(spoilt(make_request(random, 5), 4))
                assert (ranked.complete, ranked.how) == (False, "variant, fewer candidates")
                np.testing.assert_array_equal(np.isnan(ranked.scores), [0, 0, 1, 1, 1])
                with pytest.raises(InvalidRequest, match="no candidates"):
                    await client.rank_best_effort(make_request(random, 0))

        asyncio.run(use())


def test_nothing_is_degraded_that_was_not_asked_for(random):
    with (
        RankerClient("127.0.0.1:1", "tiny") as client,
        pytest.raises(InvalidRequest, match="nothing may be answered in place of all scores"),
    ):
        client.rank_best_effort(make_request(random, 3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "nothing is allowed"),
        ({"fewer": 0}, "fewer is 0"),
        ({"partial": True, "after": 1.5}, "after is 1.5; it is a share"),
    ],
)
def test_what_makes_no_sense_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        Degrading(**options)


def test_the_best_are_chosen_among_those_with_scores():
    ranked = Ranked(np.array([0.1, NAN, 0.9, NAN, 0.9], np.float32), False, "partial", "tiny")
    places, best = ranked.top_k(10)
    assert places.tolist() == [2, 4, 0]
    assert best.tolist() == pytest.approx([0.9, 0.9, 0.1])
    assert ranked.top_k(1)[0].tolist() == [2]
    with pytest.raises(InvalidRequest, match="k is 0"):
        ranked.top_k(0)


class Asked:
    """What `BestEffort` sees of a gathering: the test says what came."""

    def __init__(self, parts):
        self.answers, self.failures, self.wait_s = [None] * parts, {}, 9.0

    @property
    def done(self):
        return all(
            each is not None or place in self.failures for place, each in enumerate(self.answers)
        )

    def advance(self, heard=None):
        if heard:
            place, what = heard
            (self.failures if isinstance(what, Exception) else self.answers)[place] = what


class TestTheOrderOfThings:
    @pytest.fixture
    def asked(self):
        """A request of three candidates in two parts, and its first one alone in place of it."""
        whole, less = Asked(2), Asked(1)
        parts = [SimpleNamespace(candidates=2), SimpleNamespace(candidates=1)]
        begun = []

        def gather(seconds):
            begun.append(seconds)
            return less

        def make(**options):
            options = {"fewer": 1, "after": 0.0} | options
            made = BestEffort(
                whole,
                parts,
                Less(parts[1:], gather, "tiny", "fewer candidates"),
                degrading=Degrading(**options),
                model="tiny",
                timeout_s=1000.0,
            )
            made._count = 3
            return made

        return make, begun

    def test_less_is_asked_for_after_its_share_of_the_budget(self, asked):
        make, begun = asked
        patient = make(after=0.5)
        patient.advance()
        assert begun == []
        assert patient.wait_s == 9.0
        make().advance()
        assert begun == [pytest.approx(1000.0, abs=100.0)]

    def test_less_is_asked_for_at_once_when_a_part_fails(self, asked):
        make, begun = asked
        asking = make(after=1.0)
        asking.advance()
        asking.advance((WHOLE, (1, ServerOverloaded("full"))))
        assert len(begun) == 1
        assert not asking.done

    def test_the_whole_counts_if_it_comes_first(self, asked):
        asking = asked[0]()
        asking.advance()
        asking.advance((WHOLE, (1, np.float32([3]))))
        asking.advance((WHOLE, (0, np.float32([1, 2]))))
        assert asking.answer.complete
        assert asking.answer.scores.tolist() == [1, 2, 3]

    def test_less_counts_if_it_comes_first(self, asked):
        asking = asked[0]()
        asking.advance()
        asking.advance((LESS, (0, np.float32([5]))))
        assert not asking.answer.complete
        np.testing.assert_array_equal(asking.answer.scores, np.float32([5, NAN, NAN]))

    @pytest.mark.parametrize("partial", [False, True])
    def test_parts_count_when_nothing_else_came(self, asked, partial):
        asking = asked[0](partial=partial)
        asking.advance()
        asking.advance((WHOLE, (0, np.float32([1, 2]))))
        asking.advance((LESS, (0, ServerOverloaded("full"))))
        assert not asking.done
        late = (WHOLE, (1, DeadlineExceeded("too late")))
        if not partial:
            with pytest.raises(DeadlineExceeded):
                asking.advance(late)
            return
        asking.advance(late)
        assert asking.answer.how == "partial"
        np.testing.assert_array_equal(asking.answer.scores, np.float32([1, 2, NAN]))

    def test_a_mistake_of_the_callers_ends_it(self, asked):
        asking = asked[0](partial=True)
        asking.advance()
        with pytest.raises(InvalidRequest):
            asking.advance((WHOLE, (0, InvalidRequest("no such item"))))
