"""The fused kernel, in triton's interpreter, gives what its twin in plain torch gives."""

import itertools
import os
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.kernels.lookup_dots import bytes_moved, lookup_dots, lookup_dots_reference
from optimize.kernels.stacked_tables import stack_tables
from rankers.errors import UserError

WIDTHS = ("fp32", "fp16", "int8", "int4")


@pytest.fixture(scope="module", autouse=True)
def interpreter():
    """Let kernels run in the interpreter: on the CPU, line by line."""
    pytest.importorskip("triton")
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    sys.modules.pop("optimize.kernels.lookup_dots_kernel", None)  # made for one or the other
    yield
    sys.modules.pop("optimize.kernels.lookup_dots_kernel", None)
    if before is None:
        del os.environ["TRITON_INTERPRET"]
    else:
        os.environ["TRITON_INTERPRET"] = before


def case(width, rows=(7, 3, 11), *, dimension=16, count=3, length=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    weights = [torch.randn(each, dimension, generator=random) for each in rows]
    weights[0][0] = 0.0
    weights[-1][0] *= 100
    ids = torch.stack(
        [torch.randint(-1, each, (count, length), generator=random) for each in rows], 1
    )
    return stack_tables(weights, width), ids, torch.randn(count, dimension, generator=random)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(WIDTHS),
    st.lists(st.integers(1, 9), min_size=1, max_size=17),
    st.sampled_from([16, 32, 64]),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_it_gives_what_its_twin_gives(width, rows, dimension, length, seed):
    tables, ids, bottom = case(width, rows, dimension=dimension, count=2, length=length, seed=seed)
    expected = lookup_dots_reference(tables, ids, bottom)
    found = lookup_dots(tables, ids, bottom)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-2)


def test_the_twin_gives_what_a_dlrm_gives():
    tables, ids, bottom = case("fp32", length=1)
    ids = ids.clamp(min=0)
    ends = [0, 7, 10, 21]
    tables_apart = [tables.data[a:b] for a, b in itertools.pairwise(ends)]
    looked_up = [t[ids[:, f, 0]] for f, t in enumerate(tables_apart)]
    vectors = torch.stack([bottom, *looked_up], 1)
    dots = torch.bmm(vectors, vectors.transpose(1, 2))
    lower, upper = torch.tril_indices(4, 4, offset=-1)
    expected = torch.cat([bottom, dots[:, lower, upper]], 1)
    torch.testing.assert_close(lookup_dots_reference(tables, ids, bottom), expected)


@pytest.mark.parametrize("width", WIDTHS)
def test_an_empty_bag_is_a_vector_of_zeros(width):
    tables, ids, bottom = case(width)
    ids[:, 1] = -1
    found = lookup_dots(tables, ids, bottom)
    pairs = found[:, 16:]
    # Vectors 0 (bottom), 1, 2 (empty), 3: its dots are those at (2,0), (2,1) and (3,2).
    assert (pairs[:, [1, 2, 5]] == 0).all()
    assert (pairs[:, [0, 3, 4]] != 0).any()


@pytest.mark.parametrize(("width", "row"), [("fp32", 64), ("fp16", 32), ("int8", 17), ("int4", 9)])
def test_narrow_rows_move_fewer_bytes(width, row):
    tables, ids, _ = case(width)
    assert tables.row_bytes == row
    filled = int((ids >= 0).sum())
    assert bytes_moved(tables, ids) == filled * row + 3 * 3 * 2 * 8 + 3 * 16 * 4 + 3 * (16 + 6) * 4


def test_what_does_not_fit_is_refused():
    tables, ids, bottom = case("int8")
    with pytest.raises(UserError, match=r"expected int64 \[N, 3, L\] and float32 \[N, 16\]"):
        lookup_dots(tables, ids[:, :2], bottom)
    with pytest.raises(UserError, match=r"a power of 2 from 16"):
        stack_tables([torch.zeros(3, 24)], "fp16")
