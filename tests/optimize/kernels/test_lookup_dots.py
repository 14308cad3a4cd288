"""The fused kernels, in triton's interpreter, give what their twins in plain torch give."""

import itertools
import os
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.kernels.lookup_dots import (
    Dots,
    bytes_moved,
    lookup_dots,
    lookup_dots_reference,
    lookup_vectors,
    lookup_vectors_reference,
    refuse_ids,
)
from optimize.kernels.stacked_tables import Reads, hold_rows, stack_rows, stack_tables
from optimize.tables.codes import scale_levels
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
    """Return tables, IDs of which some are empty places, and one given vector."""
    random = torch.Generator().manual_seed(seed)
    weights = [torch.randn(each, dimension, generator=random) for each in rows]
    weights[0][0] = 0.0
    weights[-1][0] *= 100
    ids = [torch.randint(-1, each, (count, length), generator=random) for each in rows]
    given = torch.randn(count, 1, dimension, generator=random)
    return stack_tables(weights, width, length=length), torch.cat(ids, 1), given


ALL = Dots.below_diagonal(4)


@settings(max_examples=16, deadline=None)
@given(
    st.sampled_from([*WIDTHS, "mixed"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=17),
    st.sampled_from([1, 7, 16, 40, 64]),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_they_give_what_their_twins_give(width, rows, dimension, length, seed):
    widths = list(itertools.islice(itertools.cycle(WIDTHS), len(rows)))
    tables, ids, bottom = case(
        widths if width == "mixed" else width, rows, dimension=dimension, count=2, length=length,
        seed=seed,
    )  # fmt: skip
    dots = Dots.below_diagonal(len(rows) + 1)
    expected = lookup_dots_reference(tables, ids, bottom, dots)
    found = lookup_dots(tables, ids, bottom, dots)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-2)
    vectors = lookup_vectors(tables, ids)
    torch.testing.assert_close(vectors, lookup_vectors_reference(tables, ids), rtol=1e-5, atol=1e-4)


def mixed():
    """Return bags of several lengths over tables of several widths, two of one table."""
    random = torch.Generator().manual_seed(3)
    weights = [torch.randn(each, 20, generator=random) for each in (5, 9, 6)]
    scales = scale_levels([(weights[0], 8), (weights[1], 4)])[:, 0]
    a, b, c = (hold_rows(w, kind, scales) for w, kind in zip(weights, (8, 4, 32), strict=True))
    reads = [Reads(a), Reads(b, 3, 0), Reads(c, 2), Reads(a, 2, 4)]
    ids = [
        torch.randint(each, (4, length), generator=random)
        for each, length in ((5, 1), (9, 3), (6, 2), (5, 2))
    ]
    ids[1][0] = 0  # an empty bag
    decoded = [stack_rows([Reads(each)], 20, scales) for each in (a, b, c)]
    whole = [
        lookup_vectors_reference(each, torch.arange(int(each.layout[2]))[:, None])[:, 0]
        for each in decoded
    ]
    expected = [
        whole[0][ids[0]].sum(1),
        (whole[1][ids[1]] * (ids[1] != 0)[..., None]).sum(1),
        whole[2][ids[2]].sum(1),
        (whole[0][ids[3]] * (ids[3] != 4)[..., None]).sum(1),
    ]
    return stack_rows(reads, 20, scales), torch.cat(ids, 1), torch.stack(expected, 1)


def test_bags_of_several_lengths_over_tables_of_several_widths():
    tables, ids, expected = mixed()
    torch.testing.assert_close(lookup_vectors_reference(tables, ids), expected)
    torch.testing.assert_close(lookup_vectors(tables, ids), expected, rtol=1e-5, atol=1e-4)


def test_features_of_one_table_hold_it_once():
    tables, _, _ = mixed()
    assert tables.regions[::3] == (32, 8, 4)
    assert [tables.regions[at] for at in (2, 5, 8)] == [6, 5, 9]


def test_dots_go_where_they_are_asked_for():
    """Torchrec takes those above the diagonal, by row; and a vector of its own place may come."""
    tables, ids, bottom = case("fp32")
    i, j = torch.triu_indices(4, 4, offset=1)
    places = torch.full((4, 4), -1, dtype=torch.int32)
    places[i, j] = torch.arange(6, dtype=torch.int32)
    dots = Dots(places, 6, first=False)
    vectors = torch.cat([bottom, lookup_vectors_reference(tables, ids)], 1)
    expected = torch.bmm(vectors, vectors.transpose(1, 2))[:, i, j]
    torch.testing.assert_close(lookup_dots_reference(tables, ids, bottom, dots), expected)
    found = lookup_dots(tables, ids, bottom, dots)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-2)


