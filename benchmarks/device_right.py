"""Compare a device's numbers with those of this machine's processor, in the same process, and with published ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import goals
import jax
import jax.numpy as jnp
import limit_example
import numpy as np
from device_bounds import Session

from mupjax import activations, devices, optim
from mupjax.dynamics import dense, feature_limit, kernel_limit, matrix_free, padded
from mupjax.dynamics.gram import gram, in_float64
from mupjax.dynamics.implicit.gaussian_matrix import whiten
from mupjax.dynamics.runs import map_runs
from mupjax.network import MLP
from mupjax.observers import curvature
from mupjax.parametrization import mup, ntp
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec

DEPTH, STEPS = 3, 12
# Rounding of float32 sums, relative to the largest entry: about 1e-7 a product, over 12 steps that double it at most.
ROUNDING = 1e-4
Z = 4.5  # standard errors that the largest of some hundred differences may have


@contextmanager
def on_cpu() -> Iterator[None]:
    """Compute on the processor, whatever else there is."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield


def relative(found: Any, wanted: Any) -> float:
    """The largest difference over the largest entry, over all arrays of a pytree."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - b)) / np.max(np.abs(b))) for a, b in pairs)


def both(fn: Callable[[], Any]) -> float:
    """How far the device's numbers are from the processor's; NaN where the device is the processor."""
    found = jax.tree.map(np.asarray, fn())
    if devices.platform() == "cpu":
        return float("nan")
    with on_cpu():
        return relative(found, jax.tree.map(np.asarray, fn()))


def dense_numbers(width: int) -> Callable[[], Any]:
    """Losses, outputs and Grams of a muP network, and the sharpness along its way."""
    task, network = limit_example.task(), {"width": width, "depth": DEPTH, "activation": "tanh"}

    def numbers() -> Any:
        model = MLP(out_dim=1, parametrization=mup(), **network)
        seen = {"sharpness": dense.Observer(curvature.sharpness(model, task, num_products=8), STEPS)}
        settings = {"learning_rate": 1.0, "steps": STEPS, "key": jax.random.key(0), "observers": seen}
        run = dense.train(task, mup(), **network, **settings)
        return run.train_loss, run.predictions, run.h_gram, run.x_cross_gram, run.observed["sharpness"].values

    return numbers


def padded_numbers(width: int) -> Any:
    """Losses of a network that is a corner of one twice as wide."""
    task, wide = limit_example.task(), (2 * width,) * DEPTH
    family = padded.Family(
        wide, activations.get("tanh"), optim.sgd, STEPS, False, TrajectorySpec(grams=()), padded=True
    )
    member = padded.member(mup(), task, (width,) * DEPTH)
    return jax.jit(lambda key: padded.train(task, member, key, 1.0, None, family).train_loss)(jax.random.key(0))


def kernel_numbers(num_inputs: int) -> Any:
    inputs = np.random.default_rng(0).standard_normal((num_inputs, 16))
    found = kernel_limit.kernels(inputs, ntp(), depth=DEPTH)
    return found.h, found.x, found.nngp, found.ntk


def matrix_free_z(width: int, runs: int) -> float:
    """The largest z-score of mean outputs and losses, device against processor: equal in law, not number by number."""
    task = limit_example.task()

    def run(key: jax.Array, task: Task) -> Any:
        settings = {"depth": DEPTH, "learning_rate": 1.0, "steps": STEPS, "key": key}
        found = matrix_free.train(task, mup(), width=width, **settings)
        return found.predictions, found.train_loss[:, None]

    keys = jax.random.split(jax.random.key(0), 2 * runs)
    here = jax.tree.map(np.asarray, map_runs(run, keys[:runs], task))
    with on_cpu():
        there = jax.tree.map(np.asarray, map_runs(run, keys[runs:], task))
    return max(_z(a, b) for a, b in zip(here, there, strict=True))


def _z(a: np.ndarray, b: np.ndarray) -> float:
    error = np.sqrt(a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b))
    return float(np.max(np.abs(a.mean(axis=0) - b.mean(axis=0)) / np.maximum(error, 1e-7)))


def limit_z(particles: int, runs: int) -> float:
    """The largest z-score of the limit's losses against the published ones, which have errors of their own."""
    settings = {"depth": DEPTH, "learning_rate": 1.0, "steps": STEPS, "key": jax.random.key(0)}
    run = feature_limit.train(limit_example.task(), mup(), num_particles=particles, num_runs=runs, **settings)
    losses = np.array(limit_example.LOSSES)
    error = np.hypot(run.stderr.train_loss[:STEPS], limit_example.F_ERROR * np.sqrt(2 * losses / 4) + 5e-6)
    return float(np.max(np.abs(run.train_loss[:STEPS] - losses) / error))


