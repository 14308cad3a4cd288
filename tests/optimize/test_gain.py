"""What a stage gained, and when that is worth keeping it."""

import json
import subprocess
import sys

import pytest

from optimize.gain import Gain, Speed, gain_key


def speed(value, *, candidates=50, sure=True):
    low, high = (value / 1.02, value * 1.02) if sure else (value / 1.5, value * 1.5)
    return Speed(candidates, value, low, high, p50_ms=1 / value, before_p50_ms=1.0)


class TestGain:
    @pytest.mark.parametrize(
        ("speeds", "after", "worth_it"),
        [
            ([speed(1.8)], 100, True),
            ([speed(1.8)], 120, True),
            ([speed(0.93)], 25, False),
            ([speed(1.1, sure=False)], 100, False),
            ([speed(0.93, sure=False)], 25, True),
            ([speed(1.8), speed(1.1, sure=False)], 100, True),
            ([speed(1.8), speed(0.93)], 25, False),
        ],
    )
    def test_a_stage_is_worth_it_if_slower_nowhere_and_faster_somewhere_or_smaller(
        self, speeds, after, worth_it
    ):
        assert Gain(tuple(speeds), after, 100).worth_it == worth_it

    def test_it_says_how_fast_and_how_large(self):
        gain = Gain((speed(0.93), speed(1.1, candidates=200, sure=False)), 25, 100)
        assert gain.describe() == (
            "0.93 times the speed of its input at N=50, "
            "1.10 times the speed of its input at N=200 (cannot tell), 0.25 times its size"
        )

    def test_it_is_kept_as_json(self):
        gain = Gain((speed(0.93), speed(1.1, sure=False)), 25, 100)
        assert Gain.from_json(gain.to_json()) == gain
        assert [each["verdict"] for each in gain.to_json()["speeds"]] == ["slower", "cannot tell"]


def test_the_command_measures_both_at_every_size(captured, onnx_artifact):
    # In a process of its own, as in a run: each round collects garbage, of which torch leaves much.
    made, data = str(onnx_artifact.folder), str(captured.folder)
    sizes = ("--candidates", "2,30", "--seconds", "0.01")
    done = subprocess.run(
        [sys.executable, "-m", "optimize", "gain", made, "--over", made, "--data", data, *sizes],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    gain = Gain.from_json(json.loads(done.stdout))
    assert [each.candidates for each in gain.speeds] == [2, 30]
    assert all(each.p50_ms > 0 and each.before_p50_ms > 0 for each in gain.speeds)
    assert all(each.low < each.speed < each.high for each in gain.speeds)
    assert gain.model_bytes == gain.before_bytes == onnx_artifact.model_bytes


def test_a_gain_is_of_two_artifacts_and_sizes(captured, onnx_artifact):
    keys = {
        gain_key(onnx_artifact, captured, captured, (50,)),
        gain_key(captured, onnx_artifact, captured, (50,)),
        gain_key(onnx_artifact, captured, captured, (50, 200)),
    }
    assert len(keys) == 3
