"""Where a graph is cut, and which graphs cannot be."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.user_state.cut import (
    candidates_model,
    crossings,
    finish_user_model,
    user_model,
)
from rankers.errors import UserError

USER = ("events", "age")
COLUMNS = {"events": ("users", 4, 3), "age": ("users", 3), "price": ("rows", 3)}


def graph(*nodes):
    """Return a model from `COLUMNS` and item_to_request to ``score``, with some constants."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in COLUMNS.items()
    ]
    inputs.append(helper.make_tensor_value_info("item_to_request", TensorProto.INT64, ["rows"]))
    held = {
        "one": [1], "two": [2], "all": [2**62], "zero": [0], "pads": [0, 0, 0, 0, 0, 1],
    }  # fmt: skip
    constants = [numpy_helper.from_array(np.array(x, np.int64), name) for name, x in held.items()]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])
    made = helper.make_graph(list(nodes), "whole", inputs, [output], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def columns(users, rows):
    random = np.random.default_rng(rows)
    sizes = {"users": users, "rows": rows}
    return {
        name: random.standard_normal([sizes.get(each, each) for each in shape]).astype(np.float32)
        for name, shape in COLUMNS.items()
    }


def run(model, inputs):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = {each.name for each in session.get_inputs()}
    found = session.run(None, {name: x for name, x in inputs.items() if name in names})
    return dict(zip([each.name for each in session.get_outputs()], found, strict=True))


def halves(model):
    crossing = crossings(model.graph, USER)
    user = user_model(model, USER, crossing)
    seen = run(user, columns(3, 3))
    pairs = [(each, seen[each.value]) for each in crossing]
    finish_user_model(user, pairs)
    made = user, candidates_model(model, USER, pairs)
    for each in made:
        onnx.checker.check_model(each)
    return made


def kinds(model):
    return [each.op_type for each in model.graph.node]


PICKS = (
    node("Shape", "events", "users", start=0, end=1),
    node("Equal", "users one", "alone"),
    node("Where", "alone one all", "end"),
    node("Slice", "item_to_request zero end", "picks"),
)
# The events are encoded, turned so that users are second, and read twice: once padded.
ENCODED = (
    *PICKS,
    node("Relu", "events", "positive"),
    node("Pad", "positive pads", "padded"),
    node("Transpose", "positive", "turned", perm=[1, 0, 2]),
    node("Sqrt", "turned", "roots"),
    node("Gather", "padded picks", "padded_of_item"),
    node("Gather", "roots item_to_request", "roots_of_item", axis=1),
    node("Gather", "age item_to_request", "age_of_item"),
    node("ReduceSum", "padded_of_item", "a"),
    node("ReduceSum", "roots_of_item zero", "b", keepdims=0),
    node("Mul", "b age_of_item", "c"),
    node("Mul", "c price", "d"),
    node("Add", "d a", "e"),
    node("ReduceSum", "e one", "score", keepdims=0),
)


@pytest.mark.parametrize("counts", [[1], [6], [2, 1, 4]])
def test_the_parts_give_what_the_whole_gives(counts):
    model = graph(*ENCODED)
    inputs = columns(len(counts), sum(counts))
    inputs["item_to_request"] = np.repeat(np.arange(len(counts)), counts)
    user, candidates = halves(model)
    state = run(user, inputs)
    assert all(len(x) == len(counts) for x in state.values())
    items = {name: x for name, x in inputs.items() if name not in USER}
    scores = run(candidates, items | state)["score"]
    np.testing.assert_array_equal(scores, run(model, inputs)["score"])


def test_each_part_holds_what_it_computes_and_no_more():
    user, candidates = halves(graph(*ENCODED))
    assert [each.name for each in user.graph.input] == ["events", "age"]
    # Then the three that are kept, one of them turned to have its users first.
    assert kinds(user) == ["Relu", "Pad", "Transpose", "Sqrt", "Identity", "Transpose", "Identity"]
    assert not {"Relu", "Pad", "Sqrt"} & set(kinds(candidates))
    given = [each.name for each in candidates.graph.input]
    assert given == ["state/0", "state/1", "state/2", "price", "item_to_request"]
    (shape,) = (each for each in candidates.graph.node if each.op_type == "Shape")
    assert shape.input[0] == "state/0"


def test_a_padded_copy_of_what_is_kept_is_made_again():
    both = graph(
        node("Relu", "events", "positive"),
        node("Pad", "positive pads", "padded"),
        node("Gather", "positive item_to_request", "h"),
        node("Gather", "padded item_to_request", "p"),
        node("MatMul", "h p", "product"),
    )
    # [4, 3] x [4, 4] does not fit; what is asked is only what crosses.
    assert [each.value for each in crossings(both.graph, USER)] == ["positive"]


def test_a_padded_value_alone_is_kept_itself():
    alone = graph(
        node("Relu", "events", "positive"),
        node("Pad", "positive pads", "padded"),
        node("Gather", "padded item_to_request", "score"),
    )
    assert [each.value for each in crossings(alone.graph, USER)] == ["padded"]


def test_what_takes_work_to_make_again_is_kept_too():
    both = graph(
        node("Relu", "events", "positive"),
        node("Sqrt", "positive", "roots"),
        node("Gather", "positive item_to_request", "h"),
        node("Gather", "roots item_to_request", "r"),
        node("Mul", "h r", "score"),
    )
    assert [each.value for each in crossings(both.graph, USER)] == ["positive", "roots"]


class TestWhatCannotBeCut:
    def test_a_value_that_all_candidates_read_at_once(self):
        model = graph(node("MatMul", "price age", "score"))
        with pytest.raises(UserError, match="MatMul reads 'age' for all candidates at once"):
            crossings(model.graph, USER)

    def test_a_value_read_at_a_place_that_the_item_says(self):
        model = graph(
            node("Cast", "price", "place", to=TensorProto.INT64),
            node("Gather", "age place", "score"),
        )
        with pytest.raises(UserError, match="Gather reads 'age'"):
            crossings(model.graph, USER)

    def test_a_graph_whose_candidates_read_no_user(self):
        model = graph(node("ReduceSum", "price one", "score", keepdims=0))
        with pytest.raises(UserError, match="nothing to keep"):
            crossings(model.graph, USER)

    def test_a_loop_which_may_read_anything(self):
        body = helper.make_graph(
            [helper.make_node("Identity", ["price"], ["same"])],
            "body",
            [],
            [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
        )
        branch = helper.make_node("If", ["yes"], ["score"], then_branch=body, else_branch=body)
        with pytest.raises(UserError, match="If has a graph of its own"):
            crossings(graph(branch).graph, USER)
