"""Captured and examined once for all tests of the package."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest


@pytest.fixture(scope="session")
def captured_plant(store):
    from planted_ranker import planted

    from optimize.capture import capture

    return capture(planted(), store, candidates=(1, 9))


@pytest.fixture(scope="session")
def subject(captured_plant):
    from optimize.sensitivity.subject import open_subject

    # Of any CPU: what is chosen must not depend on the machine that runs the tests.
    return replace(open_subject(captured_plant, requests=60), seven_bits=False)


@pytest.fixture(scope="session")
def trials(subject):
    from optimize.sensitivity.trials import KINDS, run_trials

    return run_trials(subject, KINDS, ("fp16", "int8", "int4"))


@pytest.fixture(scope="session")
def chosen(subject, trials):
    """Choose within a budget, each once."""
    from optimize.sensitivity.budget import parse_budget
    from optimize.sensitivity.greedy import choose

    return functools.cache(lambda text: choose(subject, trials, parse_budget(text)))
