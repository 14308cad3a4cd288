"""Replicas behind a name: found, taken in, let go. The resolver is the test's own."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from tiny_ranker import make_request

from client import InvalidRequest, Policies, RankerClient, ServerUnreachable
from client.discovery import Names, Target, addresses
from client.members import Endpoint, Members

NEVER_S = 10_000.0


class TestNames:
    def test_stand_for_every_address_once(self):
        found = {"a": ["10.0.0.1", "10.0.0.2"], "b": ["fd00::1", "10.0.0.2"]}
        names = Names(["c:1", "dns:///a:1", "dns:///b:1"], lambda host, port: found[host])
        assert names.change
        assert [each.url for each in names.targets()] == [
            *("c:1", "10.0.0.1:1", "10.0.0.2:1", "[fd00::1]:1")
        ]
        assert names.targets()[1] == Target("10.0.0.1:1", "a:1")
        assert not Names(["c:1", "d:1"]).change

    def test_are_found_by_the_systems_resolver(self):
        assert "127.0.0.1" in addresses("localhost", 80)

    def test_that_stand_for_nothing_are_unreachable(self):
        def fail(host, port):
            raise OSError(-2, "Name or service not known")

        with pytest.raises(ServerUnreachable, match="'dns:///a:1' cannot be resolved: Name or"):
            Names(["dns:///a:1"], fail).targets()
        with pytest.raises(ServerUnreachable, match="stands for no address"):
            Names(["dns:///a:1"], lambda *_: []).targets()

    def test_need_a_port(self):
        with pytest.raises(InvalidRequest, match="'dns:///a' has no port; give dns:///host:port"):
            RankerClient("dns:///a", "tiny")


class TestMembers:
    @pytest.fixture
    def members(self):
        members = Members(
            lambda target: Endpoint(target, None, ()), Policies(), lambda url: url == "a:1"
        )
        yield members
        for each in members.endpoints:
            each.calls.close(0)

    @staticmethod
    def urls(members):
        return {members.endpoints[place].url for place in members.present}

    def test_come_and_go(self, members):
        members.renew([Target("a:1"), Target("b:1")])
        assert [each.near for each in members.replicas] == [True, False]
        came, went, drained = members.renew([Target("b:1"), Target("c:1")], 5.0)
        assert (came, went, [each.url for each in drained]) == (1, 1, ["a:1"])
        assert self.urls(members) == {"b:1", "c:1"}

    def test_that_are_new_ramp_up_and_the_first_do_not(self, members):
        members.renew([Target("a:1")])
        members.renew([Target("a:1"), Target("b:1")], 100.0)
        assert [each.health.weight(100.0) for each in members.replicas] == [1.0, 0.1]

    def test_with_calls_under_way_are_drained_first(self, members):
        members.renew([Target("a:1"), Target("b:1")])
        members.replicas[0].under_way = 1
        assert members.renew([Target("b:1")], 5.0).drained == []
        assert members.draining
        assert self.urls(members) == {"b:1"}
        members.replicas[0].under_way = 0
        assert [each.url for each in members.renew([Target("b:1")], 6.0).drained] == ["a:1"]
        assert not members.draining

    def test_that_come_back_while_they_are_drained_are_the_same(self, members):
        members.renew([Target("a:1"), Target("b:1")])
        members.replicas[0].under_way = 1
        endpoint = members.endpoints[0]
        members.renew([Target("b:1")], 5.0)
        assert members.renew([Target("a:1"), Target("b:1")], 6.0)[:2] == (1, 0)
        assert members.endpoints[0] is endpoint
        assert members.replicas[0].health.weight(6.0) == 0.1

    def test_take_the_places_of_those_that_went(self, members):
        members.renew([Target("a:1")])
        for number in range(20):
            for each in members.renew([Target(f"b{number}:1")], 5.0).drained:
                each.calls.close(0)
        assert len(members.endpoints) == 2


@contextmanager
def stand_in(host, server):
    """Pass calls on to a server from its port at another address; give how many there were."""
    calls = []
    port = server.grpc_url.split(":")[1]
    with grpc.insecure_channel(server.grpc_url) as behind:

        class PassOn(grpc.GenericRpcHandler):
            def service(self, details):
                call = behind.unary_unary(details.method)

                def pass_on(body, context):
                    calls.append(details.method)
                    return call(body)

                return grpc.unary_unary_rpc_method_handler(pass_on)

        passing = grpc.server(ThreadPoolExecutor(2), handlers=[PassOn()])
        assert passing.add_insecure_port(f"{host}:{port}") == int(port)
        passing.start()
        yield calls
        passing.stop(10).wait()


INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.mark.end_to_end
class TestAClientOfAName:
    @pytest.fixture
    def hosts(self):
        return ["127.0.0.1"]

    @pytest.fixture
    def client(self, tiny_server, hosts):
        port = tiny_server.grpc_url.split(":")[1]
        policies = Policies(rediscover_s=NEVER_S, hedge=False, ramp_s=1e-3)
        with RankerClient(
            f"dns:///ranker.test:{port}",
            "tiny",
            timeout_s=60,
            policies=policies,
            resolver=lambda host, port: list(hosts),
        ) as opened:
            yield opened

    def test_asks_those_that_came_and_lets_calls_of_those_that_went_end(
        self, tiny_server, tiny_predictor, standing_still, client, hosts
    ):
        request = make_request(np.random.default_rng(0), 20)
        expected = tiny_predictor(request.flat())
        np.testing.assert_array_equal(client.rank(request), expected)
        with stand_in("127.0.0.2", tiny_server) as calls:
            hosts.append("127.0.0.2")
            client._fleet.rediscover()
            assert len(client.replicas()) == 2
            deadline = time.monotonic() + 60
            while not calls and time.monotonic() < deadline:
                np.testing.assert_array_equal(client.rank(request), expected)
            assert calls
            with ThreadPoolExecutor(1) as pool:
                with standing_still(tiny_server):
                    client._fleet.replicas[1].under_way += 9  # so that the first is asked
                    answer = pool.submit(client.rank, request)
                    while not client._fleet.replicas[0].under_way:
                        time.sleep(0.001)
                    client._fleet.replicas[1].under_way -= 9
                    hosts.remove("127.0.0.1")
                    client._fleet.rediscover()
                    assert [each["url"][:9] for each in client.replicas()] == ["127.0.0.2"]
                    assert not answer.done()
                np.testing.assert_array_equal(answer.result(60), expected)
            client._fleet.rediscover()
            assert not client._fleet._members.draining
            before = calls.count(INFER)
            np.testing.assert_array_equal(client.rank(request), expected)
            assert calls.count(INFER) == before + 1
        counts = client.counts()
        assert (counts["came"], counts["went"]) == (1, 1)
        assert counts["calls"] == counts["requests"]  # none was retried

    def test_keeps_those_it_knows_while_the_name_cannot_be_resolved(self, client, hosts):
        hosts.clear()
        client._fleet.rediscover()
        assert len(client.rank(make_request(np.random.default_rng(0), 3))) == 3
        assert client.counts()["discoveries_failed"] == 1

    def test_looks_again_at_once_when_one_cannot_be_reached(self, client, hosts):
        request = make_request(np.random.default_rng(0), 3)
        hosts[:] = ["127.0.0.77"]  # nothing listens there
        client.rank(request)
        client._fleet.rediscover()
        hosts[:] = ["127.0.0.1"]
        with pytest.raises(ServerUnreachable):
            client.rank(request)
        deadline = time.monotonic() + 60
        while client.replicas()[0]["url"][:9] != "127.0.0.1" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(client.rank(request)) == 3


def test_a_name_is_looked_up_again_until_the_client_is_closed_or_forgotten():
    looks = []

    def resolver(host, port):
        looks.append(threading.current_thread())
        return ["127.0.0.1"]

    def until(count):
        deadline = time.monotonic() + 60
        while len(looks) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return looks[count - 1]

    policies = Policies(rediscover_s=0.01)
    client = RankerClient("dns:///a:1", "tiny", policies=policies, resolver=resolver)
    looking = until(3)
    assert looking is not threading.current_thread()
    client.close()
    looking.join(60)
    assert not looking.is_alive()
    forgotten = RankerClient("dns:///a:1", "tiny", policies=policies, resolver=resolver)
    looking = until(len(looks) + 2)
    del forgotten
    gc.collect()
    looking.join(60)
    assert not looking.is_alive()


@pytest.mark.parametrize("options", [{"zone": "a"}, {"zones": {"a:1": "a"}}])
def test_zones_need_ones_own(options):
    with pytest.raises(InvalidRequest, match="zone and zones belong together"):
        RankerClient("a:1", "tiny", **options)


def test_replicas_of_ones_own_zone_are_near():
    zones = {"a:1": "x", "b:1": "y"}
    for given in (zones, zones.get):
        with RankerClient(["a:1", "b:1", "c:1"], "tiny", zone="x", zones=given) as client:
            assert [each["near"] for each in client.replicas()] == [True, False, False]
