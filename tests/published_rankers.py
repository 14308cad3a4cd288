"""Modules as deepctr-torch, torchrec and transformers publish them, trained for a few steps.

Each function returns a ranker, as a user's would: ``published_rankers.py:deepctr_deepfm``. Nothing
of theirs is edited; sizes are small, and data is drawn so that there is something to learn.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from rankers.adapters import (
    Call,
    Head,
    KeyedJagged,
    PackedMatrix,
    PairEncoding,
    Product,
    SpecialTokens,
    TokenEncoding,
    deepctr_features,
)
from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch

STEPS = 15


def draw_requests(features, count=12, *, seed=0):
    """Draw requests of 1 to 40 candidates that fit the features; clicks follow an item's ID."""
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(1, 41, count))]).astype(np.int64)
    user = {each.name: _draw(each, count, random) for each in features if each.side == "user"}
    items = {
        each.name: _draw(each, int(offsets[-1]), random) for each in features if each.side == "item"
    }
    for each in features:  # as DeepCTR-Torch has it: a bag's size is a feature of its own
        if each.name.endswith("_size"):
            bag = each.name.removesuffix("_size")
            columns = user if each.side == "user" else items
            columns[each.name] = (columns[bag] != 0).sum(1)
    name = next(name for name, x in items.items() if x.dtype.kind == "i")
    first = items[name] if items[name].ndim == 1 else items[name][:, 0]
    labels = (random.random(len(first)) < np.where(first % 2, 0.8, 0.2)).astype(np.float32)
    return RequestBatch(user, items, offsets, labels)


def _draw(feature, rows, random):
    shape = (rows, *feature.shape)
    if not feature.dtype.startswith("int"):
        return random.standard_normal(shape).astype(feature.dtype)
    most = min(feature.cardinality, 100)  # few enough to be seen often, and learned
    if feature.padding is None:
        return random.integers(0, most, shape)
    # IDs from 5: the first of a vocabulary are padding and special tokens. Some bags are empty.
    ids = random.integers(5, most, shape)
    sizes = random.integers(0, feature.width + 1, (rows, 1))
    return np.where(np.arange(feature.width) < sizes, ids, feature.padding)


def train(module, batch, loss, *, steps=STEPS):
    """Train what returns scores for a few real steps; the loss has to fall."""
    torch.manual_seed(0)
    columns = {name: torch.from_numpy(x) for name, x in batch.flat().items()}
    labels = torch.from_numpy(batch.labels)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    module.train()
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(module(**columns), labels)
        value.backward()
        optimizer.step()
        seen.append(float(value.detach()))
    assert seen[-1] < seen[0], seen
    module.eval()


def _ranker(name, module, features, *, score="probability", steps=STEPS):
    loss = (
        functional.binary_cross_entropy_with_logits
        if score == "logit"
        else functional.binary_cross_entropy
    )
    train(
        module,
        draw_requests(features, seed=1),
        lambda scores, labels: loss(scores.reshape(-1), labels),
        steps=steps,
    )
    return Ranker(name, module, Signature(features, score), draw_requests(features))


# DeepCTR-Torch ------------------------------------------------------------------------------------


def deepctr_columns():
    from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat

    tags = VarLenSparseFeat(SparseFeat("tags", 30, 8), 4, combiner="mean")
    dense = [DenseFeat("prices", 3), DenseFeat("age", 1)]
    return [SparseFeat("user", 50, 8), SparseFeat("item", 60, 8), tags, *dense]


def _deepctr(name, kind, **options):
    columns = deepctr_columns()
    model = kind(columns, columns, **options)
    features = deepctr_features(columns, user=("user", "age"))
    return _ranker(name, Call(model, PackedMatrix(features, model.feature_index)), features)


def deepctr_deepfm():
    from deepctr_torch.models import DeepFM

    return _deepctr("deepfm", DeepFM, dnn_hidden_units=(32, 16), dnn_use_bn=True)


