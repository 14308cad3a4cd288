import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_ranker import make_request

from client import InvalidRequest, RankerClient
from client.metrics import BUCKETS_S, Histogram, prometheus

SAMPLE = re.compile(r'^([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)+)\} (\S+)$')


def samples(text):
    """Read the text format: every line is a comment of two kinds or a sample."""
    found = {}
    for line in text.splitlines():
        if not re.match(r"# (HELP|TYPE) [a-z_]+ \S", line):
            name, labels, value = SAMPLE.match(line).groups()
            found[name, labels] = float(value)
    return found


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_every_request_at_and_below_each_bound(latencies_s):
    histogram = Histogram()
    for each in latencies_s:
        histogram.observe(each)
    found = samples("\n".join(histogram.lines("x", 'model="m"')))
    for bound in (*BUCKETS_S, np.inf):
        le = "+Inf" if bound == np.inf else str(bound)
        expected = sum(each <= bound for each in latencies_s)
        assert found["x_bucket", f'model="m",le="{le}"'] == expected
    assert found["x_count", 'model="m"'] == len(latencies_s)
    assert found["x_sum", 'model="m"'] == pytest.approx(sum(latencies_s))


def test_names_are_escaped():
    (sample, *_) = samples(prometheus('a"\\\n', {"requests": 3}, [], None)).items()
    assert sample == (("rankserve_client_requests_total", 'model="a\\"\\\\\\n"'), 3)


@pytest.mark.end_to_end
def test_a_client_tells_what_happened(tiny_server):
    random = np.random.default_rng(0)
    url = tiny_server.grpc_url
    with RankerClient(url, "tiny", timeout_s=30, latencies=True) as client:
        client.rank(make_request(random, 3))
        client.rank(make_request(random, 4001))  # three calls
        with pytest.raises(InvalidRequest):
            client.rank(make_request(random, 0))
        found = samples(client.metrics())
    assert found["rankserve_client_requests_total", 'model="tiny"'] == 4
    assert found["rankserve_client_calls_total", 'model="tiny"'] == 4
    assert found["rankserve_client_seconds_count", 'model="tiny"'] == 2
    assert found["rankserve_client_replica_under_way", f'model="tiny",replica="{url}"'] == 0


@pytest.mark.end_to_end
def test_a_token_is_in_no_message_and_no_metric(tiny_server):
    with RankerClient(
        tiny_server.grpc_url, "tinny", metadata={"authorization": "Bearer s3cret"}, timeout_s=30
    ) as client:
        with pytest.raises(Exception, match="tinny") as caught:
            client.rank(make_request(np.random.default_rng(0), 3))
        assert "s3cret" not in str(caught.value)
        assert "s3cret" not in client.metrics()
