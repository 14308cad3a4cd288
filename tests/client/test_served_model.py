"""What a model's answers and its config have to be; the fuzz asks far more."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_ranker import SIGNATURE
from tritonclient.grpc import model_config_pb2, service_pb2

from client import ModelFailed, ModelNotFound
from client.completions import CallFailed
from client.served_model import ServedModel

MODEL = ServedModel("tiny", SIGNATURE, 2000)


def answer(*, name="score", datatype="FP32", shape=(1, 3), values=(0.1, 0.2, 0.3), other=False):
    message = service_pb2.ModelInferResponse(model_name="tiny")
    if other:
        message.outputs.add(name="other", datatype="INT64", shape=[1])
        message.raw_output_contents.append(bytes(8))
    message.outputs.add(name=name, datatype=datatype, shape=shape)
    message.raw_output_contents.append(np.array(values, np.float32).tobytes())
    return message


def test_scores_are_taken_by_their_name():
    for message in (answer(), answer(other=True), answer(shape=(3,)), answer(shape=(1, 3, 1))):
        np.testing.assert_allclose(MODEL.scores(message, 3), [0.1, 0.2, 0.3], rtol=1e-6)
    assert MODEL.scores(answer(shape=(), values=[0.5]), 1) == [0.5]


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (answer(name="scores"), "answered with 'scores'; expected one output 'score'"),
        (service_pb2.ModelInferResponse(), "answered with nothing; expected one output"),
        (answer(datatype="INT32"), "scores of type 'INT32'; expected 'FP32'"),
        (answer(shape=(1, 4)), r"answered 3 candidates with scores of shape \[1, 4\]"),
        (answer(shape=(-1, -3)), r"scores of shape \[-1, -3\]"),
        (answer(values=(1, 2)), "3 candidates with 8 bytes; expected 12"),
        (answer(values=(1, np.nan, 2)), "score of candidate 1 is nan"),
    ],
)
def test_an_answer_that_is_none_says_why(spoilt, said):
    with pytest.raises(ModelFailed, match=said):
        MODEL.scores(spoilt, 3)


def test_answers_are_read_alike_whatever_was_read_before():
    model = ServedModel("tiny", SIGNATURE, 2000)
    later = answer(values=(7, 8, 9))
    later.model_version = "2"
    right = [answer(), answer(values=(4, 5, 6)), answer(other=True), later, answer(shape=(3,))]
    wrong = [answer(name="scores"), answer(shape=(1, 4)), answer(values=(1, np.nan, 2))]
    for message in (*right, *wrong, *right, *wrong, *right):
        try:
            expected = model.scores(message, 3)
        except ModelFailed as error:
            with pytest.raises(ModelFailed, match=re.escape(str(error))):
                model.read(message.SerializeToString(), 3)
        else:
            scores = model.read(message.SerializeToString(), 3)
            np.testing.assert_array_equal(scores, expected)
            scores[0] = 0  # the caller's to change


def test_a_known_beginning_with_too_few_scores_is_looked_at():
    model = ServedModel("tiny", SIGNATURE, 2000)
    whole = answer().SerializeToString()
    model.read(whole, 3)
    with pytest.raises(CallFailed, match="damaged response"):
        model.read(whole[:-1], 3)


@pytest.mark.parametrize(
    ("signature", "most"),
    [
        ("[" * 100_000, "5"),
        ("null", "5"),
        (json.dumps(SIGNATURE.to_json()), "0"),
        (json.dumps({"features": [{"name": None}], "score": "logit"}), "5"),
        (
            json.dumps(SIGNATURE.to_json()).replace('"shape": [3]', '"shape": [1099511627776]'),
            "5",
        ),
    ],
)
def test_a_config_that_is_not_rankserves_is_said_to_be_none(signature, most):
    config = model_config_pb2.ModelConfig(name="tiny")
    config.parameters["signature"].string_value = signature
    config.parameters["max_candidates"].string_value = most
    with pytest.raises(ModelNotFound, match="was not deployed by rankserve"):
        ServedModel.from_config(config, "a:1")


def test_an_answer_for_readiness_that_is_none_says_no():
    from client.channel import says_ready

    ready = service_pb2.ModelReadyResponse(ready=True).SerializeToString()
    answers = (ready, b"", b"\xff\xff", None)
    said = [says_ready(SimpleNamespace(response=each)) for each in answers]
    assert said == [True, False, False, False]
