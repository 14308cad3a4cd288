from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rankers.features import Feature, Signature
from rankers.requests import RankingRequest
from rankers.wire import pack_request, request_bytes, wire_tensors

shapes = st.sampled_from([(), (1,), (5,), (2, 3)])
features = st.lists(
    st.tuples(
        st.sampled_from(["int64", "float32", "bool"]), shapes, st.sampled_from(["user", "item"])
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(features, st.integers(1, 6), st.integers(0, 99))
def test_unpacking_what_was_packed_gives_the_request(drawn, candidates, seed):
    made = [Feature(f"f{i}", dtype, shape, side) for i, (dtype, shape, side) in enumerate(drawn)]
    signature = Signature((*made, Feature("anchor", "float32")))
    generator = np.random.default_rng(seed)

    def column(feature, rows):
        return generator.integers(0, 2, (rows, *feature.shape)).astype(feature.dtype)

    request = RankingRequest(
        {each.name: column(each, 1) for each in signature.user},
        {each.name: column(each, candidates) for each in signature.item},
    )
    tensors = wire_tensors(signature)
    packed = pack_request(tensors, request)
    assert request_bytes(signature, candidates) == sum(x.nbytes for x in packed.values())
    flat = sum(x.nbytes for x in request.flat().values())
    assert request_bytes(signature, candidates, user_rows=candidates) == flat
    assert len({(each.side, each.dtype) for each in tensors}) == len(tensors) == len(packed)
    found = {}
    for tensor in tensors:
        array = packed[tensor.name]
        rows = (1,) if tensor.side == "user" else (1, candidates)
        assert array.shape == (*rows, tensor.width)
        assert array.dtype == tensor.dtype
        found |= tensor.unpack(array.reshape(-1, tensor.width))
    for name, expected in (request.user | request.items).items():
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype
        assert found[name].flags.c_contiguous
