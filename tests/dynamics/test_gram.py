"""Gram matrices are contracted in float64 under every composition of JAX's transformations."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import mupjax
from mupjax.dynamics import dense
from mupjax.dynamics.gram import gram
from mupjax.parametrization import mup
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec

RUNS, STEPS, NUM, OTHER, WIDTH = 3, 2, 4, 5, 256
RNG = np.random.default_rng(0)
Z = RNG.standard_normal((RUNS, STEPS, NUM, WIDTH)).astype(np.float32)
W = RNG.standard_normal((RUNS, STEPS, OTHER, WIDTH)).astype(np.float32)

# Sums of 256 products in float64, relative to the largest entry: at most 256 * 1.1e-16, in practice ten times less.
# A float32 contraction misses it by four orders of magnitude, which the control below asserts.
EXACT = 1e-11


def by_numpy(z, w) -> np.ndarray:
    return np.einsum("...gn,...hn->...gh", z.astype(np.float64), w.astype(np.float64)) / z.shape[-1]


def error(ours, z, w) -> float:
    expected = by_numpy(z, w)
    return float(np.abs(np.asarray(ours, np.float64) - expected).max() / np.abs(expected).max())


def scan_of(f):
    """f over the leading axis of both arguments, inside a scan."""

    def scanned(z, w):
        return lax.scan(lambda carry, pair: (carry, f(*pair)), None, (z, w))[1]

    return scanned


def accumulated(z, w):
    """A scan whose carry is used in the contraction, as in a training loop."""

    def step(carry, pair):
        z, w = pair
        return carry + 1.0, gram(z * (1.0 + 0.0 * carry), w)

    return lax.scan(step, jnp.float32(0), (z, w))[1]


def branched(z, w):
    return lax.cond(z.sum() < 1e9, gram, lambda a, b: gram(-a, b), z, w)


def looped(z, w):
    return lax.fori_loop(0, 2, lambda _, kept: gram(z, w), gram(z + 1, w))


WAYS = {
    "plain": gram,
    "jit": jax.jit(gram),
    "vmap": jax.vmap(gram),
    "jit(vmap)": jax.jit(jax.vmap(gram)),
    "vmap(jit)": jax.vmap(jax.jit(gram)),
    "vmap(vmap)": jax.vmap(jax.vmap(gram)),
    "jit(vmap(vmap))": jax.jit(jax.vmap(jax.vmap(gram))),
    "vmap over inner axes": jax.vmap(gram, in_axes=(1, 1), out_axes=1),
    "lax.map": lambda z, w: lax.map(lambda pair: gram(*pair), (z, w)),
    "lax.map with batches": lambda z, w: lax.map(lambda pair: gram(*pair), (z, w), batch_size=2),
    "scan": scan_of(gram),
    "vmap(scan)": jax.vmap(scan_of(gram)),
    "jit(vmap(scan))": jax.jit(jax.vmap(scan_of(gram))),
    "vmap(jit(scan))": jax.vmap(jax.jit(scan_of(gram))),
    "scan(vmap)": scan_of(jax.vmap(gram)),
    "vmap of a training-like scan": jax.jit(jax.vmap(accumulated)),
    "lax.map of a training-like scan": jax.jit(lambda z, w: lax.map(lambda pair: accumulated(*pair), (z, w))),
    "vmap(cond)": jax.jit(jax.vmap(jax.vmap(branched))),
    "vmap(fori_loop)": jax.jit(jax.vmap(looped)),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_numpy_s_float64_product(way):
    ours = WAYS[way](jnp.asarray(Z), jnp.asarray(W))
    assert ours.shape == (RUNS, STEPS, NUM, OTHER)
    assert ours.dtype == np.float64
    assert error(ours, Z, W) <= EXACT
    assert not jax.config.jax_enable_x64
    assert jnp.ones(()).dtype == np.float32  # the caller's program stays in float32


@pytest.mark.parametrize("batched", ["first", "second"])
def test_only_one_argument_may_be_batched(batched):
    z, w = jnp.asarray(Z[0, 0]), jnp.asarray(W[0, 0])
    if batched == "first":
        ways, arguments, expected = (0, None), (jnp.asarray(Z[:, 0]), w), (Z[:, 0], W[:1, 0].repeat(RUNS, 0))
    else:
        ways, arguments, expected = (None, 0), (z, jnp.asarray(W[:, 0])), (Z[:1, 0].repeat(RUNS, 0), W[:, 0])
    for way in (jax.vmap(gram, ways), jax.jit(jax.vmap(gram, ways)), jax.vmap(jax.jit(gram), ways)):
        ours = way(*arguments)
        assert ours.dtype == np.float64
        assert error(ours, *expected) <= EXACT


def test_a_float32_contraction_is_not_that_exact():
    """Negative control of the tolerance."""
    z, w = jnp.asarray(Z), jnp.asarray(W)
    assert error(jnp.einsum("...gn,...hn->...gh", z, w, precision="highest") / WIDTH, Z, W) > 1e3 * EXACT


def test_a_bare_context_is_lost_where_vmap_batches_a_scan():
    """Negative control of the reason for `custom_vmap`: the same lines without it compute in float32."""

    def bare(z, w):
        with jax.enable_x64(True):
            return jnp.einsum("gn,hn->gh", z.astype(jnp.float64), w.astype(jnp.float64))

    z, w = jnp.asarray(Z), jnp.asarray(W)
    assert error(np.asarray(jax.vmap(jax.vmap(bare))(z, w)) / WIDTH, Z, W) <= EXACT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where JAX says that float64 is not available, once
        assert error(np.asarray(jax.vmap(scan_of(bare))(z, w)) / WIDTH, Z, W) > 1e3 * EXACT


def test_float64_features_under_x64_keep_their_digits():
    with jax.enable_x64(True):
        z, w = (RNG.standard_normal((2, NUM, WIDTH)) for _ in range(2))
        for way in (gram, jax.jit(gram), jax.vmap(gram)):
            ours = way(jnp.asarray(z), jnp.asarray(w))
            assert ours.dtype == np.float64
            assert error(ours, z, w) <= EXACT
            assert error(ours, z.astype(np.float32), w) > 1e3 * EXACT  # control: float32 features would differ


def test_trajectories_carry_float64_grams_from_float32_training():
    """At width 8 the Gram matrix of 16 inputs has rank 8; a float32 contraction would fill the rest with 1e-8."""
    task = Task(RNG.standard_normal((16, 6)), RNG.standard_normal((16, 1)))

    def run(key):
        return dense.train(
            task,
            mup(),
            width=8,
            depth=1,
            learning_rate=0.1,
            steps=2,
            key=key,
            spec=TrajectorySpec(steps=(0, 2), gram_inputs=16, grams=("x",)),
        )

    batch = jax.vmap(run)(jax.random.split(jax.random.key(0), 2))
    assert batch.train_loss.dtype == np.float32
    assert batch.x_gram.shape == (2, 2, 1, 16, 16)
    for grams in (batch.x_gram, batch.x_cross_gram):
        assert grams.dtype == np.float64
        singular = np.linalg.svd(grams, compute_uv=False)
        assert (singular[..., 8:] <= 1e-13 * singular[..., :1]).all()  # a few eps of float64 times the norm
        assert (singular[..., 7] > 1e-6 * singular[..., 0]).all()
    in_float32 = np.linalg.svd(np.asarray(batch.x_gram).astype(np.float32), compute_uv=False)
    assert (in_float32[..., 8:].max(-1) > 1e-10 * in_float32[..., 0]).all()  # control: rounding entries shows
    assert not jax.config.jax_enable_x64


SHARDED = """
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from jax import lax
from jax.sharding import AxisType, PartitionSpec as P
from mupjax.dynamics.gram import gram

