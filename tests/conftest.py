"""Shared by all tests: implicit broadcasting between ranks is an error, and each run has its own cache folder."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("MPLBACKEND", "agg")
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share the folder of the process that starts them
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="mupjax-cache-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def key():
    return jax.random.key(0)
