"""Modules as published, trained for a few steps: called as their authors do, exported, in ONNX.

Ways to score the same rows have to agree: the module called as its own documentation says, its
adapter, the exported program, and the ONNX graph in ONNX Runtime.
"""

import numpy as np
import onnx
import onnxruntime
import published_rankers
import pytest
import torch

from optimize.export import export_ranker
from optimize.stages.export_onnx import ExportOnnx

DEEPCTR = ("deepfm", "wide_deep", "dcn", "xdeepfm", "autoint", "din", "mmoe")
TORCHREC = ("dlrm", "dlrm_dcn", "deepfm", "two_towers")
TRANSFORMERS = ("bert", "xlm_roberta", "distilbert")
NAMES = (
    *(f"deepctr_{name}" for name in DEEPCTR),
    *(f"torchrec_{name}" for name in TORCHREC),
    *(f"transformers_{name}" for name in TRANSFORMERS),
)
# Of these tests/end_to_end/test_bring_your_own.py takes larger ones through the whole recipe.
SERVED = ("deepctr_deepfm", "torchrec_dlrm", "transformers_bert")


@pytest.fixture(scope="module", params=NAMES)
def published(request):
    if request.param.startswith("torchrec"):
        request.getfixturevalue("torchrec")
    return getattr(published_rankers, request.param)()


def as_its_authors_do(ranker, columns):
    """Score rows without an adapter."""
    module = ranker.module
    while hasattr(module, "module"):
        module = module.module
    kind = type(module).__module__.partition(".")[0]
    with torch.no_grad():
        if kind == "deepctr_torch":
            scores = module.predict({name: x.copy() for name, x in columns.items()})
            return scores.prod(axis=1)  # of one head, or of CTR and CVR
        if kind == "transformers":
            return _transformer_scores(module, columns)
        return _torchrec_scores(module, columns)


def _transformer_scores(model, columns):
    """Encode the rows one by one, as a tokenizer does, and ask the model."""
    pad = model.config.pad_token_id
    rows = []
    for place in range(len(next(iter(columns.values())))):
        if "tokens" in columns:
            row = columns["tokens"][place]
            rows.append(row[row != 0].tolist())
            continue
        query, document = (columns[name][place] for name in ("query", "document"))
        start, end = ([0], [2]) if pad == 1 else ([2], [3])
        middle = end * (2 if pad == 1 else 1)
        rows.append([*start, *query[query != 0], *middle, *document[document != 0], *end])
    scores = []
    for row in rows:
        given = {"input_ids": torch.tensor([row]).long()}
        if type(model).__name__.startswith("Bert"):
            second = row.index(3) + 1
            given["token_type_ids"] = torch.tensor([[0] * second + [1] * (len(row) - second)])
        logits = model(**given).logits[0]
        scores.append(float(logits.sigmoid() if len(logits) == 1 else logits.softmax(0)[1]))
    return np.array(scores)


def _torchrec_scores(model, columns):
    from torchrec import KeyedJaggedTensor

    keys = published_rankers.TORCHREC[1:]
    values, lengths = [], []
    for feature in keys:
        for row in columns[feature.name].reshape(-1, feature.width):
            bag = row if feature.padding is None else row[row != feature.padding]
            values.extend(bag)
            lengths.append(len(bag))
    bags = KeyedJaggedTensor.from_lengths_sync(
        keys=[each.name for each in keys],
        values=torch.tensor(np.array(values)),
        lengths=torch.tensor(lengths),
    )
    if "dense" not in columns:
        return model(bags)["logit"].numpy()
    scores = model(dense_features=torch.from_numpy(columns["dense"]), sparse_features=bags)
    if type(model).__name__ != "SimpleDeepFMNN":  # which gives probabilities
        scores = scores.sigmoid()
    return scores.squeeze(1).numpy()


def test_it_scores_alike_called_as_published_exported_and_in_onnx(published, tmp_path, request):
    signature = published.signature
    columns = {each.name: published.evaluation.flat()[each.name] for each in signature.features}
    scores = published.score(columns)
    few = {name: x[:40] for name, x in columns.items()}
    np.testing.assert_allclose(as_its_authors_do(published, few), scores[:40], rtol=0, atol=2e-6)
    assert scores.std() > 1e-3  # far above what is allowed below

    program = export_ranker(published)
    held = sum(each.numel() for each in program.state_dict.values())
    assert held == sum(each.numel() for each in published.module.state_dict().values())
    for rows in (1, 3, len(scores)):
        given = (torch.from_numpy(np.ascontiguousarray(x[:rows])) for x in columns.values())
        with torch.no_grad():
            exported = program.module()(*given)
        np.testing.assert_allclose(exported, scores[:rows], rtol=0, atol=1e-6)

    if request.node.callspec.params["published"] not in SERVED:
        check_in_onnx(program, columns, scores, tmp_path / "model.onnx")


def check_in_onnx(program, columns, scores, path):
    ExportOnnx()._export(program, list(columns)).save(path)
    session = onnxruntime.InferenceSession(path)
    for rows in (1, 3, len(scores)):
        (made,) = session.run(None, {name: x[:rows] for name, x in columns.items()})
        np.testing.assert_allclose(made, scores[:rows], rtol=0, atol=2e-6)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert not operators & {"Loop", "If", "Scan", "NonZero"}
