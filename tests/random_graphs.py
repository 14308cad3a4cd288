"""Random rankers as graphs of operators, for laws that hold for any of them.

A graph is drawn operator by operator over values whose shapes are known: [rows, D] and [rows, L, D]
of the user, of the item and of both. It mixes what rankers are made of with what only careless ones
are: rows merged into other dimensions, transposed, read as sizes, constants with rows of their own.
"""

from __future__ import annotations

import operator

import torch
from hypothesis import strategies as st
from torch.fx import Graph, GraphModule

from optimize.flat_graph import FlatGraph, aten

IDS = 7
LENGTH = 3
USER = ("user_id", "history", "age")
NAMES = (*USER, "item_id", "price", "tags")


def sample(rows, seed=0):
    random = torch.Generator().manual_seed(rows + 100 * seed)
    ids = {
        "user_id": (rows,),
        "history": (rows, LENGTH),
        "item_id": (rows,),
        "tags": (rows, LENGTH),
    }
    columns = {name: torch.randint(IDS, shape, generator=random) for name, shape in ids.items()}
    columns["age"] = torch.randn(rows, 2, generator=random, dtype=torch.float64)
    columns["price"] = torch.randn(rows, 1, generator=random, dtype=torch.float64)
    return columns


class Drawing:
    """The graph so far, and the values that the next operator may read: node → shape, -1 rows."""

    def __init__(self, data):
        self.data = data
        self.root = torch.nn.Module()
        self.graph = Graph()
        self.seed = 0
        self.columns = {name: self.graph.placeholder(name) for name in NAMES}
        self.values = []
        width = data.draw(st.sampled_from([2, 4]), "width")
        for name in ("user_id", "item_id", "history", "tags"):
            shape = (-1, width) if name.endswith("id") else (-1, LENGTH, width)
            table = self.weight(IDS, width)
            self.add(aten.embedding.default, (table, self.columns[name]), shape)
        self.values += [(self.columns["age"], (-1, 2)), (self.columns["price"], (-1, 1))]

    def weight(self, *shape):
        self.seed += 1
        name = f"weight_{self.seed}"
        random = torch.Generator().manual_seed(self.seed)
        value = torch.randn(*shape, generator=random, dtype=torch.float64) * 0.5
        self.root.register_buffer(name, value)
        return self.graph.get_attr(name)

    def constant(self, value):
        self.seed += 1
        self.root.register_buffer(f"constant_{self.seed}", value)
        return self.graph.get_attr(f"constant_{self.seed}")

    def call(self, target, *args, **kwargs):
        return self.graph.call_function(target, args, kwargs)

    def add(self, target, args, shape):
        self.values.append((self.graph.call_function(target, tuple(args)), shape))

    def pick(self, *, rank=None, like=None):
        fitting = [
            each
            for each in self.values
            if (rank is None or len(each[1]) == rank) and (like is None or each[1] == like)
        ]
        return self.data.draw(st.sampled_from(fitting[::-1])) if fitting else None

    def rows(self):
        column = self.data.draw(st.sampled_from(NAMES), "whose rows")
        return self.call(aten.sym_size.int, self.columns[column], 0)

    def long(self):
        """A [rows, L, D] value; they may have been used up in no case, as columns give two."""
        return self.pick(rank=3)


def linear(d):
    x, shape = d.pick()
    outputs = d.data.draw(st.sampled_from([1, 2, 4]))
    bias = d.weight(outputs) if d.data.draw(st.booleans()) else None
    d.add(aten.linear.default, (x, d.weight(outputs, shape[-1]), bias), (*shape[:-1], outputs))


def elementwise(d):
    x, shape = d.pick()
    function = d.data.draw(
        st.sampled_from(["relu", "sigmoid", "tanh", "neg", "square", "clone", "half"])
    )
    if function == "half":
        d.add(aten.mul.Tensor, (x, 0.5), shape)
    else:
        d.add(getattr(aten, function).default, (x,), shape)


def normalized(d):
    x, shape = d.pick()
    if d.data.draw(st.booleans()):
        d.add(aten.softmax.int, (x, -1), shape)
    else:
        d.add(
            aten.layer_norm.default,
            (x, [shape[-1]], d.weight(shape[-1]), d.weight(shape[-1])),
            shape,
        )


def binary(d):
    x, shape = d.pick()
    other = d.pick(like=shape)
    target = d.data.draw(st.sampled_from([aten.add, aten.sub, aten.mul]))
    d.add(target.Tensor, (x, other[0]), shape)


