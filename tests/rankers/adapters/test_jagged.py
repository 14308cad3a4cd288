"""torchrec's keyed tensors out of padded features, and what stands for them while tracing."""

import published_rankers
import pytest
import torch
from torch import nn

from optimize.export import export_ranker
from rankers.adapters import Call, Head, KeyedDense, KeyedJagged
from rankers.adapters.embedding_bags import gathered_bags
from rankers.adapters.jagged import PaddedBags
from rankers.errors import UserError
from rankers.features import Feature, Signature
from rankers.ranker import Ranker

pytestmark = pytest.mark.usefixtures("torchrec")

BAGS = (
    Feature("tags", "int64", (3,), cardinality=40, padding=0),
    Feature("item", "int64", cardinality=60),
)
COLUMNS = {
    "tags": torch.tensor([[7, 8, 0], [0, 0, 0], [9, 0, 0]]),
    "item": torch.tensor([4, 5, 6]),
}


class TestJaggedTensors:
    def test_each_bag_holds_its_ids_without_padding(self):
        made = KeyedJagged(BAGS, keys={"item": "t_item"}).make(COLUMNS)
        assert made.keys() == ["tags", "t_item"]
        assert [each.tolist() for each in made["tags"].to_dense()] == [[7, 8], [], [9]]
        assert [each.tolist() for each in made["t_item"].to_dense()] == [[4], [5], [6]]

    def test_weights_come_with_their_ids(self):
        columns = COLUMNS | {
            "tag_weights": torch.tensor([[0.1, 0.2, 9.0], [9.0, 9.0, 9.0], [0.3, 9.0, 9.0]]),
            "item_weight": torch.tensor([1.0, 2.0, 3.0]),
        }
        argument = KeyedJagged(BAGS, weights={"tags": "tag_weights", "item": "item_weight"})
        assert argument.reads == ("tags", "item", "tag_weights", "item_weight")
        made = argument.make(columns)
        assert made["tags"].weights().tolist() == pytest.approx([0.1, 0.2, 0.3])
        assert made["item"].weights().tolist() == [1.0, 2.0, 3.0]

    def test_vectors_make_a_keyed_tensor(self):
        columns = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0, 4.0], [5.0, 6.0]])}
        made = KeyedDense("a", wide="b").make(columns)
        assert made.keys() == ["a", "wide"]
        assert made["a"].tolist() == [[1.0], [2.0]]
        assert made["wide"].tolist() == [[3.0, 4.0], [5.0, 6.0]]


class TestBagsThatStandForThem:
    """The collection's own answer for a jagged tensor is what a padded one has to give."""

    @pytest.mark.parametrize("pooling", ["SUM", "MEAN"])
    @pytest.mark.parametrize("seed", range(3))
    def test_padded_bags_give_what_the_collection_gives(self, pooling, seed, monkeypatch):
        from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, PoolingType

        def table(name, width, features):
            return EmbeddingBagConfig(
                name=name,
                embedding_dim=width,
                num_embeddings=60,
                feature_names=features,
                pooling=PoolingType[pooling],
            )

        tables = [table("shared", 4, ["tags", "item"]), table("t_tag", 6, ["tags"])]
        collection = EmbeddingBagCollection(tables=tables)
        argument = KeyedJagged(BAGS)
        columns = self.draw(seed)
        expected = collection(argument.make(columns))
        monkeypatch.setattr("torch.compiler.is_exporting", lambda: True)
        with gathered_bags(nn.Sequential(collection)):
            made = collection(argument.make(columns))
        assert made.keys() == expected.keys() == ["tags@shared", "item", "tags@t_tag"]
        assert made.length_per_key() == expected.length_per_key()
        torch.testing.assert_close(made.values(), expected.values(), rtol=1e-6, atol=1e-6)
        assert not made["tags@t_tag"][3].any()  # an empty bag

    def test_weighted_ones_too(self, monkeypatch):
        from torchrec import EmbeddingBagCollection, EmbeddingBagConfig

        tables = [
            EmbeddingBagConfig(name=f"t_{name}", embedding_dim=4, num_embeddings=60,
                               feature_names=[name])
            for name in ("tags", "item")
        ]  # fmt: skip
        collection = EmbeddingBagCollection(tables=tables, is_weighted=True)
        argument = KeyedJagged(BAGS, weights={"tags": "weights", "item": "weight"})
        columns = self.draw(5) | {"weights": torch.rand(20, 3), "weight": torch.rand(20)}
        expected = collection(argument.make(columns))
        monkeypatch.setattr("torch.compiler.is_exporting", lambda: True)
        with gathered_bags(collection):
            made = collection(argument.make(columns))
        torch.testing.assert_close(made.values(), expected.values(), rtol=1e-6, atol=1e-6)

    def test_the_collection_is_as_it_was_afterwards(self):
        collection = published_rankers.torchrec_collection()
        before = dict(vars(collection))

        def fail_halfway():
            with gathered_bags(collection):
                assert "forward" in vars(collection)
                raise RuntimeError("halfway")

        with pytest.raises(RuntimeError, match="halfway"):
            fail_halfway()
        assert vars(collection) == before

    @staticmethod
    def draw(seed):
        torch.manual_seed(seed)
        sizes = torch.randint(0, 4, (20, 1))
        sizes[3] = 0
        tags = torch.where(torch.arange(3) < sizes, torch.randint(1, 40, (20, 3)), 0)
        return {"tags": tags, "item": torch.randint(0, 60, (20,))}


class TestMistakesAreOneLine:
    def test_a_key_for_a_feature_that_there_is_not(self):
        with pytest.raises(UserError, match=r"no jagged feature 'itme'; did you mean 'item'"):
            KeyedJagged(BAGS, keys={"itme": "t_item"})

    def test_floats_in_a_jagged_tensor(self):
        with pytest.raises(UserError, match=r"'price' has dtype float32.*holds integers of shape"):
            KeyedJagged([Feature("price", "float32")])

    def test_weights_for_some_only(self):
        with pytest.raises(UserError, match="'item' has no weights, and others have"):
            KeyedJagged(BAGS, weights={"tags": "weights"})

    def test_a_key_that_the_tables_read_and_the_tensor_lacks(self):
        collection = published_rankers.torchrec_collection()
        with gathered_bags(collection), pytest.raises(UserError, match="the key 'seen', which"):
            collection(PaddedBags({}))

    def test_a_module_that_reads_the_jagged_values_itself(self):
        class ReadsValues(nn.Module):
            def forward(self, bags):
                return bags["item"].values() * 1.0

        features = (BAGS[1],)
        ranker = Ranker(
            "odd",
            Head(Call(ReadsValues(), KeyedJagged(features))),
            Signature(features, "relevance"),
            published_rankers.draw_requests(features),
        )
        assert ranker.score({"item": torch.tensor([3, 4]).numpy()}).tolist() == [3.0, 4.0]
        with pytest.raises(UserError, match=r"cannot be exported.*EmbeddingBagCollection can be"):
            export_ranker(ranker)
