"""Import neural_tangents on current JAX. No other file imports it.

neural-tangents 0.6.5, its last release, was written for JAX below 0.6. Its kernels are correct on current JAX, but its
import refers to names that JAX has moved or removed, and imports TensorFlow through a subpackage that nothing here
uses. `load` provides these names during the import only. The modules of neural-tangents keep their own references, so
that the names are not needed later (except by NTK implementation 3, which fails on current JAX anyway).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax.core
import jax.extend.core
from jax.interpreters import ad

VERSION = "0.6.5"
INSTALL = f"pip install --no-deps neural-tangents=={VERSION} frozendict (or mupjax[kernel], which brings TensorFlow)"

_CORE_NAMES = ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var")
_PACKAGE = "neural_tangents"
_EXPERIMENTAL = f"{_PACKAGE}.experimental"
T = TypeVar("T")


@functools.cache
def load() -> types.ModuleType:
    """Return the module `neural_tangents` with its `stax` and `predict`; the first call imports it.

    Raises:
      ImportError: if neural-tangents or a package that it needs is missing, or its version differs; the message names
        the command that installs it.
    """
    _check_version()
    if _PACKAGE in sys.modules:  # the user has imported it
        return sys.modules[_PACKAGE]
    with _names_in_place(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return importlib.import_module(_PACKAGE)
        except ModuleNotFoundError as error:
            raise ImportError(f"neural-tangents needs {error.name}, which is not installed: {INSTALL}") from error


def _check_version() -> None:
    try:
        found = importlib.metadata.version("neural-tangents")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"The kernel limit needs neural-tangents, which is not installed: {INSTALL}") from None
    if found != VERSION:
        raise ImportError(f"The kernel limit needs neural-tangents {VERSION}, found {found}: {INSTALL}")


@contextlib.contextmanager
def _names_in_place() -> Iterator[None]:
    """Add missing names, and remove exactly these on exit, also after an exception."""
    before = set(sys.modules)
    with contextlib.ExitStack() as added:
        for name in _CORE_NAMES:
            _add(added, jax.core.__dict__, name, getattr(jax.extend.core, name))
        _add(added, ad.__dict__, "zeros_like_p", jax.extend.core.Primitive("zeros_like"))
        _add(added, sys.modules, "jax.util", _module("jax.util", safe_map=_safe_map, safe_zip=_safe_zip))
        _add(added, sys.modules, _EXPERIMENTAL, _module(_EXPERIMENTAL))
        try:
            yield
        except BaseException:  # a later import would take a partial module for a complete one
            for name in set(sys.modules) - before:
                if name.startswith(f"{_PACKAGE}."):
                    added.callback(sys.modules.pop, name, None)
            raise
        # Users can still import the real subpackage by name.
        vars(sys.modules[_PACKAGE]).pop("experimental", None)


def _add(added: contextlib.ExitStack, namespace: dict[str, T], name: str, value: T) -> None:
    if name not in namespace:
        namespace[name] = value
        added.callback(namespace.pop, name, None)


def _module(name: str, **attributes: object) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(attributes)
    return module


def _safe_map(f: Callable[..., T], *iterables: Iterable[object]) -> list[T]:
    return [f(*items) for items in zip(*iterables, strict=True)]


def _safe_zip(*iterables: Iterable[T]) -> list[tuple[T, ...]]:
    return list(zip(*iterables, strict=True))
