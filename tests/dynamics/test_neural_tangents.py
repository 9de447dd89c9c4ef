"""neural-tangents imports on today's JAX, and leaves no trace of how."""

import importlib.metadata
import subprocess
import sys

import jax.core
import pytest

from mupjax.dynamics import _neural_tangents

# In a fresh interpreter, since another test may have imported neural_tangents here; warnings are errors.
IN_A_FRESH_INTERPRETER = """
import sys
import jax, jax.core, jax.example_libraries, jax.extend, jax.flatten_util, jax.numpy as jnp
from jax.interpreters import ad
import mupjax.dynamics.kernel_limit
from mupjax.dynamics._neural_tangents import load

def loaded():
    return [name for name in sys.modules if name.split(".")[0] in ("neural_tangents", "tensorflow", "tf2jax")]

def names():
    return set(vars(jax.core)), set(vars(ad)), set(vars(jax)), "jax.util" in sys.modules

assert not loaded(), loaded()
before = names()
sys.modules["frozendict"] = None  # absent: the import fails half way
try:
    load()
except ImportError as error:
    assert "frozendict" in str(error) and "pip install" in str(error), error
else:
    raise AssertionError("imported without frozendict")
assert names() == before and not loaded(), loaded()

del sys.modules["frozendict"]
nt = load()
assert load() is nt and nt.__version__ == "0.6.5"
assert names() == before and not before[3]
assert not [name for name in loaded() if not name.startswith("neural_tangents")], loaded()
assert "neural_tangents.experimental" not in sys.modules and not hasattr(nt, "experimental")

# What it looks up when called is still found.
_, _, kernel_fn = nt.stax.serial(nt.stax.Dense(64), nt.stax.Erf(), nt.stax.Dense(1))
x = jnp.eye(3, 5)
kernel = jax.jit(lambda x: kernel_fn(x, None, ("nngp", "ntk")))(x)
assert kernel.ntk.shape == (3, 3)
assert nt.predict.gradient_descent_mse(kernel.ntk, x[:, :1])(1.0).shape == (3, 1)
"""


def test_import_leaves_no_names_behind_and_brings_no_tensorflow():
    subprocess.run([sys.executable, "-W", "error", "-c", IN_A_FRESH_INTERPRETER], check=True, timeout=120)


def test_names_are_removed_after_a_failure_and_foreign_ones_are_kept(monkeypatch):
    foreign = object()
    monkeypatch.setattr(jax.core, "Jaxpr", foreign, raising=False)
    monkeypatch.setitem(sys.modules, "jax.util", foreign)
    before = set(vars(jax.core))

    def fail_in_between():
        with _neural_tangents._names_in_place():
            assert jax.core.Jaxpr is foreign
            assert jax.core.Primitive is not None
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail_in_between()
    assert set(vars(jax.core)) == before
    assert jax.core.Jaxpr is foreign
    assert sys.modules["jax.util"] is foreign


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.5.0")
    with pytest.raises(ImportError, match=r"needs neural-tangents 0\.6\.5, found 0\.5\.0: pip install"):
        _neural_tangents.load.__wrapped__()


def test_absence_says_what_to_type(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(ImportError, match=r"pip install --no-deps neural-tangents==0\.6\.5 frozendict"):
        _neural_tangents.load.__wrapped__()
