"""The backend's own packing and checks, without a server around them."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.instruction_sets import instruction_sets
from optimize.triton.version_folder import BACKEND_MODEL
from rankers.features import Feature, Signature
from rankers.requests import RankingRequest, join_requests
from rankers.wire import pack_request, wire_tensors


@pytest.fixture(scope="module")
def backend():
    """Import model.py as the server does; only the server has triton_python_backend_utils."""
    absent = types.ModuleType("triton_python_backend_utils")
    sys.modules[absent.__name__] = absent
    try:
        spec = importlib.util.spec_from_file_location("backend_model", BACKEND_MODEL)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[absent.__name__]


@st.composite
def signatures(draw):
    kinds = st.sampled_from(["int64", "int32", "float32", "float64", "float16", "bool"])
    shapes = st.sampled_from([(), (1,), (3,), (2, 2)])
    features = [Feature("first", draw(kinds), draw(shapes), "item")]
    for place in range(draw(st.integers(0, 8))):
        dtype = draw(kinds)
        cardinality = draw(st.sampled_from([None, 5])) if dtype.startswith("int") else None
        side = draw(st.sampled_from(["user", "item"]))
        features.append(Feature(f"f{place}", dtype, draw(shapes), side, cardinality))
    return Signature(tuple(draw(st.permutations(features))))


def draw_request(signature, random, candidates):
    def column(feature, rows):
        return random.integers(0, 2, (rows, *feature.shape)).astype(feature.dtype)

    return RankingRequest(
        {each.name: column(each, 1) for each in signature.user},
        {each.name: column(each, candidates) for each in signature.item},
    )


@given(signatures())
def test_its_layout_is_that_of_the_wire_module(backend, signature):
    ours = wire_tensors(signature)
    theirs = backend.wire_tensors(signature.to_json())
    assert [each.name for each in theirs] == [each.name for each in ours]
    for mine, other in zip(ours, theirs, strict=True):
        assert [each[0] for each in other.features] == [each.name for each in mine.features]
        assert len(other.upper) == mine.width


@settings(max_examples=50)
@given(signatures(), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 99))
def test_joined_requests_unpack_to_the_flat_view(backend, signature, counts, seed):
    random = np.random.default_rng(seed)
    requests = [draw_request(signature, random, count) for count in counts]
    expected = join_requests(requests).flat()
    parts = [pack_request(wire_tensors(signature), each) for each in requests]

    model = backend.TritonPythonModel()
    model.tensors = backend.wire_tensors(signature.to_json())
    joined = model.join(parts)
    for tensor in model.tensors:
        assert not tensor.holds_bad(joined[tensor.name])
        repeats = counts if tensor.side == "user" else None
        for name, column in tensor.unpack(joined[tensor.name], repeats).items():
            np.testing.assert_array_equal(column, expected.pop(name), strict=True)
            assert column.flags.c_contiguous
    assert not expected


@pytest.mark.parametrize(
    ("feature", "value", "said"),
    [
        (Feature("id", "int64", (), "item", 7), 7, "'id' holds the ID 7 in row 2; IDs run"),
        (Feature("id", "int32", (3,), "item", 7), -1, "'id' holds the ID -1 in row 2; IDs run"),
        (Feature("x", "float32"), np.nan, "'x' holds a value that is not finite in row 2"),
        (Feature("x", "float16", (2,)), np.inf, "'x' holds a value that is not finite in row 2"),
    ],
)
def test_a_bad_value_is_described_by_feature_and_row(backend, feature, value, said):
    other = Feature("other", feature.dtype, (2,), "item", feature.cardinality)
    signature = Signature((other, feature))
    request = draw_request(signature, np.random.default_rng(0), 4)
    request.items[feature.name].reshape(4, -1)[2, -1] = value
    (tensor,) = backend.wire_tensors(signature.to_json())
    rows = pack_request(wire_tensors(signature), request)[tensor.name][0]
    assert said in tensor.describe_bad(rows)


def test_an_id_without_cardinality_may_be_anything(backend):
    signature = Signature((Feature("free", "int64"), Feature("id", "int64", (), "item", 3)))
    (tensor,) = backend.wire_tensors(signature.to_json())
    info = np.iinfo(np.int64)
    assert not tensor.holds_bad(np.array([[info.min, 0], [info.max, 2]]))
    assert tensor.holds_bad(np.array([[info.min, 0], [info.max, 3]]))


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_flipped_byte_anywhere_is_refused_by_name(backend, tiny_artifact, tmp_path, name):
    folder = tmp_path / "1"
    shutil.copytree(tiny_artifact.folder, folder)
    backend.verified_manifest(folder)
    content = (folder / name).read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 60):
        flipped = bytearray(content)
        flipped[place] ^= 1
        # A flipped bit of white space leaves a manifest's meaning alone only if it stays one.
        (folder / name).write_bytes(flipped)
        with pytest.raises(RuntimeError, match=name):
            backend.verified_manifest(folder)


def test_a_missing_file_is_refused_by_name(backend, tiny_artifact, tmp_path):
    folder = tmp_path / "1"
    shutil.copytree(tiny_artifact.folder, folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(RuntimeError, match=r"model\.onnx cannot be read"):
        backend.verified_manifest(folder)


def test_it_refuses_a_model_made_for_another_cpu(backend, tmp_path):
    backend.refuse_other_cpu({"requires": {"isa": " ".join(instruction_sets())}}, tmp_path)
    with pytest.raises(RuntimeError, match="made for a CPU with made_up, which this one lacks"):
        backend.refuse_other_cpu({"requires": {"isa": "made_up"}}, tmp_path)


def test_a_server_without_torch_says_what_needs_it(backend, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv(backend.TORCH_PATH, "")
    with pytest.raises(RuntimeError, match="torch artifacts need torch and rankserve where the"):
        backend.open_by_rankserve(tmp_path, {"format": "torch"}, 1)
