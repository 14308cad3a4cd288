"""Which operators take 16 bits: what needs float32 is told by its kind or its reach."""

import numpy as np
import pytest
from small_graphs import drawn, make_model, node

from optimize.half.choosing import choose_operators
from optimize.half.ranges import Range, range_of, weight_ranges
from optimize.value_types import value_types
from rankers.errors import UserError

LAYERS = [
    node("MatMul", "x w1", "first"),
    node("Relu", "first", "relu"),
    node("Softmax", "relu", "soft"),
    node("Reshape", "soft shape", "moved"),
    node("ReduceSum", "moved axis", "total"),
    node("Add", "relu total", "both"),
    node("MatMul", "both w2", "last"),
    node("Reshape", "last flat", "flattened"),
    node("Sigmoid", "flattened", "score"),
]
WEIGHTS = {
    "w1": drawn(4, 4),
    "w2": drawn(4, 1),
    "shape": np.array([-1, 4]),
    "axis": np.array([1]),
    "flat": np.array([-1]),
}


def choose(nodes=None, weights=None, ranges=None, **options):
    model = make_model(nodes or LAYERS, WEIGHTS | (weights or {}))
    options.setdefault("headroom", 4.0)
    found = weight_ranges(model.graph.initializer) | (ranges or {})
    return choose_operators(model, value_types(model), found, **options)


def test_products_and_elementwise_operators_take_16_bits_and_the_rest_is_said_why():
    chosen = choose()
    assert chosen.half == {"first", "relu", "both"}
    assert {name: why for name, (_, why) in chosen.kept.items()} == {
        "soft": "normalizations",
        "moved": "between such",
        "total": "sums of many terms",
        "last": "the score",
        "flattened": "the score",
        "score": "the score",
    }
    assert "3 of 9 operators on floats; float32 stay ReduceSum (sums of many" in chosen.describe()


@pytest.mark.parametrize(
    ("reach", "why"),
    [
        (Range(largest=20_000.0), "first reaches 2e+04"),
        (Range(1e-9, error=1e-18, squares=1e-18), "first underflows: float16 loses 100.0%"),
    ],
)
def test_what_float16_does_not_hold_is_named_with_its_producer_and_its_readers(reach, why):
    kept = choose(ranges={"first": reach}).kept
    assert kept["first"] == ("MatMul", why)
    assert kept["relu"] == ("Relu", why)


def test_headroom_is_for_activations_and_a_type_of_float32s_range_needs_none():
    near = {"first": Range(largest=20_000.0)}
    assert "first" in choose(ranges=near, headroom=2.0).half
    assert "first" in choose(ranges={"first": Range(largest=1e30)}, headroom=None).half
    assert "first" in choose(weights={"w1": WEIGHTS["w1"] * 20_000}).half


def test_infinity_reaches_no_further_in_float32():
    assert range_of(np.array([-np.inf, 2.0], np.float32)).largest == 2


def test_a_scale_too_small_for_float16_keeps_its_pair_and_their_product():
    pair = [
        node("QuantizeLinear", "x scale zero", "codes"),
        node("DequantizeLinear", "codes scale zero", "back"),
        node("MatMul", "back w1", "first"),
        *LAYERS[1:],
    ]
    scales = {"zero": np.int8(0)}
    coarse = choose(pair, scales | {"scale": np.float32(0.01)})
    left = choose(pair, scales | {"scale": np.float32(0.01)}, exclude="first")
    assert {"codes", "back", "first"} <= left.kept.keys()
    fine = choose(pair, scales | {"scale": np.float32(2e-5)})
    assert {"codes", "back", "first"} <= coarse.half
    assert fine.kept["codes"] == ("QuantizeLinear", "has a scale of 2e-05")
    # A cast between a pair and its product would part them.
    assert fine.kept["first"] == ("MatMul", "with a pair in float32")


def test_operators_are_left_by_name_and_a_name_that_fits_none_is_refused():
    assert choose(exclude="rel*").kept["relu"] == ("Relu", "excluded")
    with pytest.raises(UserError, match="'nothing', which fits no operator"):
        choose(exclude="nothing")


def test_tables_are_left_where_that_is_asked():
    nodes = [node("Gather", "w1 ids", "row"), node("Relu", "row", "relu"), *LAYERS[2:]]
    ids = {"ids": np.array([1])}
    assert "row" in choose(nodes, ids).half
    assert choose(nodes, ids, tables=False).kept["row"] == ("Gather", "reads a table")
