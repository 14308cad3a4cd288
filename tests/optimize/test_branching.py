"""Branches end alone; what passed is measured, and the rest of the run says why it lost."""

import json
import re
from dataclasses import replace

import pytest
import torch

from optimize.artifact import Artifact
from optimize.branches import Branch, MeasureOptions
from optimize.branching import libraries, run_branches
from optimize.children import default_limits
from optimize.gate_limits import GateLimits, ParityLimits
from optimize.pipeline import run_recipe
from optimize.recipe import Recipe, StageUse, load_recipe
from optimize.run import StageResult
from optimize.stages import make_stage
from optimize.steps import Silent
from optimize.triton.deployable import find_deployable
from optimize.verdicts import Verdict
from rankers.errors import UserError


class Steps:
    """Stages that give artifacts made beforehand; measuring that does not work."""

    device = "cpu"

    def __init__(self, made):
        self.made, self.asked = made, []

    def stage(self, use, source, gates=None):
        self.asked.append(use.name)
        found = self.made[use.name]
        if isinstance(found, UserError):
            raise found
        return StageResult(use.name, found, 0.0, cached=False)

    def measure(self, artifacts, options):
        raise UserError("measure crashed with SIGSEGV: see log.txt")


def branch(name, *stages, **more):
    return Branch(name, tuple(StageUse(each, make_stage(each, {})) for each in stages), **more)


def judged(artifact, *, passed=True, **changes):
    verdict = Verdict("parity", passed, "said so", {})
    return Artifact(artifact.folder, replace(artifact.manifest, verdicts=(verdict,), **changes))


def test_a_failed_measurement_keeps_the_first_that_passed_and_can_be_deployed(onnx_artifact):
    made = {
        "compile_inductor": judged(onnx_artifact, format="inductor"),
        "export_onnx": judged(onnx_artifact),
    }
    branches = (branch("code", "compile_inductor"), branch("graph", "export_onnx"))
    chosen = run_branches(branches, onnx_artifact, Steps(made), MeasureOptions())
    assert [each.end for each in chosen.branches] == ["lost", "kept"]
    assert chosen.kept.manifest.format == "onnx"
    assert "crashed with SIGSEGV" in chosen.note
    assert any("crashed with SIGSEGV" in each for each in chosen.notes)
    anything = MeasureOptions(deployable_only=False)
    chosen = run_branches(branches, onnx_artifact, Steps(made), anything)
    assert chosen.kept.manifest.format == "inductor"
    assert chosen.deployable.manifest.format == "onnx"


def test_a_rival_is_not_kept_though_it_is_the_first_that_passed(onnx_artifact):
    made = {
        "compile_inductor": judged(onnx_artifact, format="inductor"),
        "export_onnx": judged(onnx_artifact),
    }
    branches = (branch("rival", "compile_inductor"), branch("graph", "export_onnx"))
    options = MeasureOptions(deployable_only=False, rivals=("rival",))
    chosen = run_branches(branches, onnx_artifact, Steps(made), options)
    assert [each.end for each in chosen.branches] == ["lost", "kept"]
    alone = run_branches(branches[:1], onnx_artifact, Steps(made), options)
    assert (alone.kept, alone.deployable) == (None, None)


def test_a_rival_is_measured_and_the_best_of_the_others_is_kept(onnx_artifact, captured):
    from optimize.measuring import measure_artifacts

    artifacts = {"graph": onnx_artifact, "program": captured}
    few = {"requests": 20, "seconds": 0.1, "deployable_only": False}
    measured = measure_artifacts(artifacts, captured, MeasureOptions(**few, rivals=("program",)))
    assert (measured.kept, measured.deployable) == ("graph", "graph")
    names = {each.target["name"] for each in measured.comparison.measurements}
    assert names == {"graph", "program", "torch eager"}
    refused = measure_artifacts(artifacts, captured, MeasureOptions(**few, rivals=("graph",)))
    assert (refused.kept, refused.deployable) == ("program", None)


@pytest.mark.parametrize("own", [None, GateLimits(parity=ParityLimits(max_abs=0.5))])
def test_what_is_kept_by_limits_of_its_own_says_so(own, onnx_artifact, captured):
    from optimize.measuring import measure_artifacts

    class Measuring(Steps):
        def measure(self, artifacts, options):
            return measure_artifacts(artifacts, captured, options)

    steps = Measuring({"export_onnx": judged(onnx_artifact)})
    branches = (branch("graph", "export_onnx", gates=own),)
    few = MeasureOptions(requests=20, seconds=0.1)
    chosen = run_branches(branches, onnx_artifact, steps, few)
    assert chosen.branches[0].end == "kept"
    assert ("held to its branch's limits" in chosen.note) is (own is not None)


def test_a_branch_that_would_only_repeat_another_ends_with_the_stages_reason(captured):
    kept_flat = judged(captured, notes=("user_once: kept flat: little depends on the user",))
    steps = Steps({"user_once": kept_flat})
    chosen = run_branches(
        (branch("user once", "user_once", "export_onnx", layout="user_once"),),
        captured,
        steps,
        MeasureOptions(),
    )
    assert steps.asked == ["user_once"]
    assert chosen.branches[0].end == "skipped"
    assert chosen.branches[0].reason.endswith("kept flat: little depends on the user")
    assert chosen.kept is None


