"""What a run says of its verdicts on a terminal."""

from __future__ import annotations

from pathlib import Path

from example_rankers import SIGNATURE

from optimize.artifact import Artifact, Manifest
from optimize.report import TerminalObserver, print_artifact
from optimize.run import StageResult
from optimize.verdicts import Verdict

VERDICTS = (
    Verdict("parity", True, "max |Δscore| 1e-07, mean 2e-08", {}),
    Verdict(
        "quality",
        False,
        "needs about 40 more requests: Δauc -0.1 [-0.3, +0.1]",
        {},
        cannot_tell=True,
    ),
    Verdict("slices", True, "needs about 90 more requests in few<3", {}, cannot_tell=True),
    Verdict("ranking", False, "Δkendall -1 [-1, -0.9] is worse than the limit 0.1", {}),
)


def artifact():
    manifest = Manifest("tiny", "onnx", "model.onnx", SIGNATURE, verdicts=VERDICTS)
    return Artifact(Path("nowhere"), manifest)


def lines_of(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_each_verdict_is_a_line_that_says_which_of_the_three_it_is(capsys):
    TerminalObserver().finished(StageResult("export_onnx", artifact(), 1.0, False))
    said = lines_of(capsys.readouterr().err)
    assert said[0].startswith("✗ export_onnx")
    assert "parity passed: max |Δscore| 1e-07, mean 2e-08" in said
    assert any(each.startswith("quality CANNOT TELL: needs about 40 more") for each in said)
    assert any(each.startswith("slices passed, though it CANNOT TELL: needs") for each in said)
    assert any("ranking FAILED: Δkendall -1 [-1, -0.9]" in each for each in said)


def test_an_artifact_says_the_same_when_it_is_inspected(capsys):
    print_artifact(artifact())
    said = " ".join(capsys.readouterr().out.split())
    for each in VERDICTS:
        assert f"{each.gate} {each.word}: {each.reason}" in said
