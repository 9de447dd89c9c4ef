r"""Forward and backward passes of a network with implicit hidden matrices.

A hidden matrix after t steps of SGD (momentum, Nesterov, decoupled decay, any schedule) is

.. math:: W_t = \alpha_t W_0 + G^\top M_t^\top Q, \qquad Q, G \text{ the directions queried from right and left}

so that an optimizer which is linear in weights and gradients acts on the small parameters (alpha, M) as it would on W.
The first layer (in principal coordinates of the inputs) and the readout are explicit. W_0 is known
only by its queries and products (`gaussian_matrix`). Backward vectors carry the loss: dh stands for dLoss/dh, so that C
outputs cost as much as one.

Symbols: L hidden layers; space l-1 is where h^l, x^l, dx^l, dh^l live; matrix j maps space j to space j+1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree

from mupjax import optim
from mupjax.activations import Activation
from mupjax.dynamics.gram import in_float64, up
from mupjax.dynamics.implicit.gaussian_matrix import GaussianMatrix, keep, known_product, product, query, unqueried
from mupjax.dynamics.implicit.rows import combine
from mupjax.parametrization import ParamScaling

# (space, tag of the call, rows drawn in that space before, rows) -> independent standard Gaussians [rows, width].
Draw = Callable[[int, jax.Array, ArrayLike, int], jax.Array]
BIAS_TAG = 5  # beside the tags of the start: no later call has it


class Shape(NamedTuple):
    """The static part of a network.

    Attributes:
      widths: of the hidden layers.
      rank: number r of the inputs' coordinates.
      out_dim: number C of outputs.
      activation: of the hidden layers.
      scalings: of the input, hidden (2..L) and output kernels, all with forward factor 1.
      biases: scalings of the biases of layers 1..L and of the readout; None where a layer has none.
      room: largest number of directions kept of a matrix, on either side.
    """

    widths: tuple[int, ...]
    rank: int
    out_dim: int
    activation: Activation
    scalings: tuple[ParamScaling, ...]
    biases: tuple[ParamScaling | None, ...]
    room: int


class Net(NamedTuple):
    """Parameters of a network whose hidden matrices are known by their products.

    Attributes:
      params: input [r, n_1]; hidden, a pair (alpha, moved [K, K']) for each matrix; output [C, n_L]; bias, [n_l] or
        None for each layer and [C] for the readout.
      matrices: what is known of W_0.
      start: the initial params.
    """

    params: PyTree
    matrices: tuple[GaussianMatrix, ...]
    start: PyTree


class Pass(NamedTuple):
    """A forward pass of B inputs.

    Attributes:
      xi: [B, r] inputs.
      h: L arrays [B, n_l].
      x: [B, n_L] of the last layer.
      coordinates: [B, K] of each x^l but the last, in its matrix's directions.
      gaussian: L arrays [B, n_l], the Gaussian part Zhat of W_0's products.
      response: [B, K'] for each matrix, coordinates of Zdot.
    """

    xi: jax.Array
    h: tuple[jax.Array, ...]
    x: jax.Array
    coordinates: tuple[jax.Array, ...]
    gaussian: tuple[jax.Array, ...]
    response: tuple[jax.Array, ...]


class Back(NamedTuple):
    """A backward pass of B inputs, one entry a layer.

    Attributes:
      dh: [B, n_l] dLoss/dh.
      dx: [B, n_l] dLoss/dx.
      gaussian: [B, n_l] Zhat of W_0^T's products.
      response: coordinates of Zdot, as in Pass.
    """

    dh: tuple[jax.Array, ...]
    dx: tuple[jax.Array, ...]
    gaussian: tuple[jax.Array, ...]
    response: tuple[jax.Array, ...]


@in_float64
def principal_coordinates(inputs: jax.Array) -> jax.Array:
    r"""Return coordinates [P, r] of the inputs over sqrt(d) in r = min(P, d) directions, largest first.

    Gaussian first layers and SGD do not see the rotation; with few inputs in many dimensions it saves n d numbers.
    """
    x = up(inputs) / inputs.shape[1] ** 0.5
    if len(inputs) >= inputs.shape[1]:
        coordinates = x @ jnp.linalg.eigh(x.T @ x)[1][:, ::-1]
    else:
        values, vectors = jnp.linalg.eigh(x @ x.T)
        coordinates = (vectors * jnp.sqrt(jnp.maximum(values, 0))[None, :])[:, ::-1]
    return coordinates.astype(inputs.dtype)


def initial(shape: Shape, spare: int, draw: Draw, tag: jax.Array, dtype: np.dtype) -> Net:
    """Return a network with explicit first layer and readout; `spare` is the largest number of queries made at once."""
    first_rows = shape.rank if len(shape.widths) == 1 else 0
    room = shape.room + spare
    matrices = tuple(
        unqueried((after, before), scaling.init_std, (room, room), dtype)
        for before, after, scaling in zip(shape.widths[:-1], shape.widths[1:], shape.scalings[1:-1], strict=True)
    )
    hidden = tuple(
        {"alpha": jnp.ones((), dtype), "moved": jnp.zeros((len(m.right.directions), len(m.left.directions)), dtype)}
        for m in matrices
    )
    last = len(shape.widths) - 1
    output = shape.scalings[-1]
    params = {
        "input": shape.scalings[0].init_std * draw(0, tag, 0, shape.rank),
        "hidden": hidden,
        "output": output.init_mean + output.init_std * draw(last, tag + 1, first_rows, shape.out_dim),
        "bias": tuple(_initial_bias(shape, space, draw, tag, dtype) for space in range(last + 2)),
    }
    return Net(params, matrices, params)


def _initial_bias(shape: Shape, space: int, draw: Draw, tag: jax.Array, dtype: np.dtype) -> jax.Array | None:
    """The bias of layer `space` + 1; the readout's Gaussians come from a space of its own, of width C."""
    scaling = shape.biases[space]
    if scaling is None:
        return None
    if not scaling.init_std:
        return jnp.zeros((*shape.widths, shape.out_dim)[space], dtype)
    return scaling.init_std * draw(space, tag + BIAS_TAG, _explicit_rows(shape, space), 1)[0]


def _explicit_rows(shape: Shape, space: int) -> int:
    """How many Gaussian rows of a space are the explicit kernels'."""
    return (space == 0) * shape.rank + (space == len(shape.widths) - 1) * shape.out_dim


def scaling_of(shape: Shape, factors: jax.Array | np.ndarray | None = None) -> optim.ScalingTree:
    """Return the scaling tree of a network's small parameters.

    Args:
      shape: of the network.
      factors: [L + 1], of the kernels' rates in the first step, or None.
    """
    kernels = list(shape.scalings)
    if factors is not None:
        kernels = [optim.with_first_factor(kernel, factors[row]) for row, kernel in enumerate(kernels)]
    hidden = tuple({"alpha": scaling, "moved": scaling} for scaling in kernels[1:-1])
    return {"input": kernels[0], "hidden": hidden, "output": kernels[-1], "bias": shape.biases}


def rows_before(shape: Shape, matrices: tuple[GaussianMatrix, ...], space: int) -> jax.Array:
    """Return how many Gaussian rows were drawn in a space: explicit weights, products from below and from above."""
    bias = shape.biases[space]
    count = jnp.int32(_explicit_rows(shape, space) + (bias is not None and bias.init_std > 0))
    if space > 0:
        count = count + matrices[space - 1].right.count
    return count + matrices[space].left.count if space < len(matrices) else count


def forward(shape: Shape, net: Net, xi: jax.Array, draw: Draw, tag: jax.Array, *, remember: bool) -> tuple[Net, Pass]:
    """Run B inputs [B, r] forward; with `remember`, add their queries to the returned Net."""
    matrices = list(net.matrices)
    gaussian, coordinates, response = [xi @ net.start["input"]], [], []
    h = [_plus_bias(xi @ net.params["input"], net.params["bias"][0])]
    x = shape.activation.phi(h[0])
    for j, (matrix, hidden) in enumerate(zip(net.matrices, net.params["hidden"], strict=True)):
        before = rows_before(shape, tuple(matrices), j + 1)
        noise = _noise(draw, j + 1, tag, before, matrix.std)
        queried = query(matrix.right, matrix.left, x, noise, shape.room if remember else None)
        if remember:  # read what was kept, not what was there: so the store is written in place
            right, x_coordinates = keep(matrix.right, queried)
            parts = known_product(right, x_coordinates)
            matrices[j] = matrix._replace(right=right)
        else:
            parts, x_coordinates = product(matrix.right, queried), queried.coordinates
        moved = combine(x_coordinates, hidden["moved"], matrices[j].right.count)
        along = hidden["alpha"] * parts.along + moved
        whole = hidden["alpha"] * parts.gaussian + combine(along, matrix.left.directions, matrix.left.count)
        if mean := shape.scalings[j + 1].init_mean:
            whole = whole + hidden["alpha"] * mean * jnp.sum(x, axis=1, keepdims=True)
        h.append(_plus_bias(whole, net.params["bias"][j + 1]))
        x = shape.activation.phi(h[-1])
        coordinates.append(x_coordinates)
        gaussian.append(parts.gaussian)
        response.append(parts.along)
    seen = Pass(xi, tuple(h), x, tuple(coordinates), tuple(gaussian), tuple(response))
    return net._replace(matrices=tuple(matrices)), seen


def backward(
    shape: Shape, net: Net, seen: Pass, chi: jax.Array, draw: Draw, tag: jax.Array
) -> tuple[Net, PyTree, Back]:
    """Return the network with the new queries recorded, the gradients and the backward vectors.

    Args:
      seen: a remembered forward pass of B inputs through the same parameters.
      chi: [B, C], dLoss/df.
    """
    matrices = list(net.matrices)
    dx = [chi @ net.params["output"]]
    dh = [shape.activation.dphi(seen.h[-1]) * dx[0]]
    gaussian, response, gradients = [chi @ net.start["output"]], [], []
    for j in reversed(range(len(matrices))):
        matrix, hidden = matrices[j], net.params["hidden"][j]
        noise = _noise(draw, j, tag, rows_before(shape, tuple(matrices), j), matrix.std)
        queried = query(matrix.left, matrix.right, dh[0], noise, shape.room)
        left, dh_coordinates = keep(matrix.left, queried)
        parts = known_product(left, dh_coordinates)
        matrices[j] = matrix._replace(left=left)
        gradients.insert(0, {"alpha": jnp.zeros_like(hidden["alpha"]), "moved": seen.coordinates[j].T @ dh_coordinates})
        along = hidden["alpha"] * parts.along + dh_coordinates @ hidden["moved"].T
        whole = hidden["alpha"] * parts.gaussian + combine(along, matrix.right.directions, matrix.right.count)
        if mean := shape.scalings[j + 1].init_mean:
            whole = whole + hidden["alpha"] * mean * jnp.sum(dh[0], axis=1, keepdims=True)
        dx.insert(0, whole)
        dh.insert(0, shape.activation.dphi(seen.h[j]) * dx[0])
        gaussian.insert(0, parts.gaussian)
        response.insert(0, parts.along)
    biases = tuple(
        None if bias is None else jnp.sum(row, axis=0) for bias, row in zip(net.params["bias"], (*dh, chi), strict=True)
    )
    found = {"input": seen.xi.T @ dh[0], "hidden": tuple(gradients), "output": chi.T @ seen.x, "bias": biases}
    back = Back(tuple(dh), tuple(dx), tuple(gaussian), tuple(response))
    return net._replace(matrices=tuple(matrices)), found, back


def outputs(net: Net, seen: Pass) -> jax.Array:
    """Return f [B, C]."""
    return _plus_bias(seen.x @ net.params["output"].T, net.params["bias"][-1])


def _plus_bias(h: jax.Array, bias: jax.Array | None) -> jax.Array:
    return h if bias is None else h + bias[None, :]


def _noise(
    draw: Draw, space: int, tag: jax.Array, before: ArrayLike, std: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    return lambda new: std * draw(space, tag, before, len(new))
