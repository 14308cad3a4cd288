"""Runs as they lie on disk: every variant with what is on record, and nothing that is not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from bench.compare import Comparison
from bench.environment import environment
from bench.latencies import record
from bench.measurement import Counts, Measurement
from bench.results_file import save_results
from bench.tables import load_text
from optimize.artifact import open_artifact, seal_with_verdicts
from optimize.branching import BranchResult, Chosen
from optimize.build import run_stage
from optimize.cli import main
from optimize.gain import Gain, Speed
from optimize.gate_limits import GateLimits, ParityLimits, QualityLimits
from optimize.gates import judge
from optimize.measuring import EAGER
from optimize.run import MEASUREMENTS, RUN_FILE, Run, StageResult
from optimize.variants.reading import read_variants
from optimize.variants.report import chosen_metric, variant_tables
from optimize.variants.variant import standings
from rankers.errors import UserError

LOOSE = GateLimits(
    ParityLimits(1.0, 1.0, (1, 37)),
    QualityLimits(1.0, 1.0, 1.0, 1.0, 1.0, cannot_tell="pass"),
)
WEIGHED = "37 candidates, as a stage was weighed"


@pytest.fixture(scope="module")
def coarse(captured, store):
    return run_stage("quantize_tables", {"width": "int4", "min_rows": 1}, captured, store)


def put(out, number, name, artifact, captured, *, limits=LOOSE):
    """Judge an artifact and put it where a run would."""
    verdicts = judge(artifact, captured, limits.parity, limits.quality)
    folder = out / "artifacts" / f"{number}-{name}"
    folder.mkdir(parents=True)
    seal_with_verdicts(artifact, verdicts, folder)
    return StageResult(name, open_artifact(folder), 0.1, cached=False)


def write(run):
    (run.out / RUN_FILE).write_text(json.dumps(run.to_json()))
    return run.out


@pytest.fixture(scope="module")
def stages(captured, onnx_artifact, coarse, tmp_path_factory):
    """A run that weighed a stage and dropped it, and then went on from that stage's input."""
    out = tmp_path_factory.mktemp("run") / "cpu-fast"
    first = put(out, 1, "capture", captured, captured)
    graph = put(out, 2, "export_onnx", onnx_artifact, captured)
    step = replace(coarse.manifest.lineage[-1], source=graph.artifact.key)
    made = put(out, 3, "quantize_dynamic", coarse, captured).artifact
    lineage = replace(made.manifest, lineage=(*made.manifest.lineage[:-1], step))
    (made.folder / "manifest.json").write_text(json.dumps(lineage.to_json()))
    speed = Speed(37, 0.5, 0.4, 0.6, 0.2, 0.1)
    weighed = StageResult(
        "quantize_dynamic", open_artifact(made.folder), 0.1, cached=False,
        gain=Gain((speed,), 5, 10), dropped="quantize_dynamic: 0.50 times the speed; dropped",
    )  # fmt: skip
    return write(Run(out, "cpu-fast", (first, graph, weighed), graph.artifact, passed=True))


def measurement(name, milliseconds, **changes):
    values = record(np.full(500, milliseconds / 1e3))
    return Measurement(
        target={"name": name, "kind": "artifact", "device": "cpu", "instances": 1},
        workload={"name": "the evaluation requests"},
        load={"mode": "closed", "concurrency": 1, "warmup": 10},
        response=values,
        service=values,
        lag=record(np.empty(0)),
        counts=Counts(ok=500, candidates=5000),
        error_messages=(),
        duration_s=1.0,
        environment=environment(),
        steal_share=0.0,
        load_average=0.5,
        command="",
        timestamp_utc="2026-01-01T00:00:00+00:00",
        **changes,
    )


