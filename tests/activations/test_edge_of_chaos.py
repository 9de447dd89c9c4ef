"""Signals at the edge of chaos: closed forms against Monte Carlo and neural-tangents, exact samples of networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mupjax import activations
from mupjax.activations import ab_relu, delta, edge_of_chaos, gain, kappa, slopes
from mupjax.dynamics import kernel_limit
from mupjax.parametrization import PerRole, ntp
from tests.unchecked import without_type_checks

SLOPES = [(0.5, 0.5), (0.0, 1.0), (1.0, 0.0), (0.8, 0.3), (-0.4, 0.9)]
Z_BOUND = 4.0  # of a mean over independent draws: chance alone passes it once in 16,000


@pytest.mark.parametrize(("a", "b"), SLOPES)
def test_activation_is_its_formula(a, b):
    s = jnp.linspace(-2, 2, 9)
    np.testing.assert_allclose(ab_relu(a, b).phi(s), a * s + b * jnp.abs(s))
    away = s[s != 0]
    np.testing.assert_allclose(ab_relu(a, b).dphi(away), jax.vmap(jax.grad(ab_relu(a, b).phi))(away), rtol=1e-6)
    assert ab_relu(a, b) is ab_relu(a, b)
    np.testing.assert_allclose(slopes(ab_relu(a, b)), (a, b), atol=1e-7)  # float32 slopes


def test_built_in_ones_are_members_of_the_family():
    s = jnp.linspace(-2, 2, 9)
    for name in ("relu", "abs_relu", "linear", "leaky_relu"):
        np.testing.assert_allclose(
            ab_relu(*slopes(activations.get(name))).phi(s), activations.get(name).phi(s), atol=1e-7
        )
    assert (delta(0.5, 0.5), delta(0.0, 1.0), delta(1.0, 0.0)) == (0.5, 1.0, 0.0)
    assert kappa(0.5, 0.5) == pytest.approx(2**0.5)
    assert kappa(0.0, 1.0) == 1.0
    with pytest.raises(ValueError, match=r"an \(a, b\)-ReLU, a s \+ b \|s\|, got tanh"):
        slopes(activations.get("tanh"))
    with pytest.raises(ValueError, match=r"not both 0, got a=0\.0, b=0\.0"):
        ab_relu(0.0, 0.0)


@pytest.mark.parametrize(("a", "b"), SLOPES)
@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.9, 0.999])
def test_correlation_map_against_monte_carlo(a, b, rho):
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((2, 400_000))
    v = rho * u + (1 - rho**2) ** 0.5 * v
    phi_u, phi_v = (gain(a, b) * (a * s + b * np.abs(s)) for s in (u, v))
    products = phi_u * phi_v
    closed = 1 - edge_of_chaos.gap_map(1 - rho, a, b)
    z = (products.mean() - closed) / (products.std() / len(products) ** 0.5)
    assert abs(z) < Z_BOUND
    squares = phi_u**2
    assert abs((squares.mean() - 1) / (squares.std() / len(squares) ** 0.5)) < Z_BOUND
    if b and rho <= 0:  # the control: another Delta is seen, where there is a gap that it could change
        wrong = (products.mean() - 1 + edge_of_chaos.gap_map(1 - rho, a + 0.5, b)) * len(products) ** 0.5
        assert abs(wrong / products.std()) > Z_BOUND


@given(st.floats(1e-14, 2.0), st.sampled_from(SLOPES))
def test_gap_map_is_smooth_where_its_two_forms_meet(gap, of):
    """Against the same formula in long double, whose own rounding bounds what can be asked of small gaps."""
    a, b = of
    theta = 2 * np.arcsin(np.sqrt(np.longdouble(gap) / 2))
    turned = np.sin(theta) - theta * np.cos(theta)
    wanted = np.longdouble(gap) - np.longdouble(delta(a, b)) * 2 / np.pi * turned
    rounding = float(np.finfo(np.longdouble).eps) * 10 + 1e-13 * gap
    np.testing.assert_allclose(edge_of_chaos.gap_map(gap, a, b), float(wanted), rtol=1e-11, atol=rounding)


@pytest.mark.parametrize(
    ("of", "ratios"),
    [
        ((0.5, 0.5), {10: 0.29, 30: 0.57, 100: 0.81, 1000: 0.97}),
        ((0.0, 1.0), {10: 0.37, 30: 0.63, 100: 0.84, 1000: 0.98}),
    ],
)
def test_gap_follows_its_asymptote(of, ratios):
    found = without_type_checks(edge_of_chaos).gaps(1.0, 100_000, *of)
    for layer, ratio in ratios.items():  # published for k layers after the inputs' gap, to two digits
        assert found[layer] / edge_of_chaos.asymptotic_gap(layer, *of) == pytest.approx(ratio, abs=0.006)
    assert found[-1] / edge_of_chaos.asymptotic_gap(100_000, *of) == pytest.approx(1, abs=1e-3)
    assert np.all(edge_of_chaos.gaps(1.0, 50, 1.0, 0.0) == 1)  # the control: linear layers keep it


@pytest.mark.parametrize(("a", "b"), SLOPES)
@pytest.mark.parametrize("depth", [1, 2, 7])
def test_kernels_are_those_of_neural_tangents(a, b, depth):
    inputs, sigma = np.random.default_rng(1).standard_normal((6, 4)), gain(a, b)
    ntk_form = ntp(sigma=PerRole(1.0, sigma, sigma), rates=PerRole(1.0, sigma**2, sigma**2))
    found = kernel_limit.kernels(inputs, ntk_form, depth=depth, activation=ab_relu(a, b))
    nngp, ntk = edge_of_chaos.kernels(inputs, depth, a, b)
    # sqrt(1 - rho^2) of a rho that float64 rounds at 1 is 1e-8, in neural-tangents' kernels of an input with itself
    np.testing.assert_allclose(nngp, sigma**2 * found.x[-1], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ntk, found.ntk, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("a", "b"), SLOPES)
def test_mean_squares_are_constant_at_depth_100(a, b):
    """The maps of mean squares, forward and backward, by quadrature of the activation itself, iterated."""
    phi = ab_relu(a, b)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    z = 6 * np.concatenate([nodes - 1, nodes + 1])  # -12..0 and 0..12: the kink is at 0
    density = 6 * np.tile(weights, 2) * np.exp(-(z**2) / 2) / (2 * np.pi) ** 0.5

    def moment(of, q):
        return float(np.sum(density * np.asarray(of(jnp.asarray(q**0.5 * z))) ** 2))

    def at_depth(sigma, depth=100):
        with jax.enable_x64(True):
            second = {q: moment(phi.phi, q) / q for q in (1.0, 4.0)}  # homogeneous: a factor, whatever q
            slopes = moment(phi.dphi, 1.0)
        assert second[1.0] == pytest.approx(second[4.0], rel=1e-9)
        return (sigma**2 * second[1.0]) ** depth, (sigma**2 * slopes) ** depth

    assert at_depth(gain(a, b)) == pytest.approx((1, 1), abs=1e-6)
    assert min(at_depth(1.01 * gain(a, b))) > 7  # the control
    nngp, ntk = edge_of_chaos.kernels(np.ones((1, 3)), 100, a, b)
    np.testing.assert_allclose(nngp, 1.0, rtol=1e-6)
    np.testing.assert_allclose(ntk, 101, rtol=1e-6)  # every layer gives the same


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.0, 1.0)])
def test_finite_networks_preserve_moments_forward_and_backward(a, b):
    """Depth 16 and widths 16 k, exact samples: mean h^2 and sum (df/dh)^2 against 1, by z-scores."""
    widths = tuple(16 * k for k in range(1, 17))
    keys = jax.random.split(jax.random.key(0), 1024)

    def moments(key):
        found = edge_of_chaos.sampled_signals(key, jnp.ones(3), widths, a, b)
        return (
            jnp.stack([jnp.mean(h**2) for h in found.h]),
            jnp.stack([jnp.sum(dh**2) for dh in found.dh]),
        )

    forward, backward = map(np.asarray, jax.jit(lambda keys: jax.lax.map(moments, keys, batch_size=64))(keys))
    off = 1.01 ** (2 * np.arange(16))  # the control: a gain that is wrong by a hundredth
    for found, wrong in ((forward, off), (backward, off[::-1])):
        for factor, is_right in ((1, True), (wrong, False)):
            values = factor * found
            z = (values.mean(0) - 1) / (values.std(0) / len(values) ** 0.5)
            assert (np.max(np.abs(z)) < Z_BOUND) == is_right


def test_samples_have_the_law_of_networks_with_matrices():
    """Two-sided: the same statistics from real matrices, z-scores of differences."""
    a, b, widths, count = 0.5, 0.5, (5, 7, 4), 60_000
    sigma = gain(a, b)

    def slope(h):
        return a + b * jnp.sign(h)  # also at 0, where dead networks are

    def network(key):
        keys = jax.random.split(key, 4)
        x, hs, weights = jnp.ones(3) / 3**0.5, [], []
        for layer, width in enumerate(widths):
            std = 1.0 if layer == 0 else sigma / len(x) ** 0.5
            weights.append(std * jax.random.normal(keys[layer], (width, len(x))))
            hs.append(weights[-1] @ x)
            x = jnp.maximum(hs[-1], 0)
        dh = [slope(hs[-1]) * sigma / widths[-1] ** 0.5 * jax.random.normal(keys[3], (widths[-1],))]
        for layer in (1, 0):
            dh.insert(0, slope(hs[layer]) * (weights[layer + 1].T @ dh[0]))
        return edge_of_chaos.Signals(tuple(hs), tuple(dh))

    def statistics(found):
        rows = [jnp.mean(h**2) for h in found.h] + [jnp.sum(dh**2) for dh in found.dh]
        rows += [jnp.sum(dh**4) for dh in found.dh] + [found.h[1] @ found.dh[1], (found.h[0] @ found.dh[0]) ** 2]
        rows += [jnp.sum(found.dh[0] ** 2) * jnp.mean(found.h[1] ** 2), found.h[2][0] ** 2 * found.dh[0][0] ** 2]
        return jnp.stack(rows)

    keys = jax.random.split(jax.random.key(1), 2 * count)
    sampled = jax.vmap(lambda key: statistics(edge_of_chaos.sampled_signals(key, jnp.ones(3), widths, a, b)))
    one, other = np.asarray(sampled(keys[:count])), np.asarray(jax.vmap(lambda k: statistics(network(k)))(keys[count:]))
    z = (one.mean(0) - other.mean(0)) / ((one.var(0) + other.var(0)) / count) ** 0.5
    assert np.max(np.abs(z)) < Z_BOUND


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"gaps 1 - rho in \[0, 2\], got -0.1"):
        edge_of_chaos.gap_map(-0.1, 0.5, 0.5)
    with pytest.raises(ValueError, match="`depth` to be at least 1, got depth=0"):
        edge_of_chaos.gaps(0.5, 0, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"`depth` to be at least 1 and `inputs` to be \[P, d\], got depth=0"):
        edge_of_chaos.kernels(np.ones((2, 3)), 0, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"`widths` of at least one layer and .* got widths=\(\)"):
        edge_of_chaos.sampled_signals(jax.random.key(0), np.ones(3), (), 0.5, 0.5)
