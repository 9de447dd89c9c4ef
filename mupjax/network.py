r"""A Flax multilayer perceptron whose parameters carry their scaling.

.. math:: h^1 = W^1 \xi / \sqrt{d}, \quad x^l = \phi(h^l), \quad h^l = W^l x^{l-1} \; (2 \le l \le L), \quad
          f = W^{L+1} x^L

A kernel is [fan_in, fan_out]. Every parameter lives in a `ScaledParam` box with its ParamScaling; `flax.linen.unbox`
takes the boxes off, `scaling_tree` takes the scalings out.

A network may be padded: only the first units of each layer are present, how many is a number that JAX may trace, and so
are the numbers of its scalings. The weights of absent units start at zero and their activations are held there, so that
nothing flows through them, forward or backward, and their weights stay zero. The corner of present units holds the very
weights of a network of that width with the same key (`rowwise_normal`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, ArrayLike, Float, PyTree

from mupjax import activations, devices
from mupjax.activations import Activation
from mupjax.parametrization import ParamScaling, Role


class ScaledParam(struct.PyTreeNode, nn.meta.AxisMetadata):
    """A parameter with the scaling its parametrization gives it; Flax unboxes it on use.

    `flax.serialization.to_bytes` writes the value alone: keep `Parametrization.to_json()` beside a checkpoint.
    """

    value: PyTree
    scaling: ParamScaling = struct.field(pytree_node=False)

    def unbox(self) -> PyTree:
        return self.value

    def replace_boxed(self, val: PyTree) -> ScaledParam:
        return self.replace(value=val)

    def add_axis(self, index: int, params: Mapping[object, object]) -> ScaledParam:
        return self  # nn.scan and nn.vmap stack layers of one shape: the scaling is per layer already

    def remove_axis(self, index: int, params: Mapping[object, object]) -> ScaledParam:
        return self


def is_boxed(node: object) -> bool:
    """Whether a pytree node is a ScaledParam box."""
    return isinstance(node, ScaledParam)


def rowwise_normal(
    key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike
) -> Float[Array, "fan_in fan_out"]:
    """Draw standard Gaussians row by row: row r depends on the key, r and a prefix of its columns alone.

    So the kernel of a narrow layer is the top left block of a wider layer's kernel with the same key, which padded
    widths rely on (a draw of the whole matrix has no such block).
    """
    fan_in, fan_out = shape

    def row(index: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, index), (fan_out,), dtype)

    return jax.vmap(row)(jnp.arange(fan_in))


@runtime_checkable
class Scales(Protocol):
    """The parts of a Parametrization that a network reads; numbers may be traced."""

    @property
    def name(self) -> str: ...

    def scales(self, role: Role, fan_in: ArrayLike, fan_out: ArrayLike, layer: int | None = None) -> ParamScaling: ...

    def has_bias(self, layer: int) -> bool: ...

    def residual_factors(self, depth: int) -> tuple[ArrayLike, ArrayLike] | None: ...

    def layer_widths(self, width: int, depth: int) -> tuple[int, ...]: ...

    def check_widths(self, widths: tuple[int, ...]) -> None: ...


class Dense(nn.Module):
    """A linear map `multiplier * x @ w` with the init and the scaling of its role.

    Attributes:
      features: fan_out.
      role: input, hidden or output.
      parametrization: gives the scaling of the kernel (and the bias).
      use_bias: adds a bias (output_bias for the readout).
      layer: its number, 1 for the first, L+1 for the readout; needed where layers have exponents or base widths of
        their own.
      precision: of the matrix product; by default that of `devices.matmul_precision`, so that no device silently uses
        TF32 or bfloat16.
      present: how many inputs and how many outputs are present, None for all; may be traced. The weights of others are
        initialised to zero.

    Raises:
      ValueError: where a boxed parameter carries another scaling than this layer's, as one made under another
        parametrization or base width does.
    """

    features: int
    role: Role
    parametrization: Scales
    use_bias: bool = False
    layer: int | None = None
    precision: lax.PrecisionLike = None
    present: tuple[ArrayLike | None, ArrayLike | None] = (None, None)

    @nn.compact
    def __call__(self, x: Float[ArrayLike, "*batch fan_in"]) -> Float[Array, "*batch fan_out"]:
        x = jnp.asarray(x)
        fan_in = x.shape[-1]
        kernel, scaling = self._scaled_param("kernel", self.role, fan_in, (fan_in, self.features), x.dtype)
        y = jnp.matmul(x, kernel, precision=self.precision or devices.matmul_precision())
        y = y if _is(scaling.multiplier, 1) else scaling.multiplier * y
        if self.use_bias:
            role: Role = "output_bias" if self.role == "output" else "bias"
            bias, scaling = self._scaled_param("bias", role, fan_in, (self.features,), x.dtype)
            y = y + scaling.multiplier * jnp.broadcast_to(bias, y.shape)
        return y

    def _scaled_param(
        self, name: str, role: Role, fan_in: int, shape: tuple[int, ...], dtype: np.dtype
    ) -> tuple[jax.Array, ParamScaling]:
        scaling = self.parametrization.scales(role, fan_in, self.features, self.layer)

        def init(key: jax.Array) -> ScaledParam:
            gaussians = rowwise_normal(key, shape if len(shape) == 2 else (1, *shape), dtype)
            values = scaling.init_std * gaussians.reshape(shape)
            values = values if _is(scaling.init_mean, 0) else values + scaling.init_mean
            return ScaledParam(_without_absent(values, *self.present[-len(shape) :]), scaling)

        def of_shape(key: jax.Array) -> jax.Array:
            return jnp.zeros(shape, dtype)

        # Of a parameter that is there Flax compares the shape with the init's: Gaussians would be traced for that.
        param: Any = self.param(name, of_shape if self.has_variable("params", name) else init, unbox=False)
        if is_boxed(param) and param.scaling is not scaling and param.scaling != scaling:
            raise ValueError(
                f"Expected parameter '{'/'.join((*self.path, name))}' to carry the scaling of "
                f"{self.parametrization.name}, {scaling}, got {param.scaling}."
            )
        return jnp.asarray(nn.meta.unbox(param)), scaling  # restored parameters may be NumPy's


def _is(number: object, constant: float) -> bool:
    """Whether a number is this constant; a traced one never is."""
    return isinstance(number, int | float) and number == constant


def _without_absent(values: jax.Array, *present: ArrayLike | None) -> jax.Array:
    """Return `values` with zeros beyond the first present[k] entries of its last axes; None keeps an axis whole."""
    for axis, number in enumerate(present, start=values.ndim - len(present)):
        if number is not None:
            values = jnp.where(lax.broadcasted_iota(jnp.int32, values.shape, axis) < number, values, 0)
    return values


class Features(NamedTuple):
    """The features of inputs [..., d].

    Attributes:
      h: L arrays [..., n_l] of preactivations.
      x: L arrays [..., n_l] of activations.
      f: [..., C] outputs.
    """

    h: tuple[jax.Array, ...]
    x: tuple[jax.Array, ...]
    f: jax.Array


class MLP(nn.Module):
    """A multilayer perceptron with `depth` hidden layers under a parametrization.

    Attributes:
      width: units of every hidden layer, or a tuple with one width a layer.
      depth: number L of hidden layers.
      out_dim: number C of outputs.
      parametrization: exponents of width.
      activation: a name, an Activation or an elementwise function.
      use_bias: whether all layers have biases, or none; by default those that the parametrization gives one.
      precision: of the matrix products, as in `Dense`.
      present: [L] how many units of every hidden layer are present, None for all; may be traced. The features of others
        are zero.

    Raises:
      ValueError: for widths, depths or numbers of outputs that are not positive ints, a tuple of another length than
        `depth`, a parametrization made for another depth or for other widths.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from mupjax.parametrization import mup
      >>> model = MLP(width=8, depth=2, out_dim=1, parametrization=mup())
      >>> variables = model.init(jax.random.key(0), jnp.ones((3, 4)))
      >>> model.apply(variables, jnp.ones((3, 4))).shape
      (3, 1)
      >>> padded = model.clone(present=jnp.array([3, 5]))
      >>> features = padded.apply(padded.init(jax.random.key(0), jnp.ones((3, 4))), jnp.ones((3, 4)), method="features")
      >>> [int((x != 0).any(0).sum()) for x in features.x]
      [3, 5]
    """

    width: int | tuple[int, ...]
    depth: int
    out_dim: int
    parametrization: Scales
    activation: str | Activation | Callable[[jax.Array], jax.Array] = "tanh"
    use_bias: bool | None = None
    precision: lax.PrecisionLike = None
    present: jax.Array | np.ndarray | Sequence[int] | None = None

    def setup(self) -> None:
        widths = hidden_widths(self.width, self.depth, self.parametrization)
        _check_positive("out_dim", self.out_dim)
        self.counts = [None] * self.depth if self.present is None else list(self.present)
        ends = [None, *self.counts, None]

        def dense(features: int, role: Role, layer: int, name: str | None) -> Dense:
            has = self.parametrization.has_bias(layer) if self.use_bias is None else self.use_bias
            present = (ends[layer - 1], ends[layer])
            return Dense(features, role, self.parametrization, has, layer, self.precision, present, name=name)

        roles: tuple[Role, ...] = ("input", *("hidden" for _ in range(self.depth - 1)))
        self.layers = [
            dense(width, role, layer, f"layer_{layer}")
            for layer, (width, role) in enumerate(zip(widths, roles, strict=True), start=1)
        ]
        self.readout = dense(self.out_dim, "output", self.depth + 1, None)
        self.phi = activations.get(self.activation).phi

    def features(self, inputs: Float[ArrayLike, "*batch d"]) -> Features:
        """Return preactivations and activations of every hidden layer with the outputs."""
        hs, xs = [], []
        x = jnp.asarray(inputs)
        x = x / x.shape[-1] ** 0.5
        factors = self.parametrization.residual_factors(self.depth)
        for layer, present in zip(self.layers, self.counts, strict=True):
            h = layer(x)
            hs.append(h if factors is None or not hs else factors[0] * hs[-1] + factors[1] * h)
            x = _without_absent(self.phi(hs[-1]), present)
            xs.append(x)
        return Features(tuple(hs), tuple(xs), self.readout(x))

    def __call__(self, inputs: Float[ArrayLike, "*batch d"]) -> Float[Array, "*batch C"]:
        return self.features(inputs).f


def features_of(model: MLP, params: PyTree, inputs: Float[ArrayLike, "*batch d"]) -> Features:
    """Return `model.features` of unboxed parameters.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from mupjax.parametrization import mup
      >>> model = MLP(width=8, depth=2, out_dim=1, parametrization=mup())
      >>> params = nn.unbox(model.init(jax.random.key(0), jnp.ones((3, 4))))["params"]
      >>> [h.shape for h in features_of(model, params, jnp.ones((3, 4))).h]
      [(3, 8), (3, 8)]
    """
    found: Any = model.apply({"params": params}, inputs, method="features")
    return found


def hidden_widths(width: Any, depth: int, parametrization: Scales | None = None) -> tuple[int, ...]:
    """Return one width a hidden layer; a number means the profile of the parametrization, where that has one.

    Raises:
      ValueError: for widths or depths that are not positive ints, a tuple of another length than `depth`, widths or a
        depth that the parametrization is not made for.

    Example:
      >>> from mupjax.parametrization import mup, nup
      >>> hidden_widths(16, 3), hidden_widths(16, 3, nup()), hidden_widths((4, 8), 2, mup())
      ((16, 16, 16), (16, 64, 144), (4, 8))
    """
    _check_positive("depth", depth)
    widths = tuple(width) if isinstance(width, tuple | list) else (width,) * depth
    if len(widths) != depth:
        raise ValueError(f"Expected `width` to name one width for each of {depth} layers, got width={width!r}.")
    widths = tuple(int(one) if isinstance(one, np.integer) else one for one in widths)
    for one in widths:
        _check_positive("width", one)
    if parametrization is None:
        return widths
    if not isinstance(width, tuple | list):
        widths = parametrization.layer_widths(widths[0], depth)
    parametrization.check_widths(widths)
    return widths


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"Expected `{name}` to be a positive int, got {name}={value!r}.")


def scaling_tree(variables: PyTree, default: ParamScaling | None = None) -> PyTree[ParamScaling]:
    """Return a tree shaped like the unboxed parameters whose leaves are their ParamScaling.

    Args:
      variables: what `model.init` returned (then its 'params'), or a tree of boxed parameters.
      default: the scaling of parameters without a box; None refuses them.

    Raises:
      ValueError: where a parameter has no scaling; the message names its path.

    Example:
      >>> from mupjax.parametrization import mup
      >>> model = MLP(width=8, depth=1, out_dim=1, parametrization=mup())
      >>> scaling = scaling_tree(model.init(jax.random.key(0), jnp.ones((2, 3))))
      >>> scaling["layer_1"]["kernel"].role
      'input'
    """
    params = variables["params"] if isinstance(variables, Mapping) and "params" in variables else variables
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_boxed)
    missing = [jax.tree_util.keystr(path) for path, leaf in leaves if not is_boxed(leaf)]
    if missing and default is None:
        raise ValueError(
            f"Expected every parameter to carry a scaling, got none at {', '.join(missing)}. Build these layers from "
            "mupjax.network.Dense, keep the boxes of `init`, or pass `default=` to opt out."
        )
    return treedef.unflatten([leaf.scaling if is_boxed(leaf) else default for _, leaf in leaves])


def describe(scaling: PyTree[ParamScaling]) -> list[dict[str, Any]]:
    """Return one row per parameter of a scaling tree: its path and every number of its ParamScaling."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(scaling, is_leaf=lambda node: isinstance(node, ParamScaling))
    return [
        {"parameter": jax.tree_util.keystr(path, simple=True, separator="/"), **vars(leaf)} for path, leaf in leaves
    ]
