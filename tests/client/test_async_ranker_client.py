from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from tiny_ranker import SIGNATURE, make_request

from client import AsyncRankerClient, DeadlineExceeded, InvalidRequest, ModelNotFound

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def random():
    return np.random.default_rng(11)


def with_client(server, use, *, model="tiny"):
    async def run():
        async with AsyncRankerClient(server.grpc_url, model, timeout_s=30) as client:
            return await use(client)

    return asyncio.run(run())


def test_scores_are_those_of_the_same_artifact_in_process(tiny_server, tiny_predictor, random):
    requests = [make_request(random, int(n)) for n in random.integers(1, 3000, 30)]

    async def use(client):
        return await asyncio.gather(*(client.rank(each) for each in requests))

    for request, scores in zip(requests, with_client(tiny_server, use), strict=True):
        np.testing.assert_allclose(scores, tiny_predictor(request.flat()), rtol=0, atol=1e-6)


def test_the_surface_is_that_of_the_other_client(tiny_server, random):
    request = make_request(random, 20)

    async def use(client):
        assert await client.signature() == SIGNATURE
        scores, same = await client.rank_many([request, request])
        np.testing.assert_array_equal(scores, same)
        places, best = await client.top_k(request, 3)
        np.testing.assert_array_equal(best, np.sort(scores)[::-1][:3])
        np.testing.assert_array_equal(scores[places], best)
        made = await client.request({n: c[0] for n, c in request.user.items()}, request.items)
        np.testing.assert_array_equal(await client.rank(made), scores)
        with pytest.raises(InvalidRequest, match="k is 0"):
            await client.top_k(request, 0)
        del request.items["price"]
        with pytest.raises(InvalidRequest, match="item feature 'price' is missing"):
            await client.rank(request)

    with_client(tiny_server, use)


def test_an_unknown_model_is_named(tiny_server, random):
    async def use(client):
        with pytest.raises(ModelNotFound, match="no model 'tinny'"):
            await client.rank(make_request(random, 3))

    with_client(tiny_server, use, model="tinny")


def test_a_deadline_that_passes_lets_the_call_run_to_its_end(tiny_server, standing_still, random):
    async def use(client):
        await client.rank(make_request(random, 3))
        with standing_still(tiny_server), pytest.raises(DeadlineExceeded, match=r"within 1 ms"):
            await client.rank(make_request(random, 2000), timeout_s=1e-3)
        assert len(await client.rank(make_request(random, 5))) == 5
        calls = client._fleet.endpoints[0].calls
        await asyncio.to_thread(calls._count.wait, 30)
        assert calls.under_way == 0

    with_client(tiny_server, use)


def test_a_task_that_is_cancelled_lets_its_call_run_to_its_end(tiny_server, standing_still, random):
    async def use(client):
        await client.rank(make_request(random, 3))
        calls = client._fleet.endpoints[0].calls
        with standing_still(tiny_server):
            task = asyncio.create_task(client.rank(make_request(random, 2000)))
            await asyncio.sleep(0)  # it sends, and waits
            assert calls.under_way == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.to_thread(calls._count.wait, 30)
        # An answer, which a cancelled call would not have had.
        assert client.replicas()[0]["under_way"] == 0
        assert client._fleet.replicas[0].health.answers == 2

    with_client(tiny_server, use)


def test_a_loop_that_is_gone_stops_nobody_else(tiny_server, random):
    client = AsyncRankerClient(tiny_server.grpc_url, "tiny", timeout_s=30)

    async def leave():
        await client.signature()
        _ = asyncio.create_task(client.rank(make_request(random, 2000)))  # noqa: RUF006 - left
        await asyncio.sleep(0)

    asyncio.run(leave())
    answers = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(asyncio.run(client.rank(make_request(random, 3))))
        )
        for _ in range(2)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert [len(each) for each in answers] == [3, 3]
    asyncio.run(client.close())
