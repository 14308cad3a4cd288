"""Requests through shared memory to real servers, and what becomes of the memory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_ranker import SIGNATURE, make_request
from tritonclient.grpc import service_pb2

from client import AsyncRankerClient, DeadlineExceeded, InvalidRequest, Policies, RankerClient
from client.channel import open_channel
from client.request_bytes import RequestBytes
from client.shared_regions import FOLDER, Region, abandoned, sweep, this_process
from rankers.wire import request_bytes

pytestmark = pytest.mark.end_to_end
REQUEST = make_request(np.random.default_rng(0), 20)


def until(holds):
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert holds()


def connections_of(client):
    return client._fleet.endpoints[0].calls._connections


def regions_of(client):
    return [each.region for each in connections_of(client)._all if each.region is not None]


def warm(client, request=REQUEST):
    """Ask until requests go through shared memory."""
    deadline = time.monotonic() + 60
    while not regions_of(client) and time.monotonic() < deadline:
        client.rank(request)
    assert regions_of(client)
    until(lambda: connections_of(client)._idle)


def files(process):
    return [each.name for each in FOLDER.iterdir() if f"-{process}-" in each.name]


def registered(url):
    channel, stub = open_channel(url)
    with channel:
        request = service_pb2.SystemSharedMemoryStatusRequest()
        return list(stub.SystemSharedMemoryStatus(request, timeout=30).regions)


@pytest.fixture
def shared(monkeypatch):
    """Count the requests that were written to shared memory."""
    sizes = []
    write = RequestBytes.shared_body

    def counted(self, packed, candidates, timeout_s, region):
        sizes.append(candidates)
        return write(self, packed, candidates, timeout_s, region)

    monkeypatch.setattr(RequestBytes, "shared_body", counted)
    return sizes


@pytest.mark.parametrize("limit", [False, True], ids=["alone", "with policies"])
def test_scores_are_those_of_the_message(tiny_server, tiny_predictor, shared, limit):
    options = {"policies": Policies(limit=limit), "shared_memory": "always"}
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30, **options) as client:
        warm(client)
        shared.clear()
        sizes = [1, 7, 20, 500, 3, 333]
        for count in sizes:
            request = make_request(np.random.default_rng(count), count)
            np.testing.assert_array_equal(client.rank(request), tiny_predictor(request.flat()))
        assert shared == sizes
        (name, *_) = [each.name for each in regions_of(client)]
        assert name in registered(tiny_server.grpc_url)
    assert not files(os.getpid())
    assert name not in registered(tiny_server.grpc_url)


def test_so_they_are_for_asyncio(tiny_server, tiny_predictor, shared):
    async def ask():
        async with AsyncRankerClient(
            tiny_server.grpc_url, "tiny", timeout_s=30, shared_memory="always"
        ) as client:
            while len(shared) < 20:
                await client.rank(REQUEST)
            return await client.rank(REQUEST)

    np.testing.assert_array_equal(asyncio.run(ask()), tiny_predictor(REQUEST.flat()))


def test_by_itself_only_large_requests_go_there_and_larger_ones_get_more(
    tiny_server, shared, monkeypatch
):
    monkeypatch.setattr("client.sharing.THRESHOLD_BYTES", 4096)
    monkeypatch.setattr("client.sharing._LEAST_BYTES", 4096)
    small, large, huge = (make_request(np.random.default_rng(1), n) for n in (20, 500, 2000))
    assert request_bytes(SIGNATURE, 500) > 4096 > request_bytes(SIGNATURE, 20)
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as client:
        for _ in range(20):
            client.rank(small)
        assert not shared
        warm(client, large)
        client.rank(small)
        assert 20 not in shared
        while 2000 not in shared:
            client.rank(huge)
        assert all(each.size >= request_bytes(SIGNATURE, 2000) for each in regions_of(client))


def test_whoever_wants_none_has_none(tiny_server, shared):
    large = make_request(np.random.default_rng(1), 2000)
    url = tiny_server.grpc_url
    with RankerClient(url, "tiny", timeout_s=30, shared_memory="never") as client:
        for _ in range(20):
            client.rank(large)
        assert not regions_of(client)
    with pytest.raises(InvalidRequest, match="shared_memory is 'perhaps'; give 'auto', 'never'"):
        RankerClient(url, "tiny", shared_memory="perhaps")


def test_a_region_that_the_server_forgot_costs_no_answer(tiny_server, tiny_predictor):
    url = tiny_server.grpc_url
    with RankerClient(url, "tiny", timeout_s=30, shared_memory="always") as client:
        warm(client)
        channel, stub = open_channel(url)
        with channel:
            for name in (each.name for each in regions_of(client)):
                request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
                stub.SystemSharedMemoryUnregister(request, timeout=30)
        np.testing.assert_array_equal(client.rank(REQUEST), tiny_predictor(REQUEST.flat()))


def test_a_late_calls_region_is_not_written_to_until_it_ended(tiny_server, standing_still):
    url = tiny_server.grpc_url
    with RankerClient(url, "tiny", timeout_s=30, shared_memory="always") as client:
        warm(client)
        idle = list(connections_of(client)._idle)
        with standing_still(tiny_server):
            with pytest.raises(DeadlineExceeded):
                client.rank(REQUEST, timeout_s=0.001)
            (taken,) = set(idle) - set(connections_of(client)._idle)
            assert taken.region is not None
        until(lambda: taken in connections_of(client)._idle)


def test_what_a_killed_client_left_is_removed_by_the_next(tiny_server):
    code = (
        "import sys, time, test_shared_memory as t\n"
        "client = t.RankerClient(sys.argv[1], 'tiny', timeout_s=30, shared_memory='always')\n"
        "t.warm(client)\n"
        "print('warm', flush=True)\n"
        "time.sleep(60)\n"
    )
    here = Path(__file__).parent
    url = tiny_server.grpc_url
    with subprocess.Popen(
        [sys.executable, "-c", code, url],
        env=os.environ | {"PYTHONPATH": f"{here}:{here.parent}:{here.parents[1]}"},
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout.readline() == b"warm\n"
        left = files(child.pid)
        assert left
        assert set(left) <= set(registered(url))
        assert not set(left) & set(abandoned(left))  # while it lives it is left alone
        os.kill(child.pid, signal.SIGKILL)
        child.wait(30)
    assert files(child.pid) == left
    with RankerClient(url, "tiny", timeout_s=30, shared_memory="always") as client:
        warm(client)
        assert not files(child.pid)
        assert not set(left) & set(registered(url))


def test_a_server_that_comes_back_gets_new_regions(start_server, tiny_artifact, tmp_path):
    from optimize.triton.config import ServingOptions
    from optimize.triton.repository import deploy

    options = ServingOptions(queue_timeout_ms=30_000, warm_up_candidates=(1,))
    deploy(tiny_artifact, tmp_path / "models", "tiny", options=options)
    with start_server(tmp_path / "models") as server:
        client = RankerClient(server.grpc_url, "tiny", timeout_s=30, shared_memory="always")
        warm(client)
        expected, before = client.rank(REQUEST), {each.name for each in regions_of(client)}
        os.kill(server.pid, signal.SIGKILL)
    port = int(server.grpc_url.rsplit(":", 1)[1])
    with client, start_server(tmp_path / "models", grpc_port=port):
        np.testing.assert_array_equal(client.rank(REQUEST), expected)
        warm(client)
        np.testing.assert_array_equal(client.rank(REQUEST), expected)
        after = {each.name for each in regions_of(client)}
        assert after <= set(registered(server.grpc_url))
        assert not before & (after | set(files(os.getpid())))


class TestNames:
    def test_of_living_processes_and_of_strangers_are_left_alone(self):
        namespace, process, began = this_process()
        token = "0" * 16
        kept = [
            f"rankserve-{namespace}-{process}-{began}-{token}",
            f"rankserve-{namespace + 1}-{2**30}-1-{token}",  # of another container
            "rankserve-bench-1",
            "other",
        ]
        gone = [
            f"rankserve-{namespace}-{process}-{began - 1}-{token}",  # its number was given again
            f"rankserve-{namespace}-{2**30}-1-{token}",
        ]
        assert list(abandoned(kept + gone)) == gone

    def test_are_swept_with_their_files(self):
        namespace = this_process().namespace
        left = FOLDER / f"rankserve-{namespace}-{2**30}-1-{'0' * 16}"
        left.write_bytes(b"x")
        region = Region(4096)
        try:
            assert left.name in sweep()
            assert not left.exists()
            assert (FOLDER / region.name).exists()
        finally:
            region.close()
        assert not (FOLDER / region.name).exists()


def test_memory_that_is_not_there_is_said_and_leaves_nothing():
    with pytest.raises(OSError, match=r"No space left|File too large|Cannot allocate"):
        Region(1 << 50)
    assert not files(os.getpid())
