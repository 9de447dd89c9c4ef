"""What devices need differently: a GPU's row of the table computes the same numbers, and no product is TF32 unasked."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from mupjax import activations, devices, optim
from mupjax.dynamics import dense, kernel_limit, matrix_free, padded
from mupjax.dynamics.implicit.rows import capacity, combine, contract
from mupjax.network import MLP
from mupjax.observers import curvature
from mupjax.parametrization import mup, ntp
from mupjax.task import Task
from mupjax.trajectory import TrajectorySpec

TASK = Task(np.random.default_rng(0).standard_normal((4, 6)), np.ones((4, 1)))
NETWORK = {"depth": 2, "activation": "tanh"}
TRAINING = {"learning_rate": 0.5, "steps": 3, "key": jax.random.key(0)}


@pytest.fixture
def gpu(monkeypatch):
    """The table's row for GPUs, on this machine's processor; programs traced under it are forgotten afterwards."""
    jax.clear_caches()
    monkeypatch.setattr(devices, "platform", lambda: "gpu")
    yield
    jax.clear_caches()


def dots(jaxpr):
    """All matrix products of a program, those of inner programs included."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            yield eqn
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if isinstance(inner, ClosedJaxpr | Jaxpr):
                    yield from dots(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


def precisions(fn, *args):
    """How the products of floats are computed: 'float64', or the lower of the two operands' precisions."""
    found = {}
    for eqn in dots(jax.make_jaxpr(fn)(*args).jaxpr):
        wide = eqn.invars[0].aval.dtype == jnp.float64
        word = "float64" if wide else str((eqn.params["precision"] or ("DEFAULT",))[0])
        found[word] = found.get(word, 0) + 1
    return found


def train_dense(key):
    return dense.train(TASK, mup(), width=16, **NETWORK, **(TRAINING | {"key": key}))


def with_products(scaling, learning_rate):
    """SGD whose update holds a matrix product, as an orthogonalising optimizer's does."""

    def update(gradients, state, params=None):
        return jax.tree.map(lambda g: g + 0 * (g @ g.T @ g), gradients), state

    products = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    return optax.chain(products, optim.sgd(scaling, learning_rate))


def train_own_optimizer(key):
    return dense.train(TASK, mup(), width=16, optimizer=with_products, **NETWORK, **(TRAINING | {"key": key}))


def train_padded(key):
    spec = TrajectorySpec(grams=())
    family = padded.Family((16, 16), activations.get("tanh"), optim.sgd, 3, False, spec, padded=True)
    return padded.train(TASK, padded.member(mup(), TASK, (8, 8)), key, 0.5, None, family)


def train_matrix_free(key):
    return matrix_free.train(TASK, mup(), width=16, **NETWORK, **(TRAINING | {"key": key}))


def measure_curvature(key):
    model = MLP(width=16, depth=2, out_dim=1, parametrization=mup())
    with jax.ensure_compile_time_eval():
        params = nn.meta.unbox(model.init(jax.random.key(0), TASK.x_train)["params"])

    def network(params, x):
        return model.apply({"params": params}, x)

    def loss(params):
        return jnp.mean(dense.loss_per_sample("mse", network(params, TASK.x_train), TASK.y_train))

    sharp = curvature.hessian_eigenvalues(loss, params, num_products=3)
    spectrum = curvature.ntk_eigenvalues(network, params, TASK.x_train, num_products=3)
    return sharp, spectrum, curvature.empirical_ntk(network, params, TASK.x_train)


@pytest.mark.parametrize("fn", [train_dense, train_own_optimizer, train_padded, train_matrix_free, measure_curvature])
def test_no_product_is_less_than_float32_unless_the_user_says_so(fn):
    """JAX's default on a GPU is TF32. What eigenvalues depend on stays as it is even then."""
    found = precisions(fn, jax.random.key(0))
    assert found.get("HIGHEST", 0) >= 8
    assert set(found) <= {"HIGHEST", "float64"}
    with jax.default_matmul_precision("tensorfloat32"):
        asked = precisions(fn, jax.random.key(0))
    trains = fn in (train_dense, train_own_optimizer, train_padded)
    assert (asked != found) == trains
    assert asked.get("float64", 0) == found.get("float64", 0)


def test_what_the_user_says_is_found_out():
    """The test above sees a product without a precision of its own."""
    assert precisions(lambda x: x @ x, jnp.ones((2, 2))) == {"DEFAULT": 1}


@pytest.mark.parametrize("rows", [40, 300])
def test_rows_of_any_device_give_the_same_products(gpu, rows):
    """A store of one small product, and one of blocks and tiles, half full, against NumPy in float64."""
    rng = np.random.default_rng(0)
    length, count = 3 * 2**15, rows // 2
    store = np.zeros((capacity(rows), length), np.float32)
    store[:count] = rng.standard_normal((count, length))
    vectors = rng.standard_normal((5, length)).astype(np.float32)
    weights = rng.standard_normal((5, len(store))).astype(np.float32)
    for kind in ("gpu", "cpu"):
        size = devices.traits(kind)
        assert len(store) % size.block == 0
    whole = vectors.astype(np.float64) @ store.T.astype(np.float64)
    found = contract(jnp.asarray(vectors), jnp.asarray(store), jnp.int32(count))
    # Sums of `length` float32 products: rounding grows as its root, 2e-5 of the vectors' lengths' product.
    np.testing.assert_allclose(found[:, :count], whole[:, :count], atol=2e-5 * length**0.5 * 10)
    whole = weights[:, :count].astype(np.float64) @ store[:count]
    found = combine(jnp.asarray(weights), jnp.asarray(store), jnp.int32(count))
    np.testing.assert_allclose(found, whole, atol=1e-5 * count**0.5 * 10)


def test_dynamics_under_a_gpus_row_are_those_of_the_cpu(monkeypatch):
    """Wider blocks and tiles change the order of sums alone: float32 rounding over three steps."""
    settings = {"width": 40_000, **NETWORK, **TRAINING}
    before = matrix_free.train(TASK, mup(), **settings)
    kernels = kernel_limit.kernels(TASK.x_train, ntp(), depth=2)
    jax.clear_caches()
    monkeypatch.setattr(devices, "platform", lambda: "gpu")
    after = matrix_free.train(TASK, mup(), **settings)
    np.testing.assert_allclose(after.predictions, before.predictions, atol=1e-5)
    np.testing.assert_allclose(after.h_gram, before.h_gram, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(kernel_limit.kernels(TASK.x_train, ntp(), depth=2).ntk, kernels.ntk, rtol=1e-12)
    jax.clear_caches()


def test_the_device_that_jax_is_told_to_use_is_the_only_one():
    (first, *_) = jax.local_devices()
    assert devices.local_devices() == jax.local_devices()
    with jax.default_device(first):
        assert devices.local_devices() == [first]
        assert devices.at_once(5) == 1
    assert devices.platform() == "cpu"


def test_vmapped_runs_are_held_by_their_own_devices(gpu, monkeypatch):
    assert devices.at_once(5) == -(-5 // len(jax.local_devices()))
    monkeypatch.setattr(devices, "local_devices", lambda: [Device(None)] * 4)
    assert [devices.at_once(runs) for runs in (1, 4, 5, 8)] == [1, 1, 2, 2]


class Device:
    """A device with so many bytes, or one that does not say."""

    platform = device_kind = "gpu"

    def __init__(self, limit):
        self.limit = limit

    def memory_stats(self):
        return None if self.limit is None else {"bytes_limit": self.limit}


@pytest.mark.parametrize(("limit", "budget"), [(63_900_000_000, 57.5), (500_000_000, 0.4), (None, 8.0)])
def test_the_default_budget_is_the_devices(monkeypatch, limit, budget):
    assert devices.memory_budget(None) == 8.0
    assert devices.memory_budget(None, on_cpu=20.0) == 20.0
    monkeypatch.setattr(devices, "local_devices", lambda: [Device(limit)])
    assert devices.memory_budget(None) == devices.memory_budget(None, on_cpu=20.0) == budget
    assert devices.memory_budget(2.5) == 2.5
    with pytest.raises(ValueError, match="`memory_gb` to be positive, got memory_gb=0"):
        devices.memory_budget(0)


def test_kernels_are_computed_on_the_cpu_where_the_device_has_no_float64(monkeypatch):
    with devices.with_float64():
        assert jax.config.jax_default_device is None
    monkeypatch.setattr(devices, "platform", lambda: "tpu")
    with devices.with_float64():
        assert jax.config.jax_default_device.platform == "cpu"


def test_devices_without_float64_and_unknown_ones():
    assert not devices.traits("tpu").float64
    assert not devices.traits("METAL").float64
    assert devices.traits("a new one") == devices.traits("gpu")
