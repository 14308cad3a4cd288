import numpy as np
from tiny_ranker import SIGNATURE, make_request

from bench.validation.shared_memory_floor import sized


def test_a_request_of_another_size_has_the_same_candidates_again_and_again():
    request = make_request(np.random.default_rng(0), 3)
    larger = sized(request, 7)
    larger.check(SIGNATURE)
    assert larger.candidates == 7
    assert (
        larger.items["item_id"].tolist() == request.items["item_id"][[0, 1, 2, 0, 1, 2, 0]].tolist()
    )