def broadcast(d):
    """[rows, L, D] with [rows, 1, D], expanded in one of three ways."""
    x, shape = d.long()
    other = d.pick(like=(-1, shape[-1]))
    if other is None:
        return
    y = d.call(aten.unsqueeze.default, other[0], 1)
    way = d.data.draw(st.sampled_from(["", "expand", "expand_as"]))
    if way == "expand":
        y = d.call(aten.expand.default, y, [d.rows(), shape[1], shape[2]])
    elif way == "expand_as":
        y = d.call(aten.expand_as.default, y, x)
    target = d.data.draw(st.sampled_from([aten.add, aten.sub, aten.mul]))
    d.add(target.Tensor, d.data.draw(st.sampled_from([(x, y), (y, x)])), shape)


def local_activation(d):
    """DIN's: a linear layer over [h, t, h - t, h * t]."""
    h, shape = d.long()
    other = d.pick(like=(-1, shape[-1]))
    if other is None:
        return
    t = d.call(aten.expand_as.default, d.call(aten.unsqueeze.default, other[0], 1), h)
    parts = [h, t, d.call(aten.sub.Tensor, h, t), d.call(aten.mul.Tensor, h, t)]
    parts = d.data.draw(st.permutations(parts))
    joined = d.call(aten.cat.default, parts, -1)
    outputs = d.data.draw(st.sampled_from([1, 2]))
    d.add(
        aten.linear.default,
        (joined, d.weight(outputs, 4 * shape[-1]), d.weight(outputs)),
        (-1, shape[1], outputs),
    )


def weighted_sum(d):
    h, shape = d.long()
    w = d.pick(like=(-1, shape[1], 1))
    if w is None:
        w = (d.call(aten.sum.dim_IntList, d.pick(like=shape)[0], [2], True), None)
    d.add(aten.sum.dim_IntList, (d.call(aten.mul.Tensor, w[0], h), [1]), (-1, shape[2]))


def joined(d):
    x, shape = d.pick()
    parts = [(x, shape)] + [d.pick(rank=len(shape)) for _ in range(d.data.draw(st.integers(1, 3)))]
    parts = [each for each in parts if each[1][:-1] == shape[:-1]]
    d.add(
        aten.cat.default,
        ([each[0] for each in parts], d.data.draw(st.sampled_from([-1, len(shape) - 1]))),
        (*shape[:-1], sum(each[1][-1] for each in parts)),
    )


def stacked(d):
    x, shape = d.pick(rank=2)
    parts = [x] + [d.pick(like=shape)[0] for _ in range(d.data.draw(st.integers(1, 3)))]
    d.add(aten.stack.default, (parts, 1), (-1, len(parts), shape[1]))


def reduced(d):
    x, shape = d.long()
    how = d.data.draw(st.sampled_from(["sum", "mean", "max", "cumsum", "squares"]))
    if how == "max":
        both = d.call(aten.max.dim, x, 1)
        d.add(operator.getitem, (both, 0), (-1, shape[2]))
    elif how == "cumsum":
        d.add(aten.cumsum.default, (x, 1), shape)
    elif how == "mean":
        d.add(aten.mean.dim, (x, [1]), (-1, shape[2]))
    else:
        source = d.call(aten.square.default, x) if how == "squares" else x
        d.add(aten.sum.dim_IntList, (source, [1]), (-1, shape[2]))


def dots(d):
    """DLRM's: chosen pairs of products among stacked vectors."""
    x, shape = d.long()
    products = d.call(aten.bmm.default, x, d.call(aten.transpose.int, x, 1, 2))
    lower, upper = torch.tril_indices(shape[1], shape[1], offset=-1)
    if not len(lower):
        return
    d.add(
        aten.index.Tensor,
        (products, [None, d.constant(lower), d.constant(upper)]),
        (-1, len(lower)),
    )


def attention(d):
    keys, shape = d.long()
    other = d.pick(like=(-1, shape[-1]))
    if other is None:
        return
    query = d.call(aten.unsqueeze.default, other[0], 1)
    read = d.call(aten.scaled_dot_product_attention.default, query, keys, keys)
    d.add(aten.squeeze.dim, (read, 1), (-1, shape[-1]))


def merged_rows(d):
    """Rows merged into places and back, by sizes read from any column."""
    x, shape = d.long()
    size = d.rows()
    merged = d.call(
        aten.view.default,
        d.call(aten.contiguous.default, x),
        [d.call(operator.mul, size, shape[1]), shape[2]],
    )
    merged = d.call(aten.linear.default, merged, d.weight(2, shape[2]))
    d.add(aten.reshape.default, (merged, [size, shape[1], 2]), (-1, shape[1], 2))