def deepctr_wide_deep():
    """Bags of every kind: a maximum, and a sum whose size is a column of its own."""
    from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
    from deepctr_torch.models import WDL

    columns = [
        SparseFeat("item", 60, 8),
        VarLenSparseFeat(SparseFeat("words", 30, 8), 4, combiner="max"),
        VarLenSparseFeat(SparseFeat("brands", 30, 8), 4, combiner="sum", length_name="brands_size"),
        DenseFeat("age", 1),
    ]
    model = WDL(columns, columns, dnn_hidden_units=(32, 16))
    features = deepctr_features(columns, user=("age",))
    return _ranker("wide_deep", Call(model, PackedMatrix(features, model.feature_index)), features)


def deepctr_dcn():
    """Of DCN-v2's kind, whose cross layers multiply a batch of column vectors."""
    from deepctr_torch.models import DCN

    return _deepctr("dcn", DCN, dnn_hidden_units=(32, 16), cross_parameterization="matrix")


def deepctr_xdeepfm():
    from deepctr_torch.models import xDeepFM

    return _deepctr("xdeepfm", xDeepFM, dnn_hidden_units=(32, 16), cin_layer_size=(16, 8))


def deepctr_autoint():
    from deepctr_torch.models import AutoInt

    return _deepctr("autoint", AutoInt, dnn_hidden_units=(32, 16), att_layer_num=1)


def deepctr_din():
    from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
    from deepctr_torch.models import DIN

    def history(name, like, ids):
        past = SparseFeat(name, ids, 8, embedding_name=like)
        return VarLenSparseFeat(past, 5, length_name="hist_item_size")

    columns = [
        SparseFeat("item", 60, 8),
        SparseFeat("category", 10, 8),
        DenseFeat("price", 1),
        history("hist_item", "item", 60),
        history("hist_category", "category", 10),
    ]
    model = DIN(columns, ["item", "category"], dnn_hidden_units=(32, 16))
    user = ("hist_item", "hist_category", "hist_item_size")
    features = deepctr_features(columns, user=user)
    return _ranker("din", Call(model, PackedMatrix(features, model.feature_index)), features)


def deepctr_mmoe():
    """Two heads, CTR and CVR, in the columns of one tensor."""
    from deepctr_torch.models.multitask import MMOE

    columns = deepctr_columns()
    model = MMOE(
        columns,
        expert_dnn_hidden_units=(32, 16),
        gate_dnn_hidden_units=(16,),
        tower_dnn_hidden_units=(16,),
        task_types=("binary", "binary"),
        task_names=("ctr", "cvr"),
    )
    features = deepctr_features(columns, user=("user", "age"))
    call = Call(model, PackedMatrix(features, model.feature_index))

    def of_both(heads, labels):
        return functional.binary_cross_entropy(heads, torch.stack([labels, labels], dim=1))

    train(call, draw_requests(features, seed=1), of_both)
    return Ranker("mmoe", Product(call, 0, 1), Signature(features), draw_requests(features))


# torchrec -----------------------------------------------------------------------------------------

TORCHREC = (
    Feature("dense", "float32", (3,), side="user"),
    Feature("seen", "int64", (4,), side="user", cardinality=60, padding=0),
    Feature("item", "int64", cardinality=60),
    Feature("tags", "int64", (3,), cardinality=40, padding=0),
    Feature("shops", "int64", (2,), cardinality=20),
)


def torchrec_collection():
    """Return bags of sums and means; two features share a table."""
    from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, PoolingType

    def table(name, ids, features, pooling):
        return EmbeddingBagConfig(
            name=name,
            embedding_dim=8,
            num_embeddings=ids,
            feature_names=features,
            pooling=pooling,
        )

    torch.manual_seed(0)
    return EmbeddingBagCollection(
        tables=[
            table("t_item", 60, ["seen", "item"], PoolingType.SUM),
            table("t_tag", 40, ["tags"], PoolingType.MEAN),
            table("t_shop", 20, ["shops"], PoolingType.MEAN),
        ]
    )


