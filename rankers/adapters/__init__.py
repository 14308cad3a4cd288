"""How the modules of others are called: adapters between a ranker's features and any forward.

Features come by name. `Call` passes them on as a module wants them (by position, under other names,
in a dictionary, as one matrix, as torchrec's jagged tensors, as a `transformers` encoding), and
`Head`, `Product` and `WeightedSum` make one score a row out of what it returns. Each is a thin
`torch.nn.Module` around the module as it is: its code and its weights stay untouched.
"""

from rankers.adapters.call import Argument, Call
from rankers.adapters.containers import Dictionary, Listed
from rankers.adapters.deepctr import deepctr_features
from rankers.adapters.encodings import PairEncoding, SpecialTokens, TokenEncoding
from rankers.adapters.heads import Head, Product, WeightedSum
from rankers.adapters.jagged import KeyedDense, KeyedJagged
from rankers.adapters.packed import PackedMatrix

__all__ = [
    "Argument",
    "Call",
    "Dictionary",
    "Head",
    "KeyedDense",
    "KeyedJagged",
    "Listed",
    "PackedMatrix",
    "PairEncoding",
    "Product",
    "SpecialTokens",
    "TokenEncoding",
    "WeightedSum",
    "deepctr_features",
]
