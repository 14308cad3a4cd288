"""Which width a table gets that is asked for one, and what it then takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.build import run_stage
from optimize.capture import capture
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.tables.codes import scale_levels
from optimize.tables.quantize import BITS, bytes_at, fitting_width, rounded
from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch


@pytest.mark.parametrize(
    ("width", "columns", "expected"),
    [
        ("int8", 1, "fp16"),  # two bytes either way, and exacter
        ("int8", 2, "int8"),
        ("int4", 1, "fp16"),
        ("int4", 2, "int4"),
        ("fp16", 1, "fp16"),
        ("bf16", 1, "bf16"),
    ],
)
def test_a_column_alone_goes_to_fp16(width, columns, expected):
    assert fitting_width(torch.ones(300, columns), width) == expected


def test_values_beyond_fp16_keep_a_table_out_of_it():
    weight = torch.full((300, 1), 1e5)
    assert fitting_width(weight, "fp16") is None
    assert fitting_width(weight, "int8") == "int8"
    assert fitting_width(weight, "bf16") == "bf16"


@pytest.mark.parametrize(("width", "row"), [("int8", 8), ("int4", 5), ("fp16", 14), ("bf16", 14)])
def test_bytes_of_seven_columns(width, row):
    assert bytes_at(torch.ones(300, 7), width) == 300 * row


class Wide(nn.Module):
    """Rows so wide that their parts have scales of their own: two in 8 bits, two in 4."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Embedding(300, 80), nn.Embedding(300, 33)

    def forward(self, weight, item):
        places = torch.linspace(-1, 1, 113)
        return (torch.cat([self.a(item), self.b(item)], -1) * places).sum((1, 2)) * weight


def test_wide_rows_are_read_as_they_are_coded_in_torch_and_in_onnx(store):
    items = Feature("item", "int64", (2,), "item", 300)
    signature = Signature((Feature("weight", "float32", side="user"), items), score="logit")
    batch = RequestBatch(
        {"weight": np.ones(4, np.float32)},
        {"item": np.arange(40).reshape(20, 2)},
        np.arange(5) * 5,
        np.tile(np.float32([0, 1]), 10),
    )
    torch.manual_seed(0)
    wide = Wide().eval()
    flat = capture(Ranker("wide", wide, signature, batch), store, candidates=(1,))
    made = run_stage("quantize_tables", {"tables": "a"}, flat, store)
    made = run_stage("quantize_tables", {"tables": "b", "width": "int4"}, made, store)
    for table, width in ((wide.a, "int8"), (wide.b, "int4")):
        with torch.no_grad():
            scales = scale_levels([(table.weight, BITS[width])])
            table.weight.copy_(rounded(table.weight, width, scales))
    requests = sample_requests(signature, [7, 30])
    expected = Ranker("wide", wide, signature, batch).score(requests.flat())
    for artifact in (made, run_stage("export_onnx", {}, made, store)):
        scores = open_predictor(artifact)(artifact.manifest.columns_of(requests))
        np.testing.assert_allclose(scores, expected, atol=1e-4)