def transposed_rows(d):
    x, shape = d.long()
    turned = d.call(
        aten.linear.default, d.call(aten.transpose.int, x, 0, 1), d.weight(shape[2], shape[2])
    )
    d.add(aten.transpose.int, (turned, 0, 1), shape)


def flattened(d):
    x, shape = d.long()
    d.add(aten.flatten.using_ints, (x, 1), (-1, shape[1] * shape[2]))


def chosen_columns(d):
    x, shape = d.pick()
    width = shape[-1]
    if d.data.draw(st.booleans()):
        order = d.data.draw(st.permutations(range(width)))
        d.add(
            aten.index_select.default, (x, len(shape) - 1, d.constant(torch.tensor(order))), shape
        )
    else:
        start = d.data.draw(st.integers(0, width - 1))
        d.add(aten.slice.Tensor, (x, -1, start, width), (*shape[:-1], width - start))


def masked(d):
    x, shape = d.long()
    column = d.columns[d.data.draw(st.sampled_from(["history", "tags"]))]
    if shape[1] != LENGTH:
        return
    mask = d.call(aten.unsqueeze.default, d.call(aten.eq.Scalar, column, 0), 2)
    if d.data.draw(st.booleans()):
        d.add(aten.masked_fill.Scalar, (x, mask, 0.0), shape)
    else:
        other = d.pick(like=shape)[0]
        d.add(aten.where.self, (mask, x, other), shape)


def gated(d):
    """DIN's Dice."""
    x, shape = d.pick()
    p = d.call(aten.sigmoid.default, d.pick(like=shape)[0])
    rest = d.call(aten.mul.Tensor, d.call(aten.rsub.Scalar, p, 1), d.weight(shape[-1]))
    d.add(aten.add.Tensor, (d.call(aten.mul.Tensor, p, x), d.call(aten.mul.Tensor, rest, x)), shape)


def standardized_gate(d):
    """Dice of a layer, as batch norm of evaluation makes it; what is gated may be read again."""
    x, shape = d.pick()
    outputs = d.data.draw(st.sampled_from([1, 2]))
    bias = d.weight(outputs) if d.data.draw(st.booleans()) else None
    x, shape = (
        d.call(aten.linear.default, x, d.weight(outputs, shape[-1]), bias),
        (
            *shape[:-1],
            outputs,
        ),
    )
    scale = d.constant(torch.linspace(0.6, 1.7, outputs, dtype=torch.float64))
    shifted = d.call(aten.add.Tensor, d.call(aten.mul.Tensor, x, scale), d.weight(outputs))
    p = d.call(aten.sigmoid.default, shifted)
    share = d.constant(torch.linspace(0.8, -0.5, outputs, dtype=torch.float64))
    rest = d.call(aten.mul.Tensor, d.call(aten.rsub.Scalar, p, 1), share)
    both = (d.call(aten.mul.Tensor, p, x), d.call(aten.mul.Tensor, rest, x))
    d.add(aten.add.Tensor, both, shape)
    if d.data.draw(st.booleans()):
        d.add(aten.neg.default, (x,), shape)


def zeros_of_rows(d):
    width = d.data.draw(st.sampled_from([1, 2, 4]))
    zeros = d.call(aten.zeros.default, [d.rows(), width], dtype=torch.float64)
    d.add(aten.add.Tensor, (zeros, d.weight(width)), (-1, width))


OPERATORS = (
    linear, elementwise, normalized, binary, broadcast, local_activation, weighted_sum, joined,
    stacked, reduced, dots, attention, merged_rows, transposed_rows, flattened, chosen_columns,
    masked, zeros_of_rows, gated, standardized_gate,
)  # fmt: skip


@st.composite
def random_graphs(draw):
    """Draw a flat graph from columns to scores [rows] in float64; later values are read more."""
    d = Drawing(draw(st.data()))
    for step in draw(st.lists(st.sampled_from(OPERATORS), min_size=3, max_size=14)):
        step(d)
    scores = []
    # Of the last few values and of one of each side, so that nothing drawn is for nothing.
    for x, shape in [*d.values[-3:], d.values[0], d.values[1]]:
        flat = d.call(aten.flatten.using_ints, x, 1) if len(shape) == 3 else x
        scores.append(d.call(aten.linear.default, flat, d.weight(1, -_size(shape))))
    total = d.call(aten.sum.dim_IntList, d.call(aten.cat.default, scores, 1), [1])
    d.graph.output((total,))
    graph = FlatGraph(GraphModule(d.root, d.graph), NAMES, frozenset(USER), sample)
    graph.clean()
    return graph


def _size(shape):
    size = 1
    for each in shape:
        size *= each
    return size
