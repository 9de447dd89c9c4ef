"""Settings that depend on the kind of device, in one table.

| | CPU | GPU | TPU |
|---|---|---|---|
| runs of a cell | mapped: one at a time on each device | vmapped, as many as fit | as GPU |
| products, unless JAX is told otherwise | float32 | float32, not TF32 | float32, in bfloat16 passes |
| Grams, eigenvalues | float64 | float64 | float32, a coarser resolution |
| default memory budget | 8 GB | nine tenths of what JAX may hold there | as GPU |
| rows of an implicit matrix | 16 or 64 at a time, tiles of 2^14 in a cache | 64 or 256, tiles of 2^20 | as GPU |
| quadrature of kernels | 2^24 numbers at once | 2^28 | 2^28 |
| padding weighs a program as | 2 s of 5e10 FLOP/s | 5 s of 1e13 FLOP/s | as GPU |

The CPU's figures were measured (benchmarks/sweep.py, benchmarks/limit.py). Those of other kinds are expectations: no
such device was at hand yet (`make bench-device`). A budget counts what is held on the device and what results take on
the host. A device that `jax.default_device` names counts as the only one. The kind decides, never what is free or fast
at the moment, so that the same call plans the same programs.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax


class Traits(NamedTuple):
    """What a kind of device needs.

    Attributes:
      inner: how runs share a device: 'map', one after the other, or 'vmap', side by side.
      float64: whether it computes in float64.
      block, wide_block: rows of an implicit matrix that are multiplied at a time, the latter by many vectors.
      tile: length of the pieces that long rows are cut into.
      quadrature: numbers that a kernel's quadrature holds at once.
      compile_seconds, flops: what a program costs to compile and what a device computes a second, in orders of
        magnitude: padding is weighed by them.
      levels: whether its compiler takes an optimization level.
    """

    inner: str
    float64: bool
    block: int
    wide_block: int
    tile: int
    quadrature: int
    compile_seconds: float
    flops: float
    levels: bool = False


_CPU = Traits("map", True, 16, 64, 2**14, 2**24, 2.0, 5e10, levels=True)
_GPU = Traits("vmap", True, 64, 256, 2**20, 2**28, 5.0, 1e13)
TRAITS = {"cpu": _CPU, "gpu": _GPU, "tpu": _GPU._replace(float64=False), "METAL": _GPU._replace(float64=False)}
_SHARE, _UNKNOWN_GB = 0.9, 8.0


def local_devices() -> list[Any]:
    """Return the devices that runs are shared over: this process's, or the one that `jax.default_device` names."""
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if default is None:
        return jax.local_devices()
    return jax.local_devices(backend=default)[:1] if isinstance(default, str) else [default]


def platform() -> str:
    """Return the kind of these devices: 'cpu', 'gpu', 'tpu', ..."""
    return local_devices()[0].platform


def traits(kind: str | None = None) -> Traits:
    """Return what a kind of device needs; by default of the devices at hand. Unknown kinds count as GPUs."""
    return TRAITS.get(platform() if kind is None else kind, _GPU)


def at_once(num_runs: int) -> int:
    """Return how many of a call's runs a memory budget holds at the same time.

    Mapped runs: one on each device, all of which share the host's memory. Vmapped runs: all that one device has.
    """
    count = len(local_devices())
    return min(count, num_runs) if traits().inner == "map" else -(-num_runs // count)


def with_float64() -> AbstractContextManager[Any]:
    """Return a context in which computations go to the CPU where the device has no float64."""
    return nullcontext() if traits().float64 else jax.default_device(jax.local_devices(backend="cpu")[0])


def matmul_precision() -> Any:
    """Return the precision of matrix products: 'highest', or what the user gave `jax.default_matmul_precision`.

    JAX's own default is TF32 on GPUs and bfloat16 on TPUs, with relative errors near 5e-4 and 4e-3 in every feature:
    visible in small eigenvalues, and as a distance from the limit that no width removes. Grams and eigenvalues are
    computed at 'highest' whatever the user set.
    """
    return jax.config.jax_default_matmul_precision or "highest"  # pyright: ignore[reportAttributeAccessIssue]


def training_precision() -> AbstractContextManager[Any]:
    """Return a context in which all matrix products have `matmul_precision`, an optimizer's own among them."""
    return jax.default_matmul_precision(matmul_precision())


def memory_budget(memory_gb: float | None, *, on_cpu: float = 8.0) -> float:
    """Return a memory budget in GB: the one given, else `on_cpu` on CPUs and what the device has on others.

    Raises:
      ValueError: for a budget that is not positive.

    Example:
      >>> memory_budget(2.5)
      2.5
    """
    if memory_gb is not None:
        if not memory_gb > 0:
            raise ValueError(f"Expected `memory_gb` to be positive, got memory_gb={memory_gb!r}.")
        return memory_gb
    return on_cpu if platform() == "cpu" else device_gb(local_devices()[0])


def device_gb(device: Any) -> float:
    """Return nine tenths of what JAX may hold on a device, in tenths of a GB: the same for devices of one kind."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return _UNKNOWN_GB if limit is None else math.floor(10 * _SHARE * limit / 1e9) / 10