@pytest.fixture(scope="module")
def branches(captured, onnx_artifact, coarse, tmp_path_factory):
    """A run of branches: two were measured, one failed its gate."""
    out = tmp_path_factory.mktemp("run") / "auto"
    first = put(out, 1, "capture", captured, captured)
    graph = put(out, 2, "export_onnx", onnx_artifact, captured)
    small = put(out, 3, "quantize_tables", coarse, captured)
    ended = (
        BranchResult("onnx", "kept", "p50 2 ms", graph.artifact),
        BranchResult("small", "lost", "p50 3 ms", small.artifact),
        BranchResult("broken", "failed its gate", "parity: max exceeds"),
    )
    runs = tuple(measurement(x, y) for x, y in (("onnx", 2.0), ("small", 3.0), (EAGER, 9.0)))
    chosen = Chosen(ended, graph.artifact, graph.artifact, None, "")
    save_results(Comparison(runs, ()), out / MEASUREMENTS)
    return write(
        Run(out, "auto", (first, graph, small), graph.artifact, passed=True, branches=chosen)
    )


def by_name(variants):
    return {each.name: each for each in variants}


class TestStages:
    def test_what_was_weighed_and_what_it_was_weighed_against_have_their_p50s(self, stages):
        found = by_name(read_variants([stages]))
        assert list(found) == ["original", "export_onnx", "quantize_dynamic"]
        assert found["original"].p50_ms == {}
        assert found["export_onnx"].p50_ms == {WEIGHED: 0.1}
        assert found["quantize_dynamic"].p50_ms == {WEIGHED: 0.2}
        assert (found["export_onnx"].state, found["quantize_dynamic"].state) == ("kept", "dropped")
        assert "0.50 times the speed" in found["quantize_dynamic"].reason

    def test_bytes_and_changes_of_quality_are_those_of_the_artifacts(self, stages, coarse):
        found = by_name(read_variants([stages]))
        assert found["quantize_dynamic"].model_bytes == coarse.model_bytes
        assert found["original"].quality["auc"].estimate == 0
        change = found["quantize_dynamic"].quality["auc"]
        assert change.low < change.estimate < change.high

    def test_one_without_a_p50_is_not_judged_and_the_table_says_so(self, stages):
        variants = read_variants([stages])
        judged = {each.variant.name: each for each in standings(variants, "auc", WEIGHED)}
        assert judged["original"].outcome == "not measured"
        assert judged["original"].missing == ("p50",)
        (table,) = variant_tables(variants, "auc")
        original = next(row for row in table.rows if row[0] == "original")
        assert original[2] == "not measured"
        assert original[-1] == "not judged: no p50 on record"

    def test_what_failed_its_gates_is_nobodys_rival(self, captured, coarse, tmp_path):
        out = tmp_path / "failing"
        tight = replace(LOOSE, parity=ParityLimits(1e-9, 1e-9, (1, 37)))
        first = put(out, 1, "capture", captured, captured)
        failed = put(out, 2, "quantize_tables", coarse, captured, limits=tight)
        variants = read_variants([write(Run(out, "r", (first, failed), None, passed=False))])
        assert variants[1].state == "failed"
        assert variants[1].reason.startswith("parity: max")
        assert [x.outcome for x in standings(variants, "auc", None)] == ["on the front", "out"]


class TestBranches:
    def test_each_is_a_variant_with_the_p50_that_was_measured(self, branches):
        found = by_name(read_variants([branches]))
        load = load_text(measurement("x", 1))
        p50s = {name: each.p50_ms.get(load) for name, each in found.items()}
        assert p50s.pop("broken") is None
        assert p50s == pytest.approx({"original": 9.0, "onnx": 2.0, "small": 3.0}, rel=0.02)
        states = {name: each.state for name, each in found.items()}
        assert states == {
            "original": "passed", "onnx": "kept", "small": "passed", "broken": "failed",
        }  # fmt: skip
        assert found["broken"].reason == "failed its gate: parity: max exceeds"

    def test_the_front_is_of_size_p50_and_quality_and_names_what_beats_the_rest(self, branches):
        variants = read_variants([branches])
        load = load_text(measurement("x", 1))
        judged = {each.variant.name: each for each in standings(variants, "auc", load)}
        found = by_name(variants)
        costs = {
            name: (found[name].model_bytes, found[name].p50_ms[load], found[name].loss("auc"))
            for name in ("original", "onnx", "small")
        }
        for name, cost in costs.items():
            beaten = [
                other for other, one in costs.items()
                if all(x <= y for x, y in zip(one, cost, strict=True)) and one != cost
            ]  # fmt: skip
            assert (
                (judged[name].beaten_by in beaten)
                if beaten
                else (judged[name].outcome == "on the front")
            )
        assert judged["broken"].outcome == "out"