z = np.random.default_rng(0).standard_normal((4, 2, 3, 64)).astype(np.float32)
expected = np.einsum("...gn,...hn->...gh", z.astype(float), z.astype(float)) / 64
mesh = jax.make_mesh((2,), ("runs",), axis_types=(AxisType.Auto,))

def mapped(z):
    return lax.map(lambda one: lax.scan(lambda carry, w: (carry, gram(w, w)), None, one)[1], z)

for inner in (jax.vmap(jax.vmap(lambda one: gram(one, one))), mapped):
    sharded = jax.shard_map(inner, mesh=mesh, in_specs=P("runs"), out_specs=P("runs"), check_vma=False)
    for run in (sharded, jax.jit(sharded)):
        ours = run(z)
        assert len(ours.sharding.device_set) == 2
        assert ours.dtype == np.float64, ours.dtype
        assert np.abs(np.asarray(ours) - expected).max() <= 1e-11, np.abs(np.asarray(ours) - expected).max()
assert not jax.config.jax_enable_x64
print("sharded")
"""


def test_it_is_exact_on_shards_over_two_devices():
    """In a process of its own, since the number of devices is fixed when JAX starts."""
    folder = str(Path(mupjax.__file__).parents[1])
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHARDED],
        env=os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "sharded\n", done.stderr
