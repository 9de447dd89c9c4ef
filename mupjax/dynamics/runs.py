"""Compute runs (seeds, learning rates) along one axis of one compiled program, sharded over devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import ArrayLike, PyTree

from mupjax import devices

BATCHES, DRAWS = 2**32 - 2, 2**32 - 1  # tags for `fold_in`, larger than any seed


def run_key(base: jax.Array, seed: ArrayLike, width: ArrayLike | tuple[int, ...]) -> jax.Array:
    """Return the random key of a seed at a width.

    It does not depend on the parametrization, so that all parametrizations share their initial Gaussians.

    Args:
      base: random key.
      seed: int.
      width: int, or one width per layer, of which the largest counts.

    Example:
      >>> key = jax.random.key(0)
      >>> bool(run_key(key, 1, (8, 16)) == run_key(key, 1, 16))
      True
    """
    widest = max(width) if isinstance(width, tuple) else width
    return jax.random.fold_in(jax.random.fold_in(base, seed), widest)


def map_runs(
    fn: Callable[..., PyTree],
    runs: PyTree,
    *shared: PyTree,
    inner: str | None = None,
    optimization_level: int | None = None,
) -> PyTree:
    """Compute `fn(run, *shared)` for every run in one compiled program over all devices.

    The runs axis is sharded over this process's devices. Inside a device, runs are mapped one after the other ('map',
    the default on CPUs, where small batched products are slow: see benchmarks/dense.py) or vmapped ('vmap', the default
    on other devices). Copies of the last run pad the axis to a multiple of the devices; their results are dropped.
    Under 'map' the numbers of a run do not depend on the other runs; NaN stays in its own row under both.

    Args:
      fn: a pure function of one run and the shared arguments.
      runs: a pytree of arrays with the runs axis [R, ...] first.
      *shared: pytrees that are passed to every run.
      inner: 'map' or 'vmap'.
      optimization_level: optimization level of XLA's CPU compiler, 0 to 3; 1 halves the compile time of programs that
        run briefly. Other devices ignore it.

    Returns:
      The pytree of results, with the runs axis first on every leaf.

    Raises:
      ValueError: if the leaves of `runs` have no common leading axis, there are no runs, or `inner` is unknown.

    Example:
      >>> import jax.numpy as jnp
      >>> map_runs(lambda x, y: x * y, jnp.arange(3.0), jnp.float32(2)).tolist()
      [0.0, 2.0, 4.0]
    """
    if inner not in (None, "map", "vmap"):
        raise ValueError(f"Expected `inner` to be 'map' or 'vmap', got inner={inner!r}.")
    counts = {leaf.shape[0] for leaf in jax.tree.leaves(runs)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"Expected `runs` to share one leading axis of at least 1, got {sorted(counts)}.")
    (num_runs,) = counts
    used = tuple(devices.local_devices()[:num_runs])
    padded = jax.tree.map(lambda leaf: _pad(leaf, -num_runs % len(used)), runs)
    level = optimization_level if devices.traits().levels else None
    results = _sharded(fn, used, inner or devices.traits().inner, len(shared), level)(padded, *shared)
    return jax.tree.map(lambda leaf: leaf[:num_runs], results) if num_runs % len(used) else results


@lru_cache(maxsize=32)
def _sharded(
    fn: Callable[..., PyTree],
    used: tuple[devices.Device, ...],
    inner: str,
    num_shared: int,
    optimization_level: int | None,
) -> Callable[..., PyTree]:
    """Return the jitted map, cached so that the same `fn` reuses its compiled program."""

    def on_device(runs: PyTree, *shared: PyTree) -> PyTree:
        if inner == "vmap":
            return jax.vmap(lambda run: fn(run, *shared))(runs)
        return lax.map(lambda run: fn(run, *shared), runs)

    mesh = jax.sharding.Mesh(np.array(used), ("runs",), axis_types=(AxisType.Auto,))
    specs = (PartitionSpec("runs"), *(PartitionSpec() for _ in range(num_shared)))
    # check_vma=False, since scans inside `fn` start from carries that do not vary over the mesh.
    return jax.jit(
        jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("runs"), check_vma=False),
        compiler_options=None if optimization_level is None else {"xla_backend_optimization_level": optimization_level},
    )


def _pad(leaf: jax.Array | np.ndarray, extra: int) -> jax.Array | np.ndarray:
    return jnp.concatenate([leaf, *([leaf[-1:]] * extra)]) if extra else leaf
