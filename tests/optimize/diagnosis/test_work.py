"""What a request costs is what its layers, written out, cost."""

import example_rankers
import faulty_rankers
import pytest

from optimize.diagnosis.sizes import weigh
from optimize.diagnosis.trace import trace_ranker
from optimize.diagnosis.work import count_work


def traced(ranker):
    trace, found = trace_ranker(ranker)
    assert not found
    return trace


@pytest.fixture(scope="module")
def tower():
    ranker = faulty_rankers.healthy_tower()
    return ranker, traced(ranker)


class TestWork:
    def test_multiply_adds_are_those_of_the_layers(self, tower):
        one, many = count_work(*tower)
        # profile: 3 x 8 of the user; hidden: 8 x 8 of both; price: 1 of the item.
        assert (one.multiply_adds, one.user_multiply_adds, one.both_multiply_adds) == (89, 24, 64)
        assert (many.candidates, many.multiply_adds) == (200, 200 * 89)
        assert many.user_multiply_adds == 200 * 24

    def test_a_lookup_costs_the_rows_that_it_reads_and_their_ids(self, tower):
        one, many = count_work(*tower)
        assert one.table_bytes == 2 * (8 * 4 + 8)
        assert many.table_bytes == 200 * one.table_bytes

    def test_weights_are_read_once_whatever_the_number_of_candidates(self, tower):
        one, many = count_work(*tower)
        assert one.weight_bytes == many.weight_bytes == 4 * (3 * 8 + 8 + 8 * 8 + 8 + 1 + 1)

    def test_what_lies_between_grows_with_the_candidates(self, tower):
        one, many = count_work(*tower)
        assert many.activation_bytes == 200 * one.activation_bytes > 0

    def test_attention_within_a_row_is_counted(self):
        ranker = faulty_rankers.attends_within_a_row()
        one, _ = count_work(ranker, traced(ranker))
        # In: 2 events x 8 x 24; scores and values: 2 x (2 x 2 x 8); out: 2 x 8 x 8; profile: 3 x 8.
        assert one.multiply_adds == 384 + 64 + 128 + 24

    def test_no_work_is_told_of_a_number_of_rows_that_fails(self):
        ranker = faulty_rankers.fails_on_one_row()
        assert [each.candidates for each in count_work(ranker, traced(ranker))] == [200]


class TestSizes:
    def test_tables_are_told_from_layers_by_what_reads_them(self, tower):
        sizes = weigh(*tower)
        assert {each.name: each.features for each in sizes.tables} == {
            "item.weight": ("item",),
            "country.weight": ("country",),
        }
        assert [each.name for each in sizes.layers] == ["hidden", "profile", "price"]

    def test_every_byte_is_counted_once(self, tower):
        ranker, trace = tower
        state = ranker.module.state_dict().values()
        assert weigh(ranker, trace).bytes == sum(each.nbytes for each in state)

    def test_a_table_that_is_used_twice_counts_once(self):
        ranker = example_rankers.tiny()
        ranker.module.again = ranker.module.item
        state = example_rankers.tiny().module.state_dict().values()
        assert weigh(ranker, traced(ranker)).bytes == sum(each.nbytes for each in state)

    def test_without_a_graph_embedding_modules_are_the_tables(self, tower):
        ranker, trace = tower
        names = [each.name for each in weigh(ranker, trace).tables]
        assert [each.name for each in weigh(ranker, None).tables] == names
