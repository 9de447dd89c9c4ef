"""Measure a device's rates, the memory that a call takes, and count the kernels that a program launches."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import goals
import jax
import jax.numpy as jnp


class Rates(NamedTuple):
    """float32, tf32: operations a second of square matrix products. bandwidth: bytes a second read and written.

    tanh64: values of tanh a second in float64.
    """

    float32: float
    tf32: float
    bandwidth: float
    tanh64: float


class Peak(NamedTuple):
    """estimate: bytes that were expected. real: bytes that came on top, None where an earlier stage held more."""

    estimate: float
    real: float | None

    @property
    def ratio(self) -> float | None:
        return self.estimate / self.real if self.real else None


class Session:
    """What stages share: whether sizes are small, whether goals count, and the device's rates, measured once."""

    def __init__(self, small: bool, measured: bool) -> None:
        self.small, self.measured = small, measured

    @cached_property
    def rates(self) -> Rates:
        return rates(64, 2**12) if self.small else rates(4096, 2**26)

    def at_most(self, what: str, bound: float, figure: float | None, form: str = ".1f") -> str:
        return goals.at_most(what, bound, figure if self.measured else None, form)

    def at_least(self, what: str, bound: float, figure: float | None, form: str = ".2f") -> str:
        return goals.at_least(what, bound, figure if self.measured else None, form)

    def memory(self, what: str, peak: Peak) -> str:
        ratio = peak.ratio if self.measured else None
        within = ratio is not None and 0.5 <= ratio <= 2
        text = f"{ratio or 0:.2f} ({peak.estimate / 1e9:.2g} and {(peak.real or 0) / 1e9:.2g} GB)"
        return goals.goal(f"memory of {what}: estimated / real in .5..2", ratio, text, within)


def once(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and what it returned."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result


def seconds(call: Callable[[], Any], repeats: int = 3) -> float:
    """Least time of a call that was made once before: other work can only add to it."""
    jax.block_until_ready(call())
    return min(once(call)[0] for _ in range(repeats))


def rates(side: int, length: int) -> Rates:
    """Measure products of a random square matrix, a scaled copy and tanh, each many times in one program."""
    square = jax.random.normal(jax.random.key(0), (side, side)) / side**0.5
    row, turns = jax.random.normal(jax.random.key(1), (length,)), 16

    def repeated(step: Callable[[jax.Array], jax.Array], start: jax.Array) -> float:
        fn = jax.jit(lambda a: jax.lax.fori_loop(0, turns, lambda _, b: step(b), a))
        return turns / seconds(lambda: fn(start))

    def products(precision: str) -> float:
        return 2 * side**3 * repeated(lambda b: jnp.matmul(square, b, precision=precision), square)

    with jax.enable_x64(True):
        tanh64 = row.size * repeated(lambda b: jnp.tanh(b) + b, row.astype(jnp.float64))
    return Rates(
        products("highest"), products("tensorfloat32"), 2 * row.nbytes * repeated(lambda b: 0.5 * b, row), tanh64
    )


def peak(call: Callable[[], Any], estimate: float) -> tuple[Any, Peak]:
    """Make a call; return its result, and the memory that it took beside what was estimated."""
    device = jax.local_devices()[0]
    before = device.memory_stats() or {}
    result = jax.block_until_ready(call())
    after = device.memory_stats() or {}
    rose = after.get("peak_bytes_in_use", 0) > before.get("peak_bytes_in_use", 0)
    return result, Peak(estimate, after["peak_bytes_in_use"] - before["bytes_in_use"] if rose else None)


_KERNEL = re.compile(
    r"= .*? (fusion|custom-call|dot|convolution|copy|reduce|scatter|gather|sort|dynamic-update-slice)\("
)
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*\{$")
_CALLS = re.compile(r"(?:body|to_apply|calls|branch_computations)=\{?([^,}\s]+(?:, %[^,}\s]+)*)")
_TURNS = re.compile(r'known_trip_count"?:\{"n":"(\d+)"')


def launches(hlo: str) -> int:
    """Count the kernels that a compiled program launches at least: instructions, times the turns of their loops.

    Loops whose number of turns the compiler does not know count once; of a conditional's branches all count.
    """
    counts: dict[str, int] = {}
    inner: dict[str, list[tuple[str, int]]] = {}
    name, entry = "", ""
    for line in hlo.splitlines():
        if head := _HEAD.match(line):
            name = head.group(1)
            counts[name], inner[name] = 0, []
            entry = name if line.startswith("ENTRY") else entry
        elif name:
            counts[name] += bool(_KERNEL.search(line))
            if re.search(r"= .* (while|call|conditional)\(", line):
                turns = int(known.group(1)) if (known := _TURNS.search(line)) else 1
                called = [part.strip(" %") for group in _CALLS.findall(line) for part in group.split(",")]
                inner[name] += [(part, turns) for part in called]

    def total(computation: str) -> int:
        return counts.get(computation, 0) + sum(turns * total(part) for part, turns in inner.get(computation, ()))

    return total(entry)


def bound(what: str, took: float, flops: float, moved: float, rates: Rates, kernels: int) -> str:
    """Say how near a call of `took` seconds came to the device's rates, and how many kernels it launched."""
    return (
        f"- Bound of {what}: {flops / took / 1e9:,.0f} GFLOP/s ({flops / took / rates.float32:.1%} of the float32 "
        f"rate), {moved / took / 1e9:,.1f} GB/s ({moved / took / rates.bandwidth:.1%} of the bandwidth), at least "
        f"{kernels:,} kernels, {1e6 * took / max(kernels, 1):.1f} us each."
    )


def driver() -> str:
    """Return the GPU's name and driver as nvidia-smi has them; empty where there is none."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return "; ".join(done.stdout.splitlines())
