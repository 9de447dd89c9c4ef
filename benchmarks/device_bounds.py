"""What bounds a program on a device: its matrix rate and bandwidth, its memory, and how many kernels it launches."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Rates(NamedTuple):
    """float32, tf32: operations a second of square matrix products. bandwidth: bytes a second read and written."""

    float32: float
    tf32: float
    bandwidth: float


class Peak(NamedTuple):
    """estimate: bytes that were expected. real: bytes that came on top, None where an earlier peak was higher."""

    estimate: float
    real: float | None

    @property
    def ratio(self) -> float | None:
        return self.estimate / self.real if self.real else None


def seconds(call: Callable[[], Any], repeats: int = 3) -> float:
    """Least time of a call that was made once before: other work can only add to it."""
    jax.block_until_ready(call())
    return min(once(call)[0] for _ in range(repeats))


def once(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and what it returned."""
    start = time.perf_counter()
    found = jax.block_until_ready(call())
    return time.perf_counter() - start, found


def rates(side: int, length: int) -> Rates:
    """Measure square products of a side and a copy of `length` numbers, eight in a row so that no launch counts."""
    square, row = jnp.ones((side, side)), jnp.ones(length)

    def products(precision: str) -> float:
        def run(a: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, 8, lambda _, b: jnp.matmul(a, b, precision=precision) / side, a)

        fn = jax.jit(run)
        return 8 * 2 * side**3 / seconds(lambda: fn(square))

    copy = jax.jit(lambda a: jax.lax.fori_loop(0, 8, lambda _, b: 0.5 * b, a))
    return Rates(products("highest"), products("tensorfloat32"), 8 * 2 * row.nbytes / seconds(lambda: copy(row)))


def peak(call: Callable[[], Any], estimate: float) -> tuple[Any, Peak]:
    """Make a call; what it returned, and the memory that it took beside what was estimated."""
    device = jax.local_devices()[0]
    before = device.memory_stats() or {}
    found = jax.block_until_ready(call())
    after = device.memory_stats() or {}
    rose = after.get("peak_bytes_in_use", 0) > before.get("peak_bytes_in_use", 0)
    return found, Peak(estimate, after["peak_bytes_in_use"] - before["bytes_in_use"] if rose else None)


_RUNS = re.compile(r"= .*? (fusion|custom-call|dot|convolution|copy|reduce|scatter|gather|sort|dynamic-update-slice)\(")
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*\{$")
_CALLS = re.compile(r"(?:body|to_apply|calls|branch_computations)=\{?([^,}\s]+(?:, %[^,}\s]+)*)")
_TRIPS = re.compile(r'known_trip_count"?:\{"n":"(\d+)"')


def launches(hlo: str) -> int:
    """Estimate the kernels that a compiled program launches: instructions that run, times the turns of their loops.

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
            counts[name] += bool(_RUNS.search(line))
            loop = re.search(r"= .* (while|call|conditional)\(", line)
            if loop:
                trips = int(found.group(1)) if (found := _TRIPS.search(line)) else 1
                called = [part.strip(" %") for group in _CALLS.findall(line) for part in group.split(",")]
                inner[name] += [(part, trips) for part in called]

    def total(of: str) -> int:
        return counts.get(of, 0) + sum(trips * total(part) for part, trips in inner.get(of, ()))

    return total(entry)


def bound(what: str, took: float, flops: float, moved: float, of: Rates, program: Callable[[], Any] | None) -> str:
    """Say how near a stage came to the device's rates, and how many kernels it launched (`program` compiles it)."""
    words = [
        f"{flops / took / 1e9:,.0f} GFLOP/s ({flops / took / of.float32:.1%} of the float32 rate)",
        f"{moved / took / 1e9:,.1f} GB/s ({moved / took / of.bandwidth:.1%} of the bandwidth)",
    ]
    if program is not None:
        number = launches(program().as_text())
        words.append(f"about {number:,} kernels, {1e6 * took / max(number, 1):.1f} us each")
    return f"- Bound of {what}: {', '.join(words)}."


def driver() -> str:
    """Return the GPU's name and driver as nvidia-smi has them, or 'no nvidia-smi'."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "no nvidia-smi"
    return "; ".join(done.stdout.splitlines())
