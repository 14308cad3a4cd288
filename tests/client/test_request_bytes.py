import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from client.request_bytes import RequestBytes
from rankers.features import Feature, Signature
from rankers.wire import wire_tensors

FEATURES = (
    Feature("user_id", "int64", (), "user", 50),
    Feature("context", "float32", (4,), "user"),
    Feature("flag", "bool", (), "user"),
    Feature("item_id", "int64", (3,), "item"),
    Feature("price", "float16", (2,), "item"),
    Feature("count", "int32", (), "item"),
    Feature("age", "float64", (), "item"),
)
TYPES = {
    "int64": "INT64",
    "int32": "INT32",
    "float64": "FP64",
    "float32": "FP32",
    "float16": "FP16",
    "bool": "BOOL",
}


def by_protobuf(tensors, packed, candidates, timeout_us):
    message = service_pb2.ModelInferRequest(model_name="shop", model_version="3")
    message.parameters["timeout"].int64_param = timeout_us
    message.outputs.add(name="score")
    for each in tensors:
        shape = [1, each.width] if each.side == "user" else [1, candidates, each.width]
        message.inputs.add(name=each.name, datatype=TYPES[each.dtype], shape=shape)
        message.raw_input_contents.append(packed[each.name].tobytes())
    return message


# Drawing is slow on a busy machine, and nothing else is.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    features=st.lists(st.sampled_from(FEATURES[:-1]), unique=True).map(
        lambda some: (*some, FEATURES[-1])
    ),
    candidates=st.integers(1, 5000),
    timeout_us=st.integers(1, 10**13),
)
def test_a_request_is_what_protobuf_would_write(features, candidates, timeout_us):
    tensors = wire_tensors(Signature(features))
    random = np.random.default_rng(candidates)
    packed = {
        each.name: random.integers(
            0, 2, (1 if each.side == "user" else candidates, each.width)
        ).astype(each.dtype)
        for each in tensors
    }
    writer = RequestBytes("shop", tensors, "3")
    for _ in range(2):  # the second has its head from the first
        body = writer.body(packed, candidates, timeout_us / 1e6)
        parsed = service_pb2.ModelInferRequest.FromString(body)
        assert parsed == by_protobuf(tensors, packed, candidates, timeout_us)


@pytest.mark.parametrize(
    ("timeout_s", "expected_us"), [(float("inf"), 2**62), (1e-9, 1), (1e30, 2**62)]
)
def test_a_timeout_that_no_queue_takes_is_the_nearest_it_does(timeout_s, expected_us):
    tensors = wire_tensors(Signature(FEATURES[-1:]))
    body = RequestBytes("shop", tensors).body({"item_float64": np.ones((1, 1))}, 1, timeout_s)
    parsed = service_pb2.ModelInferRequest.FromString(body)
    assert parsed.parameters["timeout"].int64_param == expected_us


def test_more_sizes_than_are_kept_are_written_all_the_same(monkeypatch):
    monkeypatch.setattr("client.request_bytes.KEPT", 2)
    tensors = wire_tensors(Signature(FEATURES[-1:]))
    writer = RequestBytes("shop", tensors)
    for count in (1, 2, 3, 4):
        body = writer.body({"item_float64": np.ones((count, 1))}, count, 1.0)
        (entry,) = service_pb2.ModelInferRequest.FromString(body).inputs
        assert list(entry.shape) == [1, count, 1]
    assert len(writer._heads) == 2
