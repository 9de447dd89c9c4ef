"""What the edge of chaos costs: `make bench-edge` prints goals and appends RESULTS.md.

The quick study and the notebook run as whole commands, nothing compiled before. A measurement of the sharpness is timed
beside the machine's own limit, its bare Hessian-vector products and the passes over all vectors that matfree's
reorthogonalisation makes (they take about as long as the products: its vectors do not fit the cache), and beside
SciPy's `eigsh` (ARPACK), given the same jitted product and the same accuracy. Training is timed beside plain SGD, and
what follows or observes the sharpness beside measurements of their own, all in the same run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import goals
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh
from timing import seconds, whole

from mupjax import datasets
from mupjax.activations import gain
from mupjax.dynamics import dense, matrix_free
from mupjax.network import MLP, nn
from mupjax.observers import curvature, updates
from mupjax.parametrization import mup, nup
from mupjax.trajectory import TrajectorySpec

WIDTH, DEPTH, PRODUCTS, STEPS = 512, 4, 24, 30
SPEC = TrajectorySpec(steps=(-1,), grams=(), eval_inputs=())
NETWORK: dict[str, Any] = {"width": WIDTH, "depth": DEPTH, "activation": "tanh"}
TASK = datasets.load("digits", classes=None, train_size=512, test_size=None)


class Spectrum(NamedTuple):
    """Seconds of one gradient, of bare products, of bare passes over the vectors, of the sharpness, of eigsh."""

    gradient: float
    products: float
    passes: float
    sharpness: float
    arpack: float
    difference: float  # of the two eigenvalues, relative


def spectrum() -> Spectrum:
    model = MLP(out_dim=TASK.out_dim, parametrization=mup(), **NETWORK)
    params = nn.meta.unbox(model.init(jax.random.key(0), TASK.x_train))["params"]
    flat, unravel = ravel_pytree(params)

    def loss(w: Any) -> jax.Array:
        outputs: Any = model.apply({"params": unravel(w)}, TASK.x_train)
        return 0.5 * jnp.mean(jnp.sum((outputs - TASK.y_train) ** 2, axis=-1))

    gradient, start = jax.jit(jax.grad(loss)), jax.random.normal(jax.random.key(1), flat.shape)
    product = jax.jit(lambda w, v: jax.jvp(jax.grad(loss), (w,), (v,))[1])  # w captured would be folded into it

    @jax.jit
    def products(w: jax.Array, v: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda u, _: (product(w, u / jnp.linalg.norm(u)), None), v, length=PRODUCTS)[0]

    @jax.jit
    def passes(vectors: jax.Array, v: jax.Array) -> jax.Array:
        def one(u: jax.Array, _: Any) -> tuple[jax.Array, None]:
            for _ in range(2):
                u = u - vectors @ (vectors.T @ u)
            return u, None

        return jax.lax.scan(one, v, length=PRODUCTS)[0]

    ours = jax.jit(lambda w: curvature.hessian_eigenvalues(loss, w, num_products=PRODUCTS).values[0])
    operator = LinearOperator(
        (flat.size,) * 2, matvec=lambda v: np.asarray(product(flat, jnp.asarray(v))), dtype=np.float32
    )
    found, v_0 = float(ours(flat)), np.asarray(start)

    def arpack() -> Any:
        return eigsh(operator, k=1, which="LA", v0=v_0, tol=1e-4, return_eigenvectors=False)

    other = float(arpack()[0])
    vectors = jnp.linalg.qr(jax.random.normal(jax.random.key(2), (flat.size, PRODUCTS)))[0]
    return Spectrum(
        gradient=seconds(lambda: gradient(flat)),
        products=seconds(lambda: products(flat, start)),
        passes=seconds(lambda: passes(vectors, start)),
        sharpness=seconds(lambda: ours(flat)),
        arpack=seconds(arpack, 3),
        difference=abs(found - other) / abs(other),
    )


def training() -> dict[str, float]:
    """Seconds of STEPS full-batch steps of plain SGD, and of what the edge of chaos adds."""
    model = MLP(out_dim=TASK.out_dim, parametrization=mup(), **NETWORK)
    common: dict[str, Any] = NETWORK | {"steps": STEPS, "key": jax.random.key(0), "spec": SPEC}

    def run(preset: Any, rate: float, **settings: Any) -> float:
        return seconds(lambda: dense.train(TASK, preset, learning_rate=rate, **common, **settings), 3)

    sharpness = curvature.sharpness(model, TASK, num_products=PRODUCTS)
    return {
        "plain": run(mup(), 0.1),
        "normalized": run(nup(q=0, gain=gain(0.5, 0.5)), 0.1),
        "cosines": run(mup(), 0.1, observers={"seen": updates.update_cosines()}),
        "following": run(mup(), 1.0, optimizer=curvature.sharpness_sgd(every=10)),
        "observed": run(mup(), 0.1, observers={"seen": dense.Observer(sharpness, 10)}),
    }


def runs() -> tuple[float, float]:
    """Seconds of 16 small networks whose sharpness is observed at every fifth step: one by one, and under vmap."""
    task = datasets.load("digits", classes=(0, 1), train_size=16, test_size=None)
    small: dict[str, Any] = {"width": 64, "depth": 2, "activation": "tanh"}
    model = MLP(out_dim=1, parametrization=mup(), **small)
    seen = {"seen": dense.Observer(curvature.sharpness(model, task), 5)}

    def one(key: jax.Array) -> Any:
        run = dense.train(task, mup(), learning_rate=0.1, steps=50, key=key, spec=SPEC, observers=seen, **small)
        return run.observed

    keys = jax.random.split(jax.random.key(0), 16)
    single, together = jax.jit(one), jax.jit(jax.vmap(one))
    return seconds(lambda: [single(key) for key in keys], 3), seconds(lambda: together(keys), 3)


def deep(depth: int, m: int) -> tuple[float, float]:
    """Seconds of two normalized steps without matrices, compiled, and GiB of the dense network's kernels."""
    task = datasets.load("digits", classes=None, train_size=32, test_size=None, loss="cross_entropy")
    preset = nup(gain=gain(0.5, 0.5))
    widths = preset.layer_widths(m, depth)
    size = sum(a * b for a, b in zip((64, *widths), (*widths, 10), strict=True)) * 4 / 2**30
    settings: dict[str, Any] = {"width": m, "depth": depth, "activation": "relu", "learning_rate": 0.02}
    settings |= {"steps": 2, "key": jax.random.key(0)}
    return seconds(lambda: matrix_free.train(task, preset, **settings), 1), size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-keep", action="store_true", help="print only; RESULTS.md stays as it is")
    keep = not parser.parse_args().no_keep
    lines, met = [goals.machine(), goals.versions("jax", "jaxlib", "matfree", "scipy", "nbclient"), ""], []
    found = spectrum()
    lines.append(
        f"width {WIDTH}, {DEPTH} hidden layers, 512 inputs: a gradient {1e3 * found.gradient:.0f} ms, {PRODUCTS} bare "
        f"products {1e3 * found.products:.0f} ms, bare passes {1e3 * found.passes:.0f} ms, sharpness "
        f"{1e3 * found.sharpness:.0f} ms, SciPy's eigsh {1e3 * found.arpack:.0f} ms"
    )
    limit, ours = found.products + found.passes, found.sharpness
    met.append(goals.at_most("sharpness: times its bare products and passes", 1.3, ours / limit))
    met.append(goals.at_most("sharpness: times SciPy's eigsh of the same product, tol=1e-4", 1.0, ours / found.arpack))
    met.append(goals.at_most("sharpness: relative difference from eigsh's", 1e-3, found.difference, ".1g"))
    times = training()
    lines.append(f"{STEPS} full-batch steps: " + ", ".join(f"{name} {1e3 * t:.0f} ms" for name, t in times.items()))
    extra = (times["following"] - times["plain"]) / (STEPS / 10)
    for name, bound in (("normalized", 1.3), ("cosines", 1.3)):
        met.append(goals.at_most(f"{name} updates: times plain SGD", bound, times[name] / times["plain"]))
    what = "rates that follow: a measurement of 16 products, times its share of 24"
    met.append(goals.at_most(what, 1.1, extra / (ours * 16 / 24)))
    extra = (times["observed"] - times["plain"]) / (STEPS / 10 + 1)
    met.append(goals.at_most("sharpness as an observer: times a measurement of its own", 1.1, extra / ours))
    alone, together = runs()
    lines.append(f"16 networks of width 64 with sharpness: one by one {alone:.2f} s, under vmap {together:.2f} s")
    met.append(goals.at_most("sharpness under vmap: times one by one", 1.0, together / alone))
    took, size = deep(32, 64)
    lines.append(
        f"nup, q = 2, 32 hidden layers of 64 k^2 units: two steps {took:.1f} s without {size:.0f} GiB of kernels"
    )
    met.append(goals.at_most("two normalized steps without matrices, 32 layers, widest 65,536: s", 30, took, ".1f"))
    with tempfile.TemporaryDirectory() as name:
        met += whole("edge-of-chaos", "edge", Path(name))
    goals.report("Edge of chaos (`make bench-edge`)", lines, met, keep=keep)


if __name__ == "__main__":
    main()