def test_the_twin_gives_what_a_dlrm_gives():
    tables, ids, bottom = case("fp32", length=1)
    ids = ids.clamp(min=0)
    ends = [0, 7, 10, 21]
    whole = tables.values_of(tables.region_list()[0])
    tables_apart = [whole[a:b] for a, b in itertools.pairwise(ends)]
    looked_up = [t[ids[:, f]] for f, t in enumerate(tables_apart)]
    vectors = torch.stack([bottom[:, 0], *looked_up], 1)
    dots = torch.bmm(vectors, vectors.transpose(1, 2))
    lower, upper = torch.tril_indices(4, 4, offset=-1)
    expected = torch.cat([bottom[:, 0], dots[:, lower, upper]], 1)
    torch.testing.assert_close(lookup_dots_reference(tables, ids, bottom, ALL), expected)


@pytest.mark.parametrize("width", WIDTHS)
def test_an_empty_bag_is_a_vector_of_zeros(width):
    tables, ids, bottom = case(width)
    ids[:, 2:4] = -1
    found = lookup_dots(tables, ids, bottom, ALL)
    pairs = found[:, 16:]
    # Vectors 0 (given), 1, 2 (empty), 3: its dots are those at (2,0), (2,1) and (3,2).
    assert (pairs[:, [1, 2, 5]] == 0).all()
    assert (pairs[:, [0, 3, 4]] != 0).any()


@pytest.mark.parametrize(("width", "row"), [("fp32", 64), ("fp16", 32), ("int8", 17), ("int4", 9)])
def test_narrow_rows_move_fewer_bytes(width, row):
    tables, ids, _ = case(width)
    filled = int((ids >= 0).sum())
    moved = filled * row + 3 * 3 * 2 * 8 + 3 * 16 * 4 + 3 * (16 + 6) * 4
    assert bytes_moved(tables, ids, 16 + 6, 16) == moved


def test_an_id_out_of_range_is_refused_or_an_empty_place_and_reads_no_other_table():
    rows = hold_rows(torch.ones(3, 16), 32, torch.zeros(0))
    others = hold_rows(torch.full((3, 16), 9.0), 32, torch.zeros(0))
    tables = stack_rows([Reads(rows), Reads(others, 1, -7)], 16, torch.zeros(0))
    for wrong in ([3, 0], [-1, 0], [0, 3], [0, -1]):
        with pytest.raises(IndexError):
            refuse_ids(tables, torch.tensor([[0, 0], wrong]))
    refuse_ids(tables, torch.tensor([[0, -7], [2, 2]]))
    found = lookup_vectors(tables, torch.tensor([[3, 0], [2, -7]]))
    assert found[:, :, 0].tolist() == [[0.0, 9.0], [1.0, 0.0]]


def test_what_does_not_fit_is_refused():
    tables, ids, bottom = case("int8")
    with pytest.raises(UserError, match=r"expected int64 \[N, 3 times L\] and float32 \[N, B, 16"):
        lookup_dots(tables, ids[:, :2], bottom, ALL)
    with pytest.raises(UserError, match="expected one width"):
        stack_tables([torch.zeros(3, 24), torch.zeros(3, 8)], "fp16")
