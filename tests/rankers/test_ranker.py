from __future__ import annotations

import sys
from dataclasses import replace

import example_rankers
import pytest

from rankers.errors import UserError
from rankers.ranker import load_ranker
from rankers.requests import join_requests

SOURCE = """
import numpy as np
from torch import nn
from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RankingRequest, join_requests

class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
    def forward(self, user, item):
        return self.dropout(user * item).unsqueeze(1)

def make(labels=True):
    request = RankingRequest(
        {"user": np.full(1, 2, np.float32)},
        {"item": np.arange(4, dtype=np.float32)},
        np.array([0, 1, 0, 1], np.float32) if labels else None,
    )
    features = (Feature("user", "float32", side="user"), Feature("item", "float32"))
    return Ranker("product", Product(), Signature(features, "relevance"), join_requests([request]))

def unlabelled():
    return make(labels=False)

def number():
    return 3

class Heads(Product):
    def forward(self, user, item):
        return {"ctr": user, "cvr": item}

def heads(**options):
    from rankers.adapters import Head
    ranker = make()
    module = Head(Heads(), **options) if options else Heads()
    return Ranker("heads", module, ranker.signature, ranker.evaluation)

def no_such_head():
    return heads(head="cvt")
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "my_ranker.py"
    path.write_text(SOURCE)
    yield path
    sys.modules.pop("my_ranker", None)


def test_a_function_in_a_file_makes_a_ranker_that_scores_rows(source):
    ranker = load_ranker(f"{source}:make")
    assert ranker.module.training
    assert ranker.score(ranker.evaluation.flat()).tolist() == [0, 2, 4, 6]
    assert ranker.module.training, "scoring leaves the module's mode as it was"


def test_a_function_in_a_module_makes_a_ranker(source, monkeypatch):
    monkeypatch.chdir(source.parent)
    assert load_ranker("my_ranker:make").name == "product"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{file}:mkae", "no function 'mkae'; did you mean 'make'"),
        ("{file}:number", "returned int; expected a rankers Ranker"),
        ("{file}:unlabelled", "its evaluation requests have no labels"),
        ("{file}x.py:make", "no file .* to load a ranker from"),
        ("no_such_module:make", "no module 'no_such_module' can be imported"),
        ("dlmr", "no ranker 'dlmr'.* did you mean 'dlrm'"),
    ],
)
def test_what_makes_no_ranker_is_refused(source, spec, message):
    with pytest.raises(UserError, match=message):
        load_ranker(spec.format(file=source))


def test_a_module_that_returns_several_things_is_told_how_to_pick_one(source):
    ranker = load_ranker(f"{source}:heads")
    with pytest.raises(UserError, match=r"ranker 'heads': its module returns dict; expected one"):
        ranker.score(ranker.evaluation.flat())


def test_what_an_adapter_says_is_passed_on_as_it_is(source):
    ranker = load_ranker(f"{source}:no_such_head")
    said = r"^ranker 'heads': the module returns dict and no head 'cvt'; did you mean 'cvr'"
    with pytest.raises(UserError, match=said):
        ranker.score(ranker.evaluation.flat())


class TestCalibration:
    def test_requests_that_also_judge_are_refused(self):
        ranker = example_rankers.tiny()
        leaked = join_requests([*example_rankers.requests(3, seed=5), ranker.evaluation[4]])
        with pytest.raises(
            UserError, match=r"calibration requests: 1 of 4 .*: 3 \(evaluation request 4\)"
        ):
            replace(ranker, calibration=leaked)

    def test_they_have_the_rankers_features_and_need_no_labels(self):
        ranker = example_rankers.tiny()
        calibration = replace(example_rankers.requests(3, seed=5), labels=None)
        assert replace(ranker, calibration=calibration).calibration is calibration
        with pytest.raises(UserError, match=r"its calibration requests: .*'price' is missing"):
            replace(
                ranker, calibration=replace(calibration, items={"item": calibration.items["item"]})
            )
        with pytest.raises(UserError, match="there are no calibration requests"):
            replace(ranker, calibration=calibration.select([]))
