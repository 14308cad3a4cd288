"""A stage alone: its result is kept under a key of all that it depends on."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import example_rankers
import pytest

from optimize.build import run_stage, stage_folder
from optimize.capture import capture, load_calibration
from optimize.stages import STAGES, make_stage
from optimize.stages.export_onnx import MODEL
from rankers.errors import UserError


@dataclass(frozen=True)
class Learns:
    """Notes how many requests it was given."""

    consumes: ClassVar[str] = "onnx"
    produces: ClassVar[str] = "onnx"
    needs: ClassVar[tuple[str, ...]] = ()
    code: ClassVar[tuple[str, ...]] = ()
    needs_data: ClassVar[bool] = True

    def run(self, artifact, folder, calibration):
        shutil.copyfile(artifact.model_path, folder / MODEL)
        return replace(artifact.manifest, notes=(f"learns: {len(calibration)} requests",))


def captured_with(count, store, seed=5):
    ranker = replace(example_rankers.tiny(), calibration=example_rankers.requests(count, seed=seed))
    return capture(ranker, store, candidates=(1,))


@pytest.fixture
def learns(monkeypatch):
    monkeypatch.setitem(STAGES, "learns", f"{__name__}:Learns")
    return "learns"


class TestLearningStage:
    def test_it_gets_the_calibration_requests_of_the_captured_ranker(
        self, learns, onnx_artifact, store
    ):
        data = captured_with(7, store)
        assert len(load_calibration(data)) == 7
        made = run_stage(learns, {}, onnx_artifact, store, data=data)
        assert made.manifest.notes == ("learns: 7 requests",)

    def test_other_requests_make_another_artifact_and_the_same_ones_do_not(
        self, learns, onnx_artifact, store
    ):
        folders = [
            run_stage(learns, {}, onnx_artifact, store, data=captured_with(7, store, seed)).folder
            for seed in (5, 6, 5)
        ]
        assert folders[0] != folders[1]
        assert folders[0] == folders[2]

    def test_a_ranker_without_such_requests_is_told_how_to_give_them(
        self, learns, onnx_artifact, captured, store
    ):
        with pytest.raises(UserError, match=r"'tiny' has none.*Ranker\(calibration=…\)"):
            run_stage(learns, {}, onnx_artifact, store, data=captured)
        with pytest.raises(UserError, match="--data"):
            run_stage(learns, {}, onnx_artifact, store)


class TestWhatIsMadeForACpu:
    @pytest.mark.parametrize(
        ("name", "options", "depends"),
        [
            ("optimize_onnx", {"level": "extended"}, False),
            ("optimize_onnx", {"level": "all"}, True),
            ("quantize_dynamic", {}, True),
            ("compile_inductor", {}, True),
        ],
    )
    def test_is_made_again_on_another(self, name, options, depends, onnx_artifact, monkeypatch):
        def folder():
            return stage_folder(name, make_stage(name, options), onnx_artifact, Path("store"))

        here = folder()
        monkeypatch.setattr("optimize.build.instruction_sets", lambda: ("of another",))
        assert (folder() != here) is depends
