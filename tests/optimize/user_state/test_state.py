"""A user's state as bytes: read back as it was, or refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save

from optimize.user_state.state import OtherVersionError, UserState, UserStateError, join_states


def state(users=2, version="a" * 64):
    random = np.random.default_rng(users)
    return UserState(
        version,
        {
            "state/0": random.standard_normal((users, 5, 3)).astype(np.float32),
            "state/1": random.integers(0, 2, (users, 5)).astype(bool),
            "state/2": random.integers(0, 9, users),
        },
    )


def same(one, other):
    assert one.version == other.version
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        assert tensor.dtype == other.tensors[name].dtype
        np.testing.assert_array_equal(tensor, other.tensors[name])


class TestBytes:
    def test_they_are_read_back_as_they_were(self):
        kept = state()
        same(UserState.from_bytes(kept.to_bytes()), kept)

    def test_they_are_little_more_than_the_tensors(self):
        kept = state(users=50)
        assert kept.nbytes == 50 * (5 * 3 * 4 + 5 + 8)
        assert kept.nbytes < len(kept.to_bytes()) < kept.nbytes + 700

    def test_any_part_of_them_is_refused(self):
        content = state().to_bytes()
        for length in range(len(content)):
            with pytest.raises(UserStateError, match="compute it again from the user's features"):
                UserState.from_bytes(content[:length])

    def test_a_bit_that_flipped_anywhere_is_found(self):
        content = state().to_bytes()
        for place in range(len(content)):
            damaged = bytearray(content)
            damaged[place] ^= 1
            with pytest.raises(UserStateError):
                UserState.from_bytes(bytes(damaged))

    def test_others_tensors_are_refused(self):
        with pytest.raises(UserStateError, match="bytes are no user state"):
            UserState.from_bytes(save({"state/0": np.zeros(3)}))

    def test_another_form_is_refused_by_its_name(self):
        later = save({"x": np.zeros(1)}, {"form": "later", "version": "a", "sha256": "b"})
        with pytest.raises(UserStateError, match="has the form 'later'"):
            UserState.from_bytes(later)


class TestValues:
    def test_neither_a_state_nor_what_is_in_it_can_be_changed(self):
        kept = state()
        with pytest.raises(dataclasses.FrozenInstanceError):
            kept.version = "b"
        with pytest.raises(ValueError, match="read-only"):
            kept.tensors["state/0"][0] = 0

    def test_those_of_several_users_are_taken_apart_and_joined_again(self):
        kept = state(users=3)
        apart = [kept[place] for place in range(3)]
        assert [len(each) for each in apart] == [1, 1, 1]
        same(join_states(apart), kept)
        same(join_states([kept]), kept)

    def test_there_are_no_more_than_there_are(self):
        with pytest.raises(IndexError):
            state(users=3)[3]

    def test_none_cannot_be_joined(self):
        with pytest.raises(UserStateError, match="no user states to join"):
            join_states([])

    def test_those_of_two_versions_cannot_be_joined(self):
        with pytest.raises(OtherVersionError, match=r"is of version b{16}, this ranker is a{16}:"):
            join_states([state(), state(version="b" * 64)])
