"""Captured buckets score as the program does, whatever is in their padding."""

import threading

import example_rankers
import numpy as np
import pytest
import torch

from optimize.artifact import Artifact
from optimize.build import run_stage
from optimize.capture import capture
from optimize.gates import judge
from optimize.recipe import ParityLimits, QualityLimits
from optimize.runtimes import open_predictor
from optimize.runtimes.cuda_graphs import GraphOptions, GraphPredictor
from optimize.samples import sample_requests
from optimize.static_inputs import columns_of
from optimize.torch_program import load_program, program_on
from rankers.errors import UserError
from rankers.ranker import Ranker

SIZES = (1, 2, 37, 200)


@pytest.fixture(scope="module")
def programs(store):
    flat = capture(example_rankers.tiny(), store, candidates=SIZES)
    return {"flat": flat, "user_once": run_stage("user_once", {"when": "always"}, flat, store)}


def opened(program, **options):
    """Capture a program in buckets of 4, 16 and 64 rows."""
    module = load_program(program.model_path).module(check_guards=False)
    chosen = GraphOptions(**{"sizes": (4, 16, 64)} | options)
    return GraphPredictor(module, columns_of(program.manifest), chosen, device="cpu")


@pytest.mark.parametrize("layout", ["flat", "user_once"])
@pytest.mark.parametrize("copies_in_graph", [False, True])
def test_every_gate_passes_at_every_size(layout, copies_in_graph, programs, store):
    options = {"sizes": "1,8,64", "copies_in_graph": copies_in_graph}
    made = run_stage("cuda_graphs", options, programs[layout], store)
    parity, quality = judge(made, programs["flat"], ParityLimits(), QualityLimits())
    assert parity.passed, parity.reason
    assert set(parity.numbers["max_abs_at"]) == {"evaluation", *(f"N={each}" for each in SIZES)}
    assert quality.passed, quality.reason


@pytest.mark.parametrize("layout", ["flat", "user_once"])
def test_garbage_in_the_padding_changes_no_score(layout, programs):
    program = programs[layout]
    predict = opened(program)
    columns = program.manifest.columns_of(sample_requests(program.manifest.signature, [11]))
    expected = predict(columns)
    views = predict.graphs[16].inputs.views()
    views["price"][11:] = np.nan
    views["item"][11:] = np.random.default_rng(1).integers(0, 100, 5)
    np.testing.assert_array_equal(predict(columns), expected)
    assert np.isnan(predict.graphs[16].scores[11:]).all()  # it was computed, and left behind
    assert np.isfinite(expected).all()


@pytest.mark.parametrize("layout", ["flat", "user_once"])
def test_users_together_and_requests_beyond_every_bucket_score_as_the_program_does(
    layout, programs
):
    program = programs[layout]
    predict, plain = opened(program), open_predictor(program)
    for counts in ([3, 1, 30], [200], [1, 130, 64, 65]):
        columns = program.manifest.columns_of(sample_requests(program.manifest.signature, counts))
        np.testing.assert_allclose(predict(columns), plain(columns), atol=1e-6)


def test_candidates_of_users_in_any_order_get_their_own_scores(programs):
    program = programs["user_once"]
    predict = opened(program)
    columns = program.manifest.columns_of(sample_requests(program.manifest.signature, [7, 9]))
    order = np.random.default_rng(0).permutation(16)
    mixed = {
        name: column[order] if len(column) == 16 else column for name, column in columns.items()
    }
    np.testing.assert_array_equal(predict(mixed), predict(columns)[order])


def test_a_request_runs_in_the_smallest_bucket_that_holds_it(programs):
    predict = opened(programs["flat"])
    runs = []
    for size, graph in predict.graphs.items():
        graph.run = lambda size=size, run=graph.run: (runs.append(size), run())
    signature = programs["flat"].manifest.signature
    for rows in (4, 5, 64, 70):
        predict(sample_requests(signature, [rows]).flat())
    assert runs == [4, 16, 64, 64, 16]


