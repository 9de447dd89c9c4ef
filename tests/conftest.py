"""Shared by all tests: implicit broadcasting between ranks is an error, and each run has its own cache folder."""

import os

os.environ.setdefault("MPLBACKEND", "agg")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def key():
    return jax.random.key(0)
