"""Settings that depend on the kind of device.

| | CPU | GPU | TPU |
|---|---|---|---|
| runs of a cell | mapped, one at a time per device | vmapped, as many as fit | as GPU |
| default matrix products | float32 | float32, not TF32 | float32, in bfloat16 passes |
| Gram matrices, eigenvalues | float64 | float64 | float32, with a coarser resolution |
| default memory budget | 8 GB | 90 % of the memory that JAX may allocate | as GPU |
| rows of an implicit matrix | 16 or 64 at a time, cached tiles of 2^14 | 64 or 256, tiles of 2^20 | as GPU |
| kernel quadrature | 2^24 numbers at a time | 2^28 | 2^28 |
| cost of one more program, for padding | 2 s at 5e10 FLOP/s | 5 s at 1e13 FLOP/s | as GPU |

The CPU column was measured (benchmarks/sweep.py, benchmarks/limit.py); the others are estimates that `make
bench-device` checks on a device. A memory budget counts device memory and the results on the host. If
`jax.default_device` is set, only that device is used. Settings depend on the kind of device alone, never on free memory
or timings, so that the same call always plans the same programs.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol, runtime_checkable

import jax


class Traits(NamedTuple):
    """Settings of one kind of device.

    Attributes:
      inner: how runs share a device: 'map' (one after the other) or 'vmap' (side by side).
      float64: whether the device computes in float64.
      block: rows of an implicit matrix that are generated at a time.
      wide_block: the same for products with many vectors.
      tile: length of the tiles into which long rows are split.
      quadrature: numbers that a kernel's quadrature holds at a time.
      compile_seconds: time to compile a program, an order of magnitude; with `flops` it decides about padding.
      flops: floating-point operations per second, an order of magnitude.
      levels: whether the compiler accepts an optimization level.
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
CPU_GB = 8.0  # default memory budget on CPUs
_SHARE, _UNKNOWN_GB = 0.9, 8.0


@runtime_checkable
class Device(Protocol):
    """The part of `jax.Device` that is used here.

    Attributes:
      platform: 'cpu', 'gpu', 'tpu', ...
      device_kind: the model.
    """

    platform: str
    device_kind: str

    def memory_stats(self) -> dict[str, int] | None:
        """Return the allocator's statistics, None if the device has none."""
        ...


def local_devices() -> list[Device]:
    """Return the devices that share the runs: those of this process, or only the one set as `jax.default_device`."""
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if default is None:
        return jax.local_devices()
    return jax.local_devices(backend=default)[:1] if isinstance(default, str) else [default]


def platform() -> str:
    """Return the kind of the local devices: 'cpu', 'gpu', 'tpu', ..."""
    return local_devices()[0].platform


def traits(kind: str | None = None) -> Traits:
    """Return the settings of a kind of device, by default of the local devices. Unknown kinds count as GPUs.

    Example:
      >>> traits("cpu").inner, traits("gpu").inner
      ('map', 'vmap')
    """
    return TRAITS.get(platform() if kind is None else kind, _GPU)


def at_once(num_runs: int) -> int:
    """Return how many of `num_runs` runs occupy memory at the same time.

    Mapped runs: one on each device, since all of them share the host's memory. Vmapped runs: all runs of one device.
    """
    count = len(local_devices())
    return min(count, num_runs) if traits().inner == "map" else -(-num_runs // count)


def with_float64() -> AbstractContextManager[object]:
    """Return a context that moves computations to the CPU if the device has no float64.

    Example:
      >>> with with_float64(), jax.enable_x64(True):
      ...     jax.numpy.zeros(1).dtype
      dtype('float64')
    """
    return nullcontext() if traits().float64 else jax.default_device(jax.local_devices(backend="cpu")[0])


def matmul_precision() -> str:
    """Return the precision of matrix products: `jax.default_matmul_precision` if the user set it, else 'highest'.

    JAX's own default is TF32 on GPUs and bfloat16 on TPUs, with relative errors near 5e-4 and 4e-3 in every feature.
    They distort small eigenvalues and leave a distance from the limit that no width removes. Gram matrices and
    eigenvalues always use 'highest'.
    """
    return jax.config.jax_default_matmul_precision or "highest"  # pyright: ignore[reportAttributeAccessIssue]


def training_precision() -> AbstractContextManager[object]:
    """Return a context in which all matrix products, including the optimizer's, have `matmul_precision`."""
    return jax.default_matmul_precision(matmul_precision())


def memory_budget(memory_gb: float | None, *, on_cpu: float = CPU_GB) -> float:
    """Return the memory budget in GB.

    Args:
      memory_gb: the budget, or None for the default: `on_cpu` on CPUs, `device_gb` on other devices.
      on_cpu: default budget on CPUs.

    Raises:
      ValueError: if `memory_gb` is not positive.

    Example:
      >>> memory_budget(2.5)
      2.5
    """
    if memory_gb is not None:
        if not memory_gb > 0:
            raise ValueError(f"Expected `memory_gb` to be positive, got memory_gb={memory_gb!r}.")
        return memory_gb
    return on_cpu if platform() == "cpu" else device_gb(local_devices()[0])


def device_gb(device: Device) -> float:
    """Return 90 % of the memory that JAX may allocate on a device, in GB, rounded down to a multiple of 0.1.

    The rounding gives equal budgets to devices of one model. Devices that report no limit get 8 GB.
    """
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return _UNKNOWN_GB if limit is None else math.floor(10 * _SHARE * limit / 1e9) / 10
