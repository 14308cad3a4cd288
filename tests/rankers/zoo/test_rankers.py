"""What every ranker of the zoo has to be, and what each is by its paper."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from torch import nn

from rankers.data.source import synthetic_log
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.zoo import options_of
from rankers.zoo.catalogue import ZOO
from rankers.zoo.dcn_v2 import DCNv2, LowRank
from rankers.zoo.deepfm import DeepFM
from rankers.zoo.din import DIN, Dice, PReLU
from rankers.zoo.two_tower import ITEM_VECTOR, PrecomputedItems
from rankers.zoo.wide_deep import WideDeep

IDS = {
    "a": {"cardinality": 6, "padding": None},
    "b": {"cardinality": 5, "padding": None},
    "bag": {"cardinality": 9, "padding": 0},
}
COLUMNS = {
    "a": torch.tensor([0, 5, 2]),
    "b": torch.tensor([4, 1, 1]),
    "bag": torch.tensor([[1, 2, 0], [0, 0, 0], [8, 0, 0]]),
    "x": torch.tensor([[0.5, -1.0], [2.0, 0.0], [0.0, 1.0]]),
}


def made(name, rows=3000):
    """Build a zoo ranker with random weights, and the first requests of its log."""
    torch.manual_seed(0)
    log = synthetic_log(ZOO[name].log).draw(rows)
    module = importlib.import_module(ZOO[name].module).build(**options_of(name, log))
    with torch.no_grad():
        for each in module.parameters():
            each.add_(torch.randn_like(each) * 0.1)
    return module.eval(), log


def tensors(columns):
    return {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in columns.items()}


@pytest.mark.parametrize("name", ZOO)
class TestEveryRanker:
    def test_a_row_scores_alone_as_among_others(self, name):
        module, log = made(name)
        columns = tensors(log.requests[0].flat())
        together = module(**columns)
        assert together.shape == (log.requests[0].candidates,)
        for row in (0, 7):
            alone = module(**{key: x[row : row + 1] for key, x in columns.items()})
            torch.testing.assert_close(alone[0], together[row], atol=1e-6, rtol=1e-5)

    def test_it_exports_for_any_number_of_rows(self, name):
        module, log = made(name)
        columns = tensors(log.requests[0].flat())
        names = list(columns)

        class Positional(nn.Module):
            def __init__(self):
                super().__init__()
                self.ranker = module

            def forward(self, *values):
                return self.ranker(**dict(zip(names, values, strict=True)))

        rows = torch.export.Dim("rows", min=1)
        program = torch.export.export(
            Positional(), tuple(columns.values()), dynamic_shapes=(tuple({0: rows} for _ in names),)
        ).module()
        for count in (1, 2, 5):
            some = {key: x[:count] for key, x in columns.items()}
            torch.testing.assert_close(
                program(*some.values()), module(**some), atol=1e-6, rtol=1e-5
            )

    def test_the_score_is_the_sigmoid_of_the_logits(self, name):
        module, log = made(name)
        columns = tensors(log.requests[1].flat())
        torch.testing.assert_close(module(**columns), module.logits(**columns).sigmoid())

    def test_its_published_size_is_larger(self, name):
        log = synthetic_log(ZOO[name].log).draw(500)
        zoo_module = importlib.import_module(ZOO[name].module)

        def weights(size):
            module = zoo_module.build(**options_of(name, log, size=size))
            return sum(each.numel() for each in module.parameters())

        assert weights("published") > weights("small")


def randomized(module):
    torch.manual_seed(1)
    with torch.no_grad():
        for each in module.parameters():
            each.copy_(torch.randn_like(each) * 0.3)
    return module.eval()


def test_a_cross_layer_is_that_of_the_paper():
    module = randomized(DCNv2(IDS, {"x": 2}, embedding=4, cross_layers=2, deep=()))
    x0 = torch.cat([*module.embedding(COLUMNS), COLUMNS["x"]], 1)
    x = x0
    for layer in module.cross:
        rows = [x0[i] * (layer.weight @ x[i] + layer.bias) + x[i] for i in range(3)]
        x = torch.stack(rows)
    torch.testing.assert_close(module.logits(**COLUMNS), module.top(x)[:, 0])


def test_a_low_rank_cross_layer_is_the_full_one_with_that_product():
    low = randomized(LowRank(6, 2))
    x = torch.randn(4, 6)
    full = x @ (low.out.weight @ low.into.weight).T + low.out.bias
    torch.testing.assert_close(low(x), full)


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
@pytest.mark.parametrize("experts", [1, 3])
def test_every_form_of_dcn_v2_scores(structure, experts):
    module = DCNv2(
        IDS, {"x": 2}, embedding=4, rank=2, experts=experts, deep=(5,), structure=structure
    )
    assert torch.isfinite(randomized(module)(**COLUMNS)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"structure": "side"}, "structure is 'side'"), ({"experts": 2}, "2 experts need a rank")],
)
def test_a_dcn_v2_that_cannot_be_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        DCNv2(IDS, {}, **options)


def test_deepfms_second_order_is_the_sum_of_all_dots():
    module = randomized(DeepFM(IDS, {"x": 2}, embedding=4, deep=()))
    vectors = module.embedding(COLUMNS)
    vectors += [COLUMNS["x"][:, i : i + 1] * module.dense_vectors[i] for i in range(2)]
    dots = sum((vectors[i] * vectors[j]).sum(1) for i in range(5) for j in range(i))
    first = torch.cat(module.first(COLUMNS), 1).sum(1) + module.first_dense(COLUMNS["x"])[:, 0]
    deep = module.deep(torch.cat(vectors, 1))[:, 0]
    torch.testing.assert_close(module.logits(**COLUMNS), first + dots + deep + module.bias)


def test_a_crossed_pair_has_a_weight_of_its_own():
    module = randomized(WideDeep(IDS, {"x": 2}, crosses=[["a", "b"]], embedding=4, deep=(5,)))
    table = module.cross_tables[0].weight
    assert len(table) == 30
    before = module.logits(**COLUMNS)
    with torch.no_grad():
        table[5 * 5 + 1] += 2.0  # the second row's a = 5, b = 1
    torch.testing.assert_close(module.logits(**COLUMNS) - before, torch.tensor([0.0, 2.0, 0.0]))


@pytest.mark.parametrize(
    ("cross", "message"),
    [(["a", "bag"], "cannot cross 'bag'"), (["a", "bb"], "did you mean 'b'"), (["a"], "a pair")],
)
def test_a_cross_that_cannot_be_is_refused(cross, message):
    with pytest.raises(UserError, match=message):
        WideDeep(IDS, {}, crosses=[cross])


def test_vectors_made_ahead_of_time_score_alike():
    module, log = made("two_tower")
    request = log.requests[0]
    vectors = module.item_vectors(tensors(request.items))
    user = tensors(request.flat())
    user = {each.name: user[each.name] for each in log.signature.user}
    ahead = PrecomputedItems(module).eval()
    torch.testing.assert_close(
        ahead(**user, **{ITEM_VECTOR: vectors}), module(**tensors(request.flat()))
    )
    names = [each.name for each in PrecomputedItems.signature_of(log.signature, 32).features]
    assert names == [*user, ITEM_VECTOR]


def test_the_item_tower_knows_nothing_of_the_user():
    module, log = made("two_tower")
    names = set(module.item_tower.embedding.tables) | set(module.item_tower.dense)
    assert names == {each.name for each in log.signature.item}


def test_dins_interest_is_the_weighted_sum_of_real_events():
    module, log = made("din")
    columns = tensors(log.requests[0].flat())
    events, mask, target, others = module.events(columns)
    row = 3
    interest = torch.zeros(events.shape[2])
    for place in range(events.shape[1]):
        if mask[row, place]:
            h, t = events[row, place], target[row]
            interest += module.attention(torch.cat([h, t, h - t, h * t])[None])[0] * h
    expected = module.deep(torch.cat([interest, target[row], others[row]])[None])[0, 0]
    torch.testing.assert_close(module.logits(**columns)[row], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("activation", ["dice", "prelu"])
@pytest.mark.parametrize("name", ["din", "history_transformer"])
def test_more_padding_changes_nothing(name, activation):
    module, log = made(name)
    if name == "din":
        torch.manual_seed(0)
        options = options_of("din", log, overrides={"activation": activation})
        module = DIN(**options).eval()
    histories = log.requests.user["history"]
    place = int(np.argmax((histories != 0).sum(1) < 20))
    columns = tensors(log.requests[place].flat())
    shorter = {key: x[:, :20] if key.startswith("history") else x for key, x in columns.items()}
    torch.testing.assert_close(module(**shorter), module(**columns), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["din", "history_transformer"])
def test_a_user_without_a_history_has_a_score(name):
    module, log = made(name)
    columns = tensors(log.requests[0].flat())
    for key in ("history", "history_category"):
        columns[key] = torch.zeros_like(columns[key])
    assert torch.isfinite(module(**columns)).all()


def test_events_in_another_order_matter_to_the_transformer():
    module, log = made("history_transformer")
    place = int(np.argmax((log.requests.user["history"] != 0).sum(1) > 5))
    columns = tensors(log.requests[place].flat())
    turned = dict(columns)
    for key in ("history", "history_category"):
        turned[key] = columns[key].clone()
        turned[key][:, :5] = columns[key][:, :5].flip(1)
    assert not torch.allclose(module(**turned), module(**columns), atol=1e-7)


def test_dice_standardizes_by_what_training_saw():
    dice = Dice(3)
    with torch.no_grad():
        dice.alpha.copy_(torch.tensor([0.1, 0.2, 0.3]))
    for _ in range(200):
        dice(torch.randn(64, 5, 3) * 2 + 1)
    dice.eval()
    x = torch.randn(4, 3)
    p = torch.sigmoid((x - dice.norm.running_mean) / (dice.norm.running_var + 1e-8).sqrt())
    torch.testing.assert_close(dice(x), p * x + (1 - p) * dice.alpha * x)
    assert dice.norm.running_mean.mean() == pytest.approx(1, abs=0.2)


def test_prelu_is_pytorchs_along_the_last_dimension():
    ours, theirs = PReLU(3), nn.PReLU(3)
    x = torch.randn(4, 3)
    torch.testing.assert_close(ours(x), theirs(x))


def test_without_a_history_din_says_what_it_needs():
    signature = Signature((Feature("item", "int64", cardinality=5),))
    from rankers.zoo.din import options_for

    with pytest.raises(UserError, match="there is no history"):
        options_for(signature)


def test_a_history_is_known_by_name_or_by_cardinality():
    from rankers.zoo.histories import history_options

    features = (
        Feature("seen", "int64", (4,), "user", 50, padding=0),
        Feature("history_brand", "int64", (4,), "user", 9, padding=0),
        Feature("interests", "int64", (4,), "user", 7, padding=0),
        Feature("film", "int64", (), "item", 50),
        Feature("brand", "int64", (), "item", 9),
        Feature("colour", "int64", (), "item", 9),
    )
    assert history_options(Signature(features))["histories"] == {
        "seen": "film",
        "history_brand": "brand",
    }