def test_more_rows_than_the_buckets_take_are_refused_where_that_is_the_rule(programs):
    predict = opened(programs["flat"], beyond="refuse")
    with pytest.raises(UserError, match="65 rows were sent; buckets hold 1 to 64"):
        predict(sample_requests(programs["flat"].manifest.signature, [65]).flat())


def test_threads_that_ask_at_once_each_get_their_own_scores(programs):
    program = programs["flat"]
    predict = opened(program)
    requests = [sample_requests(program.manifest.signature, [n]).flat() for n in range(2, 16)]
    expected = [predict(each) for each in requests]
    found = [None] * len(requests)
    together = threading.Barrier(len(requests))

    def ask(place):
        together.wait()
        for _ in range(20):
            found[place] = predict(requests[place])
            if not np.array_equal(found[place], expected[place]):
                return

    threads = [threading.Thread(target=ask, args=[place]) for place in range(len(requests))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for scores, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(scores, wanted)


def test_scores_of_one_call_are_not_overwritten_by_the_next(programs):
    predict = opened(programs["flat"])
    signature = programs["flat"].manifest.signature
    kept = predict(sample_requests(signature, [9]).flat())
    copy = kept.copy()
    predict(sample_requests(signature, [10]).flat())
    np.testing.assert_array_equal(kept, copy)


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(("value", "name"), [(100, "item"), (-1, "item"), (20, "country")])
    def test_an_id_out_of_range_is_refused_by_name_and_leaves_nothing_behind(
        self, value, name, programs
    ):
        predict = opened(programs["flat"])
        columns = sample_requests(programs["flat"].manifest.signature, [9]).flat()
        expected = predict(columns)
        wrong = columns | {name: columns[name].copy()}
        wrong[name][8] = value
        with pytest.raises(UserError, match=rf"feature '{name}' holds the ID {value}; IDs run"):
            predict(wrong)
        shorter = {each: column[:7] for each, column in columns.items()}
        np.testing.assert_allclose(predict(shorter), expected[:7], atol=1e-6)

    def test_another_dtype_or_length_is_refused_by_name(self, programs):
        predict = opened(programs["flat"])
        columns = sample_requests(programs["flat"].manifest.signature, [9]).flat()
        for wrong in (columns["price"].astype(np.float64), columns["price"][:8]):
            with pytest.raises(UserError, match=r"feature 'price' does not fit: .* float32 .*\[9"):
                predict(columns | {"price": wrong})
        with pytest.raises(UserError, match="feature 'price' does not fit"):
            predict({name: column for name, column in columns.items() if name != "price"})

    def test_more_buckets_than_dynamo_compiles_are_refused_before_it_falls_back(self):
        sizes = tuple(range(1, torch._dynamo.config.recompile_limit + 2))
        GraphOptions(sizes=sizes)
        with pytest.raises(UserError, match=r"more programs than torch\.compile makes of one"):
            GraphOptions(sizes=sizes, compile=True)

    def test_a_device_that_is_not_there_is_one_line(self, programs):
        if torch.cuda.is_available():
            pytest.skip("there is one here")
        made = Artifact(programs["flat"].folder, programs["flat"].manifest)
        with pytest.raises(UserError, match=r"no CUDA device: torch .*(without CUDA|sees none)"):
            GraphPredictor(None, columns_of(made.manifest), GraphOptions(), device="cuda")


def test_a_compiled_program_is_compiled_for_each_bucket_when_it_is_opened(programs):
    # Compiling takes long; in this stance what torch.compile returned runs without.
    with torch.compiler.set_stance("force_eager"):
        predict = opened(programs["flat"], compile=True)
        columns = sample_requests(programs["flat"].manifest.signature, [9]).flat()
        np.testing.assert_array_equal(predict(columns), opened(programs["flat"])(columns))
    with (
        torch.compiler.set_stance("fail_on_recompile"),
        pytest.raises(UserError, match=r"cannot be captured at 64 rows: .*fail_on_recompile"),
    ):
        opened(programs["flat"], compile=True)


class TestStage:
    def test_a_workload_chooses_the_buckets_and_its_waste_is_said(self, programs, store, tmp_path):
        path = tmp_path / "feed.toml"
        path.write_text(
            '[candidates]\nkind = "histogram"\ncounts = [10, 100, 300]\nweights = [5, 3, 2]\n'
        )
        options = {"workload": str(path), "buckets": 2, "greatest": 0}
        made = run_stage("cuda_graphs", options, programs["flat"], store)
        assert made.manifest.settings["cuda_graphs"]["sizes"] == [104, 304]
        # 5 · 94 + 3 · 4 + 2 · 4 of 8 · 104 + 2 · 304 rows.
        assert f"{490 / 1440:.1%} of the rows computed are padding" in made.manifest.notes[-1]

    def test_the_workloads_content_decides_not_its_name(self, programs, store, tmp_path):
        path = tmp_path / "feed.toml"
        options = {"workload": str(path), "buckets": 1, "greatest": 0}
        sizes = []
        for count in (20, 200):
            path.write_text(f'[candidates]\nkind = "fixed"\ncount = {count}\n')
            made = run_stage("cuda_graphs", options, programs["flat"], store)
            sizes.append(made.manifest.settings["cuda_graphs"]["sizes"])
        assert sizes == [[24], [200]]

    def test_a_program_whose_rows_depend_on_each_other_is_refused(self, store):
        def forward(self, profile, country, item, price):
            scores = example_rankers.TinyRanker.forward(self, profile, country, item, price)
            return scores - price.mean() * 0.1

        kind = type("Mixing", (example_rankers.TinyRanker,), {"forward": forward})
        ranker = Ranker("mixing", kind(), example_rankers.SIGNATURE, example_rankers.requests())
        program = capture(ranker, store, candidates=(2,))
        with pytest.raises(UserError, match="this program's scores depend on other rows: by 0"):
            run_stage("cuda_graphs", {"sizes": "4,16"}, program, store)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"sizes": "4;16"}, "sizes is '4;16'; expected numbers"),
            ({"sizes": "16,4"}, "expected ascending numbers"),
            ({"sizes": "4", "workload": "feed"}, "a workload or sizes, not both"),
        ],
    )
    def test_options_that_make_no_sense_are_refused(self, options, said, programs, store):
        with pytest.raises(UserError, match=said):
            run_stage("cuda_graphs", options, programs["flat"], store)


def test_a_program_moves_with_what_its_operators_make():
    class Ranges(torch.nn.Module):
        def forward(self, x):
            return x + torch.arange(3)

    program = program_on(torch.export.export(Ranges(), (torch.zeros(3),)), "meta")
    ranges = [n for n in program.graph.nodes if n.target == torch.ops.aten.arange.default]
    assert [str(each.kwargs["device"]) for each in ranges] == ["meta"]


def on_device(columns):
    return {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in columns.items()}


@pytest.mark.parametrize("layout", ["flat", "user_once"])
@pytest.mark.parametrize("copies_in_graph", [False, True])
def test_columns_that_are_on_the_device_score_as_those_that_are_packed(
    layout, copies_in_graph, programs
):
    program = programs[layout]
    predict, plain = opened(program, copies_in_graph=copies_in_graph), open_predictor(program)
    for count in (1, 16, 130):
        columns = program.manifest.columns_of(sample_requests(program.manifest.signature, [count]))
        scores = predict.score_resident(on_device(columns))
        np.testing.assert_array_equal(scores.numpy(), predict(columns))
        there = plain.score_resident(on_device(columns))
        np.testing.assert_array_equal(there.numpy(), plain(columns))