def test_a_missing_library_skips_the_branch_and_says_how_to_install_it(captured):
    class Exotic:
        needs = ("no-such-library",)

    steps = Steps({})
    chosen = run_branches(
        (Branch("exotic", (StageUse("exotic", Exotic()),)),), captured, steps, MeasureOptions()
    )
    assert chosen.branches[0].end == "skipped"
    assert (
        chosen.branches[0].reason == "no-such-library is not installed: pip install no-such-library"
    )
    assert not steps.asked


def test_what_a_stage_needs_after_another_is_known_before_anything_is_made():
    branches = {each.name: each for each in load_recipe("gpu-trt").branches}
    assert "nvidia-modelopt" in libraries(branches["torch-tensorrt, int8 and fp16"])
    assert "nvidia-modelopt" not in libraries(branches["torch-tensorrt, fp16"])


def test_what_cannot_be_deployed_is_refused_with_the_best_that_can(onnx_artifact, tmp_path):
    from optimize.artifact import seal

    for name, kind in (("fast", "made_up"), ("slow", "onnx")):
        (tmp_path / name).mkdir()
        seal(tmp_path / name, replace(onnx_artifact.manifest, format=kind))
    run = {"chosen": "fast", "best_deployable": "slow"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(UserError) as caught:
        find_deployable(tmp_path)
    assert "serves made_up artifacts" in str(caught.value)
    assert str(caught.value).endswith(f"can be deployed is {tmp_path / 'slow'}")


def test_a_branch_is_held_to_the_gates_of_the_recipe_that_it_names(tmp_path):
    stages = 'stages = [{ use = "export_onnx" }]'
    (tmp_path / "mine.toml").write_text(
        f'[[branches]]\nname = "a"\n{stages}\n'
        f'[[branches]]\nname = "b"\ngates = "cpu-fast"\n{stages}\n'
        f'[[branches]]\nname = "c"\ngates = {{ parity = {{ max_abs = 0.5 }} }}\n{stages}\n'
        "[gates.parity]\nmax_abs = 1e-4\n"
    )
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    first, second, third = (each.gates for each in recipe.branches)
    assert (first, recipe.parity.max_abs) == (None, 1e-4)
    assert second == load_recipe("cpu-fast").gates
    assert third.parity.max_abs == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('stages = [{ use = "export_onnx" }]', "needs a name of its own, not None"),
        ('name = "a"', "branch 'a': it needs at least one"),
        ('name = "a"\nstages = [{ use = "optimize_onnx" }]', "what comes to it is torch"),
        ('name = "a"\nstags = 1', "branch 'a': it has no 'stags'; did you mean 'stages'"),
        ('name = "a"\ngates = "cpu-fats"\nstages = []', "mean 'cpu-fast'"),
        ('name = "a"\ngates = { parity = { max_ab = 1 } }\nstages = []', "mean 'max_abs'"),
        ('name = "a"\ngates = 1\nstages = []', "'gates' is a table"),
        ('name = "a"\nlayout = "user_one"\nstages = []', "did you mean 'user_once'"),
        ('name = "a"\nstages = [{ use = "export_onnx" }]\n[measure]\nsecond = 1', "mean 'seconds'"),
        (
            'name = "a"\nstages = [{ use = "export_onnx" }]\n[measure]\nthreads = 0',
            "threads is 0; expected a whole number from 1",
        ),
    ],
)
def test_a_mistake_in_branches_is_said_in_one_line(tmp_path, text, said):
    (tmp_path / "mine.toml").write_text(f"[[branches]]\n{text}\n")
    with pytest.raises(UserError) as caught:
        load_recipe(str(tmp_path / "mine.toml"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
class TestWithoutAGpu:
    WHY = "no CUDA device: torch .*(without CUDA|sees none)"

    def test_a_branch_for_one_is_skipped_before_anything_is_made(self, captured):
        steps = Steps({})
        branches = (branch("graphs", "cuda_graphs"),)
        (ended,) = run_branches(branches, captured, steps, MeasureOptions()).branches
        assert ended.end == "skipped"
        assert re.match(self.WHY, ended.reason)
        assert steps.asked == []

    @pytest.mark.parametrize("device", ["cpu", "cuda"])
    def test_a_recipe_for_one_is_refused_before_anything_is_made(self, device, tmp_path):
        recipe = Recipe("graphs", "", (StageUse("cuda_graphs", make_stage("cuda_graphs", {})),))
        observer = Noticing()
        with pytest.raises(UserError, match=rf"recipe 'graphs': {self.WHY}"):
            run_recipe(
                "nobody.py:ranker", recipe, tmp_path / "out", limits=default_limits(),
                observer=observer, device=device,
            )  # fmt: skip
        assert len(observer.noticed_lines) == (device == "cuda")
        assert not (tmp_path / "out").exists()


class Noticing(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.noticed_lines = []

    def noticed(self, message):
        self.noticed_lines.append(message)
