"""Runs (seeds, learning rates) as one axis of one compiled program, shared out over devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from mupjax import devices

BATCHES, DRAWS = 2**32 - 2, 2**32 - 1  # tags of keys, out of the way of seeds


def run_key(base: jax.Array, seed: Any, width: Any) -> jax.Array:
    """Return the key of a seed at a width: the same for every parametrization, so that they share their Gaussians."""
    widest = max(width) if isinstance(width, tuple) else width
    return jax.random.fold_in(jax.random.fold_in(base, seed), widest)


def map_runs(
    fn: Callable[..., Any], runs: Any, *shared: Any, inner: str | None = None, optimization_level: int | None = None
) -> Any:
    """Compute `fn(run, *shared)` for every run in one compiled program over all devices.

    The runs axis is sharded over this process's devices; inside a device the runs are mapped one after the other
    ('map', the default on CPUs, where small batched products are slow: see benchmarks/dense.py) or vmapped ('vmap', the
    default elsewhere: `devices`). Runs that do not fill the devices are padded with copies whose results are dropped.
    A run's numbers do not depend on the other runs' under 'map'; NaN stays in its own row under both.

    Args:
      fn: a pure function of one run and the shared arguments.
      runs: a pytree of arrays with the runs axis [R, ...] first.
      *shared: pytrees that every run sees whole.
      inner: 'map' or 'vmap'.
      optimization_level: of XLA's compiler where it has levels (CPUs), 0 to 3; 1 halves the compilation of programs
        that run for a moment.

    Returns:
      The pytree of `fn`'s results with the runs axis first.

    Raises:
      ValueError: for runs without a common leading axis, no runs, or an unknown `inner`.

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
    shared_by = devices.local_devices()[:num_runs]
    padded = jax.tree.map(lambda leaf: _pad(leaf, -num_runs % len(shared_by)), runs)
    level = optimization_level if devices.traits().levels else None
    found = _sharded(fn, tuple(shared_by), inner or devices.traits().inner, len(shared), level)(padded, *shared)
    return jax.tree.map(lambda leaf: leaf[:num_runs], found) if num_runs % len(shared_by) else found


@lru_cache(maxsize=32)
def _sharded(
    fn: Callable[..., Any], shared_by: tuple[Any, ...], inner: str, num_shared: int, optimization_level: int | None
) -> Callable[..., Any]:
    """The jitted map; the same `fn` finds its compiled program again."""

    def on_device(runs: Any, *shared: Any) -> Any:
        if inner == "vmap":
            return jax.vmap(lambda run: fn(run, *shared))(runs)
        return lax.map(lambda run: fn(run, *shared), runs)

    mesh = jax.sharding.Mesh(np.array(shared_by), ("runs",), axis_types=(AxisType.Auto,))
    specs = (PartitionSpec("runs"), *(PartitionSpec() for _ in range(num_shared)))
    # check_vma=False: the scans inside `fn` start from carries that do not vary over the mesh.
    return jax.jit(
        jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("runs"), check_vma=False),
        compiler_options=None if optimization_level is None else {"xla_backend_optimization_level": optimization_level},
    )


def _pad(leaf: Any, extra: int) -> Any:
    return jnp.concatenate([leaf, *([leaf[-1:]] * extra)]) if extra else leaf