class TestSeveral:
    def test_runs_of_one_ranker_share_their_original(self, stages, branches):
        names = [each.name for each in read_variants([stages, branches])]
        assert names.count("original") == 1
        assert {"cpu-fast: export_onnx", "auto: onnx", "auto: broken"} <= {*names}

    def test_an_artifact_alone_is_one_variant(self, stages):
        (folder,) = (stages / "artifacts").glob("2-*")
        (variant,) = read_variants([folder])
        assert (variant.name, variant.state, variant.p50_ms) == ("2-export_onnx", "passed", {})

    def test_another_ranker_is_refused(self, stages, tiny_artifact):
        with pytest.raises(UserError, match="is of a ranker with another signature"):
            read_variants([stages, tiny_artifact.folder])

    def test_another_original_of_the_same_name_is_refused(self, stages, captured, tmp_path):
        other = tmp_path / "other"
        judged = put(other, 1, "capture", captured, captured).artifact
        verdicts = [
            replace(each, numbers=each.numbers | {"auc": {**each.numbers["auc"], "reference": 0.1}})
            if each.gate == "quality"
            else each
            for each in judged.manifest.verdicts
        ]
        data = replace(judged.manifest, verdicts=tuple(verdicts)).to_json()
        (judged.folder / "manifest.json").write_text(json.dumps(data))
        with pytest.raises(UserError, match=r"judged against an original of auc 0\.1"):
            read_variants([stages, judged.folder])

    def test_what_is_no_run_is_refused(self, tmp_path):
        (tmp_path / RUN_FILE).write_text("{}")
        with pytest.raises(UserError, match="not a rankserve run"):
            read_variants([tmp_path])


class TestCommand:
    def test_a_page_has_the_picture_the_table_and_what_is_beaten(self, branches, tmp_path):
        page = tmp_path / "page.html"
        done = CliRunner().invoke(main, ["compare", str(branches), "--out", str(page), "--json"])
        assert done.exit_code == 0, done.stderr
        said = json.loads(done.stdout)
        text = page.read_text()
        assert "<svg" in text
        for each in said["variants"]:
            assert each["name"] in text
        (under,) = said["standings"]
        for name, each in under["variants"].items():
            if each["outcome"] == "beaten":
                assert f"{name} is beaten by {each['beaten_by']}" in text
        assert "On the front:" in text

    def test_a_picture_alone_without_p50s_has_size_along(self, stages, tmp_path):
        (folder,) = (stages / "artifacts").glob("2-*")
        picture = tmp_path / "picture.svg"
        done = CliRunner().invoke(main, ["compare", str(folder), "--out", str(picture)])
        assert done.exit_code == 0, done.stderr
        assert "files, MB" in picture.read_text()
        assert "2-export_onnx" in done.stdout

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--out", "page.pdf"], "ends in .html, .svg or .png"),
            (["--metric", "auk"], "unknown metric 'auk'"),
            (["--metric", "mrr_at_10"], "no gate judged 'mrr_at_10' in these runs; there are auc"),
        ],
    )
    def test_mistakes_are_said_in_a_line(self, stages, arguments, message):
        done = CliRunner().invoke(main, ["compare", str(stages), *arguments])
        assert done.exit_code == 2
        assert message in done.stderr

    def test_measuring_needs_a_run(self, stages):
        (folder,) = (stages / "artifacts").glob("2-*")
        done = CliRunner().invoke(main, ["compare", str(folder), "--measure", "1"])
        assert done.exit_code == 2
        assert "give the folder of one" in done.stderr


def test_the_metric_is_the_first_usual_one_on_record(stages):
    variants = read_variants([stages])
    assert chosen_metric(variants, None) == "auc"
    assert chosen_metric(variants, "logloss") == "logloss"
