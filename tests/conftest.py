"""Shared by all tests: no network, no data but the named, no implicit broadcasting, a cache folder of their own."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # bounds and bits are the processor's; `make bench-device` is for others
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share the folder of the process that starts them
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="mupjax-cache-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
# pytest-socket holds this process to the loopback; commands that tests start find a proxy that refuses them.
os.environ["http_proxy"] = os.environ["HTTP_PROXY"] = "http://127.0.0.1:9"
os.environ["https_proxy"] = os.environ["HTTPS_PROXY"] = "http://127.0.0.1:9"
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"

import jax
import pytest

# Tracing leaves many objects that live on; by default a tenth of the tests' time goes into looking for cycles there.
gc.set_threshold(100_000, 20, 100)
jax.config.update("jax_numpy_rank_promotion", "raise")

BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
IDX = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
DATA_FILES = {
    "cifar10": [f"cifar-10-batches-bin/{name}.bin" for name in BATCHES],
    "mnist": [f"mnist/{name}.gz" for name in IDX],
}


def pytest_collection_modifyitems(items):
    """Skip, by name, tests of real images that are not there."""
    for item in items:
        for mark in item.iter_markers("data"):
            (dataset,) = mark.args
            folder = Path(os.environ.get("MUPJAX_DATA") or "absent")
            if missing := [file for file in DATA_FILES[dataset] if not (folder / file).is_file()]:
                reason = f"{dataset}: MUPJAX_DATA is not set, or has no {missing[0]}"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _no_data_unless_named(request, monkeypatch):
    """A test that is not marked for real images runs as on a machine that has none."""
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("MUPJAX_DATA", raising=False)


@pytest.fixture(scope="session")
def key():
    return jax.random.key(0)
