"""Dataset identity: kind, arguments and the versions on which its numbers depend."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from types import CodeType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from mupjax import devices, optim
from mupjax.task import Task


def attributes(
    kind: str, arguments: Mapping[str, object], about: Mapping[str, object], task: Task | None = None
) -> dict[str, str]:
    """Return a Dataset's attributes: its kind, arguments as JSON (what a store is known by), versions and the device.

    Args:
      kind: what it is a result of, a name of `kinds`.
      arguments: of the call, without those that change no number.
      about: further attributes stored with them.
      task: its arrays are in the arguments as their digest.
    """
    given = {} if task is None else {"task": f"{task!r}, {digest_of(task)}"}
    return {"kind": kind, "arguments": arguments_json({**about, **arguments, **given}), **versions()}


def digest_of(arrays: PyTree) -> str:
    """Return the first digits of the SHA-256 of a pytree's arrays, with their shapes and dtypes."""
    digest = hashlib.sha256()
    for leaf in map(np.asarray, jax.tree.leaves(arrays)):
        digest.update(f"{leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return f"SHA-256 {digest.hexdigest()[:16]}"


def arguments_json(arguments: Mapping[str, object]) -> str:
    """Return arguments as canonical JSON, equal for equal comparisons: records field by field.

    Functions stand as their names with a digest of their code, defaults and closures, where they have these.
    """

    def plain(value: object) -> object:
        if callable(value) and (name := optim.own_name(value)):
            return name
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return jax.random.key_data(value).tolist()
        if isinstance(value, partial):
            value = optim.canonical(value)  # equal partials are equal arguments
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if callable(value):
            return _function(value)
        return value.item() if isinstance(value, np.generic) else repr(value)

    return json.dumps(arguments, sort_keys=True, default=plain)


def _function(function: Any) -> str:
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"
    code = getattr(function, "__code__", None)
    if code is None:  # a built-in, or an object that is called
        return name
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    inside = [_function(cell) if callable(cell) else repr(cell) for cell in cells]
    text = repr((*_instructions(code), function.__defaults__, function.__kwdefaults__, inside))
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _instructions(code: CodeType) -> tuple[object, ...]:
    """Return a function's instructions, names and constants, without its place in a file."""
    constants = [_instructions(c) if hasattr(c, "co_code") else c for c in code.co_consts]
    return code.co_code, code.co_names, constants


def versions() -> dict[str, str]:
    """Return the versions and the device that numbers depend on."""
    names = ("mupjax", "jax", "jaxlib", "flax", "optax", "numpy", "neural-tangents")
    found = {}
    for name in names:
        try:
            found[f"version_{name.replace('-', '_')}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[f"version_{name.replace('-', '_')}"] = "not installed"
    return {**found, "version_python": platform.python_version(), "device": devices.local_devices()[0].device_kind}