def _torchrec(name, model):
    call = Call(
        model,
        dense_features="dense",
        sparse_features=KeyedJagged(TORCHREC[1:]),
    )
    return _ranker(name, Head(call, activation="sigmoid"), TORCHREC)


def torchrec_dlrm():
    from torchrec.models.dlrm import DLRM

    return _torchrec("dlrm", DLRM(torchrec_collection(), 3, [16, 8], [16, 1]))


def torchrec_dlrm_dcn():
    from torchrec.models.dlrm import DLRM_DCN

    sizes = {"dcn_num_layers": 2, "dcn_low_rank_dim": 4}
    return _torchrec("dlrm_dcn", DLRM_DCN(torchrec_collection(), 3, [16, 8], [16, 1], **sizes))


def torchrec_deepfm():
    from torchrec.models.deepfm import SimpleDeepFMNN

    module = SimpleDeepFMNN(3, torchrec_collection(), 16, 4)
    call = Call(module, "dense", KeyedJagged(TORCHREC[1:]))
    return _ranker("deepfm", call, TORCHREC)


class TwoTowers(torch.nn.Module):
    """Made of torchrec's modules, as in its retrieval example: one collection for both towers."""

    def __init__(self):
        from torchrec.modules.mlp import MLP

        super().__init__()
        self.collection = torchrec_collection()
        self.query = MLP(8, [16, 8])
        self.candidate = MLP(24, [16, 8])

    def forward(self, bags):
        vectors = self.collection(bags)
        query = self.query(vectors["seen"])
        candidate = torch.cat([vectors[name] for name in ("item", "tags", "shops")], dim=1)
        return {"logit": (query * self.candidate(candidate)).sum(1), "query": query}


def torchrec_two_towers():
    call = Call(TwoTowers(), KeyedJagged(TORCHREC[1:]))
    return _ranker("two_towers", Head(call, "logit"), TORCHREC[1:], score="logit")


# transformers -------------------------------------------------------------------------------------

_QUERY = Feature("query", "int64", (6,), side="user", cardinality=100, padding=0)
_DOCUMENT = Feature("document", "int64", (12,), cardinality=100, padding=0)
BERT_TOKENS = SpecialTokens(start=2, separator=3)
_SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}


def _transformer(name, model, tokens, head):
    module = Head(Call(model, PairEncoding(_QUERY, _DOCUMENT, tokens)), *head[:1], **head[1])
    return _ranker(name, module, (_QUERY, _DOCUMENT), score=module.score, steps=5)


def transformers_bert():
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_labels=1, **_SIZES))
    return _transformer("bert", model, BERT_TOKENS, ("logits", {"activation": "sigmoid"}))


def transformers_xlm_roberta():
    """Two separators between the texts, no segments, padding 1."""
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    torch.manual_seed(0)
    model = XLMRobertaForSequenceClassification(XLMRobertaConfig(num_labels=1, **_SIZES))
    tokens = SpecialTokens(start=0, separator=2, padding=1, between=2, segments=False)
    return _transformer("xlm_roberta", model, tokens, ("logits", {"activation": "sigmoid"}))


def transformers_distilbert():
    """Two labels, of which the second is the one wanted; rows come tokenized as pairs."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=100, dim=32, n_layers=1, n_heads=2, hidden_dim=64, max_position_embeddings=40
    )
    tokens = Feature("tokens", "int64", (16,), cardinality=100, padding=0)
    call = Call(DistilBertForSequenceClassification(config), TokenEncoding(tokens))
    module = Head(call, ("logits", 1), activation="softmax")
    ranker = _ranker("distilbert", module, (tokens,), steps=5)
    ranker.evaluation.items["tokens"][:, 0] = 2  # every row begins with [CLS], none is empty
    return ranker