def gram_error(length: int) -> tuple[float, str]:
    """A Gram and the algebra of directions under jit, vmap and scan, against NumPy's float64; and their dtype."""
    z = np.random.default_rng(0).standard_normal((3, 32, length)).astype(np.float32)
    wanted = np.einsum("bgn,bhn->bgh", z, z, dtype=np.float64) / length
    ways = (
        lambda z: gram(z, z),
        jax.jit(jax.vmap(lambda z: gram(z, z))),
        jax.vmap(jax.jit(lambda z: gram(z, z))),
        lambda z: jax.lax.map(lambda z: gram(z, z), z),
    )
    found = [way(jnp.asarray(z)) for way in ways]
    error = max(relative(one, wanted) for one in found)
    values = in_float64(lambda a: jnp.linalg.eigvalsh(a))(found[0])
    error = max(error, relative(values, np.linalg.eigvalsh(wanted)))
    return error, ", ".join(sorted({str(one.dtype) for one in (*found, values)}))


def direction_error(length: int) -> float:
    """Whitened rows, with eigenvalues over six orders of magnitude, are orthonormal to float32 rounding of the rows."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((8, 8)) @ np.diag(10.0 ** -np.arange(0, 4, 0.5)) @ rng.standard_normal((8, length))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    to_new, from_new, variances = map(np.asarray, jax.jit(whiten)(jnp.asarray(rows)))
    kept = variances > 1e-9
    unit = (to_new.astype(np.float64) @ rows)[kept]
    # to_new is rounded to float32: of 1 / smallest length.
    off = np.max(np.abs(unit @ unit.T - np.eye(kept.sum())) * np.sqrt(variances[kept].min()))
    back = from_new.astype(np.float64)[:, kept] @ unit
    return float(max(off, np.max(np.abs(back - rows))))


def tf32(width: int) -> str:
    """What TF32 does to training, and to a small eigenvalue of features that are computed with it."""
    task, settings = limit_example.task(), {"learning_rate": 1.0, "steps": STEPS, "key": jax.random.key(0)}
    # Eight inputs and near twins of theirs, 1e-3 apart: the smallest eigenvalues are 1e-6 of the largest.
    x = np.random.default_rng(2).standard_normal((16, 64)).astype(np.float32)
    x[8:] = x[:8] + 1e-3 * x[8:]
    model = MLP(width, DEPTH, 1, mup())
    variables = jax.jit(model.init)(jax.random.key(0), x)
    runs, smallest = [], []
    for precision in ("highest", "tensorfloat32"):
        with jax.default_matmul_precision(precision):
            runs.append(dense.train(task, mup(), width=width, depth=DEPTH, spec=TrajectorySpec(grams=()), **settings))
            h: Any = model.apply(variables, x, method="features")
        smallest.append(float(np.linalg.eigvalsh(np.asarray(gram(h.h[-1], h.h[-1])))[0]))
    exact, short = runs
    return (
        f"- TF32 in place of float32, width {width}, {STEPS} steps: outputs move by "
        f"{relative(short.predictions, exact.predictions):.1e} of the largest, the last loss by "
        f"{relative(short.train_loss[-1], exact.train_loss[-1]):.1e} of itself; of 8 inputs and their twins, 1e-3 "
        f"apart, the last layer's smallest eigenvalue is {smallest[1]:.3e} instead of {smallest[0]:.3e}."
    )


def numbers(session: Session) -> Iterator[str]:
    """Compare results that must agree to rounding."""
    small = session.small
    width = 16 if small else 512
    error, dtype = gram_error(256 if small else 4096)
    yield (
        f"- Products: {devices.matmul_precision()} unless JAX is told otherwise; Grams in {dtype}; budget "
        f"{devices.memory_budget(None):g} GB by default; {devices.traits()}."
    )
    yield session.at_most("Grams and their eigenvalues against NumPy's float64", 1e-11, error, ".1e")
    yield goals.goal("dtype of Grams: float64", 0.0 if session.measured else None, dtype, dtype == "float64")
    directions = direction_error(512 if small else 100_000)
    yield session.at_most("new directions are orthonormal", 1e-5, directions, ".1e")
    against = "against the CPU"
    trained = both(dense_numbers(width))
    yield session.at_most(f"dense: losses, outputs, Grams, sharpness {against}", ROUNDING, trained, ".1e")
    yield session.at_most(f"padded: losses {against}", ROUNDING, both(lambda: padded_numbers(width)), ".1e")
    yield session.at_most(f"kernels {against}", 1e-11, both(lambda: kernel_numbers(8 if small else 64)), ".1e")
    yield tf32(width)


def laws(session: Session) -> Iterator[str]:
    """Compare results that must agree in distribution: an eigenvector's sign is each device's own."""
    runs, particles, width = (8, 256, 64) if session.small else (64, 16384, 4096)
    yield session.at_most("feature limit against published losses, largest z", Z, limit_z(particles, runs), ".1f")
    yield session.at_most("matrix-free against the CPU, largest z", Z, matrix_free_z(width, runs), ".1f")
