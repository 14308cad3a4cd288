"""The stage: tables in few bits, in torch and in ONNX, before the user's part is split or after."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import table_rankers
import torch

from optimize.artifact import open_artifact
from optimize.build import run_stage
from optimize.capture import capture
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.stages.quantize_tables import REPORT
from optimize.tables.codes import Codes, decode, row_errors
from optimize.tables.program import open_tables
from optimize.torch_program import load_program
from rankers.errors import UserError

WIDTHS = ("int8", "int4", "bf16")
# How far scores may be from the original's: several rows of unit size, each rounded.
FAR = {"int8": 0.4, "int4": 4.0, "bf16": 0.3}


@pytest.fixture(scope="module")
def flat(store):
    return capture(table_rankers.shop(), store, candidates=(1, 5))


@pytest.fixture(scope="module", params=WIDTHS)
def quantized(request, flat, store):
    return run_stage("quantize_tables", {"width": request.param}, flat, store)


@pytest.fixture(scope="module")
def exported(quantized, store):
    return run_stage("export_onnx", {}, quantized, store)


def reports(artifact):
    found = json.loads((artifact.folder / REPORT).read_text())["tables"]
    return {each["name"]: each for each in found}


def scores(artifact, batch):
    return open_predictor(artifact)(artifact.manifest.columns_of(batch))


def width_of(artifact):
    return artifact.manifest.precision.rpartition(" ")[2]


def initializers(path):
    return {each.name: each for each in onnx.load(path).graph.initializer}


class TestScores:
    def test_they_are_close_to_the_original_but_not_the_same(self, flat, quantized):
        batch = sample_requests(table_rankers.SIGNATURE, [20, 3, 30])
        difference = np.abs(scores(quantized, batch) - scores(flat, batch)).max()
        assert 1e-5 < difference < FAR[width_of(quantized)]

    def test_the_onnx_graph_gives_the_programs(self, quantized, exported):
        for counts in ([1], [20, 3, 30]):
            batch = sample_requests(table_rankers.SIGNATURE, counts)
            np.testing.assert_allclose(
                scores(exported, batch), scores(quantized, batch), atol=2e-5, rtol=2e-5
            )

    def test_a_program_reads_the_rows_that_its_codes_stand_for(self, flat, store):
        """Two values in a byte, of a table with an odd width."""
        artifact = run_stage("quantize_tables", {"width": "int4"}, flat, store)
        program = load_program(artifact.model_path)
        held = program.state_dict | program.constants

        def part(name):
            return next(x for key, x in held.items() if key.endswith(name))

        codes = Codes(part("table_user_int4"), part("table_user_int4_levels"))
        rows = decode(codes, 4, part("table_scales"), 7)
        original = table_rankers.shop().module.user.weight
        assert row_errors(original.detach(), rows).median() < 0.07
        graph, _ = open_tables(artifact)
        columns = sample_requests(table_rankers.SIGNATURE, [400]).flat()
        columns["user_id"] = np.arange(400)
        values = graph.run({name: torch.from_numpy(x) for name, x in columns.items()})
        assert any(isinstance(x, torch.Tensor) and torch.equal(x, rows) for x in values.values())


class TestTables:
    def test_their_values_are_held_at_the_width_in_the_file_and_in_what_runs(
        self, exported, tmp_path
    ):
        """ONNX Runtime folds constants when it opens a graph: no table becomes floats again."""
        optimized = tmp_path / "opened.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(optimized)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(exported.model_path, options)
        width = width_of(exported)
        types = {
            "int8": onnx.TensorProto.INT8,
            "int4": onnx.TensorProto.INT8,
            "bf16": onnx.TensorProto.BFLOAT16,
        }
        columns = {"user": 4, "item": 8, "tags": 6, "region": 2}
        if width != "int4":
            columns = {"user": 7, "item": 16, "tags": 12, "region": 4}
        for path in (exported.model_path, optimized):
            held = initializers(path)
            for name, size in columns.items():
                (table,) = (x for key, x in held.items() if key.endswith(f"table_{name}_{width}"))
                assert table.data_type == types[width]
                assert table.dims[1] == size
            floats = [x for x in held.values() if x.data_type == onnx.TensorProto.FLOAT]
            # The tied table of words is the largest that stays: [256, 16], once each way.
            assert max(np.prod(x.dims) for x in floats) <= 256 * 16

    def test_one_that_two_lookups_share_stays_one(self, quantized):
        assert reports(quantized)["item"]["lookups"] == 2
        program = load_program(quantized.model_path)
        held = [*program.state_dict.values(), *program.constants.values()]
        assert sum(x.shape[0] == 300 and x.shape[1] in {8, 16} for x in held if x.dim() == 2) == 1

    def test_padding_stays_exactly_zero(self, flat, quantized):
        graph, _ = open_tables(quantized)
        columns = sample_requests(table_rankers.SIGNATURE, [9]).flat()
        columns["history"][:] = 0
        columns["tags"][:] = 0
        values = graph.run({name: torch.from_numpy(x) for name, x in columns.items()})
        padded = {
            tuple(value.shape)
            for value in values.values()
            if isinstance(value, torch.Tensor)
            and value.dtype == torch.float32
            and value.dim() == 3
            and not value.any()
        }
        assert {(9, 6, 16), (9, 4, 12)} <= padded

    def test_one_that_a_layer_reads_too_and_small_ones_are_left_alone(self, quantized):
        found = reports(quantized)
        assert "too" in found["word"]["reason"]
        assert found["kind"]["reason"] == "fewer than 256 rows"
        for each in (found["word"], found["kind"]):
            assert each["width"] == "float32"
            assert each["bytes_after"] == each["bytes_before"]

    def test_bytes_are_reported_for_each_as_the_program_has_them(self, quantized):
        width = width_of(quantized)
        row = {"int8": 17, "int4": 9, "bf16": 32}[width]
        found = reports(quantized)["item"]
        assert (found["rows"], found["dimension"], found["width"]) == (300, 16, width)
        assert found["bytes_before"] == 300 * 64
        assert found["bytes_after"] == 300 * row
        assert (found["lookup_bytes_before"], found["lookup_bytes_after"]) == (64, row)
        assert 0 < found["median_row_error"] <= found["worst_row_error"] < 0.2

    def test_the_artifact_says_so(self, quantized, exported):
        width = width_of(quantized)
        assert exported.manifest.precision == f"fp32, tables {width}"
        (note,) = exported.manifest.notes
        assert note.startswith(f"quantize_tables: 4 of 6 tables {width}")


class TestComposition:
    def test_after_the_users_part_was_split_or_before_it_scores_alike(self, flat, store):
        once = run_stage("user_once", {"when": "always"}, flat, store)
        after = run_stage("quantize_tables", {}, once, store)
        before = run_stage("quantize_tables", {}, flat, store)
        before = run_stage("user_once", {"when": "always"}, before, store)
        batch = sample_requests(table_rankers.SIGNATURE, [5, 1, 9])
        expected = scores(run_stage("quantize_tables", {}, flat, store), batch)
        for artifact in (after, before):
            assert artifact.manifest.layout == "user_once"
            np.testing.assert_allclose(scores(artifact, batch), expected, atol=2e-5)
        graph = run_stage("export_onnx", {}, after, store)
        np.testing.assert_allclose(scores(graph, batch), expected, atol=2e-5)

    def test_some_tables_then_others_add_up(self, flat, store):
        first = run_stage("quantize_tables", {"tables": "us*"}, flat, store)
        assert reports(first)["item"]["reason"] == "not asked for"
        options = {"tables": "item, region", "width": "int4"}
        second = run_stage("quantize_tables", options, first, store)
        assert second.manifest.precision == "fp32, tables int4/int8"
        assert reports(second)["item"]["width"] == "int4"

    def test_a_second_time_there_is_nothing_left(self, flat, store):
        first = run_stage("quantize_tables", {}, flat, store)
        second = run_stage("quantize_tables", {}, first, store)
        assert second.manifest.precision == "fp32, tables int8"
        assert all(each["reason"] for each in reports(second).values())
        batch = sample_requests(table_rankers.SIGNATURE, [9])
        np.testing.assert_array_equal(scores(second, batch), scores(first, batch))


class TestMistakes:
    def test_a_name_that_no_table_has(self, flat, store):
        with pytest.raises(UserError, match=r"no table is called 'usr'; there are item, user"):
            run_stage("quantize_tables", {"tables": "usr"}, flat, store)

    def test_a_width_that_there_is_not(self, flat, store):
        with pytest.raises(UserError, match="'int2'"):
            run_stage("quantize_tables", {"width": "int2"}, flat, store)

    def test_no_rows(self, flat, store):
        with pytest.raises(UserError, match="min_rows is 0"):
            run_stage("quantize_tables", {"min_rows": 0}, flat, store)


def test_values_beyond_fp16_are_left_alone(store):
    ranker = table_rankers.shop()
    with torch.no_grad():
        ranker.module.user.weight[3, 3] = 1e5
    flat = capture(ranker, store, candidates=(1,))
    found = reports(run_stage("quantize_tables", {"width": "fp16"}, flat, store))
    assert found["user"]["reason"] == "holds values beyond what fp16 holds"
    assert found["item"]["width"] == "fp16"
    assert open_artifact(flat.folder).manifest.precision == "fp32"


class TestAuto:
    def test_each_table_has_its_own_width_and_the_artifact_says_on_what_grounds(self, flat, store):
        options = {"width": "auto", "max_bytes_ratio": 0.4}
        artifact = run_stage("quantize_tables", options, flat, store)
        found = json.loads((artifact.folder / REPORT).read_text())
        widths = found["choice"]["widths"]
        assert {x["name"]: x["width"] for x in found["tables"] if not x["reason"]} == widths
        after, before = (sum(x[f"bytes_{y}"] for x in found["tables"]) for y in ("after", "before"))
        assert after / before == pytest.approx(found["choice"]["bytes_ratio"])
        assert after / before <= 0.4
        assert "scores change by" in artifact.manifest.notes[-1]

    def test_the_content_of_a_file_of_counts_decides_not_its_name(self, flat, store, tmp_path):
        from rankers.seen import save_counts

        path = tmp_path / "seen.safetensors"
        options = {"width": "auto", "max_score_change": 0.02, "counts": str(path)}
        folders = set()
        for most in (1, 5, 1):
            save_counts({"item": np.arange(300) % (most + 1)}, path)
            folders.add(run_stage("quantize_tables", options, flat, store).folder)
        assert len(folders) == 2

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"width": "auto"}, "give either .* not neither"),
            ({"width": "auto", "max_bytes_ratio": 0.2, "max_score_change": 0.1}, "not max_bytes"),
            ({"max_bytes_ratio": 0.2}, "goes with width = 'auto'"),
            ({"counts": "seen.safetensors"}, "counts goes with"),
            ({"width": "auto", "max_bytes_ratio": 1.5}, "1.5; expected a share"),
            ({"width": "auto", "max_bytes_ratio": 0.5, "counts": "no.safetensors"}, "cannot be"),
        ],
    )
    def test_options_that_do_not_go_together(self, flat, store, options, message):
        with pytest.raises(UserError, match=message):
            run_stage("quantize_tables", options, flat, store)


class TestWidths:
    def test_named_tables_get_theirs_and_all_others_stay(self, flat, store):
        made = run_stage(
            "quantize_tables", {"widths": {"user": "int4", "kind": "fp16"}}, flat, store
        )
        found = reports(made)
        assert {name for name, each in found.items() if not each["reason"]} == {"user", "kind"}
        assert (found["user"]["width"], found["kind"]["width"]) == ("int4", "fp16")
        assert found["item"]["reason"] == "not asked for"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"widths": {"user": "int3"}}, "widths has 'int3' for table 'user'"),
            ({"widths": {"usr": "int8"}}, "no table is called 'usr'"),
            ({"widths": {"user": "int8"}, "width": "int4"}, "give neither width nor tables"),
            ({"widths": {"user": "int8"}, "tables": "user"}, "give neither width nor tables"),
            ({"widths": "user"}, "option 'widths' is 'user'; expected dict"),
        ],
    )
    def test_mistakes(self, flat, store, options, message):
        with pytest.raises(UserError, match=message):
            run_stage("quantize_tables", options, flat, store)
