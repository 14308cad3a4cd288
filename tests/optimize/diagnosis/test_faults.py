"""Each planted fault is found, named and placed; nothing else is found with it."""

import types

import faulty_rankers
import pytest

from optimize.diagnosis.diagnose import diagnose
from optimize.diagnosis.finding import CODES

# Ranker → the codes found in it, and what must be said in one of the findings: its place or words.
FAULTS = {
    "softmax_over_the_rows": ({"rows-mix"}, "torch.softmax(hidden, dim=0)"),
    "mean_over_the_rows": ({"rows-mix"}, "hidden.mean(0)"),
    "attention_between_rows": ({"rows-mix"}, "hidden @ hidden.T"),
    "attention_module_between_rows": ({"rows-mix"}, "attention, aten.scaled_dot_product_attention"),
    "sorts_the_rows": ({"rows-mix", "sort"}, "hidden.sort(0)"),
    "scaled_by_the_largest_row": ({"rows-mix"}, "hidden.abs().max()"),
    "batch_norm_without_running_statistics": ({"batch-statistics"}, "norm, aten.batch_norm"),
    "batch_norm_left_in_training_mode": ({"batch-statistics"}, "functional.batch_norm"),
    "batch_norm_that_updates_its_statistics": (
        {"batch-statistics", "state-changes"},
        "norm.running_mean, norm.running_var",
    ),
    "dropout_always_on": ({"active-dropout"}, "functional.dropout(hidden, 0.5"),
    "noise_in_the_score": ({"random-scores"}, "torch.randn_like(hidden)"),
    "counts_its_calls": ({"state-changes"}, "scoring changes calls"),
    "keeps_a_secret": ({"hidden-state"}, "not by chance"),
    "numbers_the_rows": ({"position-matters"}, "torch.arange(hidden.shape[0])"),
    "divides_by_the_number_of_rows": ({"batch-size-matters"}, "hidden / hidden.shape[0]"),
    "fails_on_one_row": ({"one-row-fails"}, "a row alone cannot be scored"),
    "nan_for_some": ({"not-finite-scores"}, "the first is nan"),
    "saturated": ({"constant-scores"}, "rows score 1"),
    "logits_declared_as_probabilities": ({"not-a-probability"}, "outside [0, 1]"),
    "two_scores_a_row": ({"wrong-score-count"}, "2396 scores for 1198 rows"),
    "item_feature_of_the_user": ({"probably-user-side"}, "extra is an item feature"),
    "item_feature_without_variety": ({"constant-feature"}, "extra has the same value"),
    "ignores_the_price": ({"unused-feature"}, "price never reaches the score"),
    "price_weighs_nothing": ({"unused-feature"}, "price moves none of"),
    "cardinality_above_the_table": ({"id-beyond-table"}, "item may be 100"),
    "shared_table_one_row_short": ({"id-beyond-table"}, "asks for row 119; shared.weight has"),
    "bag_with_offsets_one_row_short": ({"id-beyond-table"}, "tags may be 9"),
    "no_cardinality": ({"no-cardinality"}, "item.weight of 100 rows"),
    "hashed_without_cardinality": (set(), ""),
    "negative_ids": ({"no-cardinality", "negative-ids"}, "row -1 of item.weight is its row 99"),
    "id_beyond_its_dtype": ({"id-beyond-dtype"}, "int32 ends at 2147483647"),
    "ids_too_large_for_their_float": ({"id-lost-in-float"}, "packed holds IDs as float32"),
    "small_ids_in_a_float": ({"float-ids"}, "up to 16,777,216"),
    "ids_through_half_precision": ({"id-lost-in-float"}, "item.half()"),
    "table_twice_as_large_as_needed": ({"unused-table-rows"}, "item.weight has 10,000 rows"),
    "embedding_bag": ({"embedding-bag"}, "self.bag(item[:, None])"),
    "cross_layer_of_column_vectors": ({"column-vectors"}, "torch.matmul(self.hidden.weight"),
    "looks_at_each_item_once": ({"shape-from-values"}, "torch.unique(item"),
    "picks_rows_by_a_mask": ({"shape-from-values", "scatter"}, "price[price > 0]"),
    "branches_in_the_graph": ({"control-flow"}, "torch.cond"),
    "double_precision": ({"float64"}, "hidden * scale"),
    "complex_numbers": ({"complex"}, "torch.view_as_complex"),
    "sorts_within_a_row": ({"sort"}, "hidden.topk(4, dim=1)"),
    "scatters": ({"scatter"}, ".scatter(1, places"),
    "operator_unknown_to_onnx": ({"onnx-unknown-operator"}, "bessel_j0"),
    "branches_on_values": ({"cannot-export", "not-checked"}, "hidden.sum() > 1e9"),
    "loops_over_rows": ({"cannot-export", "not-checked"}, "became a constant"),
    "nested_tensors": ({"cannot-export", "not-checked"}, "nested tensors cannot be exported"),
    "raises": ({"cannot-export", "scoring-fails", "not-checked"}, "not today"),
}
HEALTHY = ("healthy", "healthy_tower", "attends_within_a_row", "sums_a_padded_bag", "talks")


def diagnosis_of(name):
    return diagnose(getattr(faulty_rankers, name)())


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_found_and_nothing_else(name):
    codes, said = FAULTS[name]
    found = diagnosis_of(name).findings
    assert {each.code for each in found} == codes
    assert any(said in f"{each.what} {each.place}" for each in found) or not codes


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_found_in_a_healthy_ranker(name):
    diagnosis = diagnosis_of(name)
    assert diagnosis.findings == ()
    assert diagnosis.passed


def test_every_ranker_of_the_test_zoo_is_tried():
    rankers = {
        name
        for name, value in vars(faulty_rankers).items()
        if isinstance(value, types.FunctionType)
        and value.__module__ == faulty_rankers.__name__
        and not name.startswith("_")
    }
    assert rankers == {*FAULTS, *HEALTHY, "branches_and_mixes"}


def test_every_code_has_a_planted_fault():
    assert {code for codes, _ in FAULTS.values() for code in codes} == set(CODES)


def test_a_ranker_that_cannot_be_traced_is_examined_by_its_scores_alone():
    found = {each.code: each for each in diagnosis_of("branches_and_mixes").findings}
    assert {"cannot-export", "rows-mix", "embedding-bag"} <= set(found)
    assert found["rows-mix"].place is None
    assert found["embedding-bag"].place.module == "bag"
