"""Extreme eigenvalues by Lanczos: against dense ones, residuals as bounds, operators that Lanczos breaks down on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mupjax.observers.spectrum import extremes


def symmetric(seed, size):
    a = np.random.default_rng(seed).standard_normal((size, size))
    return (a + a.T) / 2


@pytest.mark.parametrize("num_products", [10, 24, 60])
def test_residuals_bound_the_distance_to_an_eigenvalue(num_products):
    a = symmetric(0, 200)
    exact = np.linalg.eigvalsh(a)
    with jax.enable_x64(True):
        found = extremes(lambda v: jnp.asarray(a) @ v, jnp.zeros(200), num=3, num_products=num_products)
    for side in found:
        distance = np.min(np.abs(np.asarray(side.values)[:, None] - exact[None, :]), axis=1)
        assert np.all(distance <= np.asarray(side.residuals) + 1e-12)
    assert np.all(np.asarray(found.largest.values) <= exact[-1] + 1e-12)  # Ritz values lie inside
    assert np.all(np.asarray(found.smallest.values) >= exact[0] - 1e-12)
    if num_products == 60:
        np.testing.assert_allclose(found.largest.values[0], exact[-1], rtol=1e-8)


@pytest.mark.parametrize(
    ("matrix", "largest", "smallest"),
    [
        (np.zeros((5, 5)), [0.0, np.nan], [0.0, np.nan]),
        (np.eye(5), [1.0, np.nan], [1.0, np.nan]),
        (np.diag([3.0, 3.0, 1.0, 1.0, -2.0]), [3.0, 1.0], [-2.0, 1.0]),
        (np.ones((5, 5)), [5.0, 0.0], [0.0, 5.0]),
        (-np.ones((4, 4)), [0.0, -4.0], [-4.0, 0.0]),
        (np.array([[2.0]]), [2.0, np.nan], [2.0, np.nan]),
    ],
)
def test_operators_with_few_distinct_eigenvalues(matrix, largest, smallest):
    matrix = jnp.asarray(matrix, jnp.float32)
    for find in (extremes, lambda product, like, num: jax.jit(lambda: extremes(product, like, num=num))()):
        found = find(lambda v: matrix @ v, matrix[0], num=2)
        np.testing.assert_allclose(found.largest.values, largest, atol=2e-6)
        np.testing.assert_allclose(found.smallest.values, smallest, atol=2e-6)


def test_pytrees_and_runs():
    like = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(3)}
    weights = {"a": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "b": jnp.array([5.0, 6.0, 7.0])}

    def top(scale):
        return extremes(lambda v: jax.tree.map(lambda w, u: scale * w * u, weights, v), like, num=2).largest.values

    np.testing.assert_allclose(jax.vmap(top)(jnp.array([1.0, 2.0])), [[7.0, 6.0], [14.0, 12.0]], rtol=1e-4)
    assert np.isnan(top(jnp.nan)).all()
    with pytest.raises(ValueError, match="`num` and `num_products` to be positive, got 0 and 3"):
        extremes(lambda v: v, jnp.zeros(3), num=0, num_products=3)
