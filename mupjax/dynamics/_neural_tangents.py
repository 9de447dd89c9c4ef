"""The only file that imports neural_tangents, and why it can.

neural-tangents 0.6.5, its last release, was written for JAX below 0.6. On today's JAX its kernels are right, but its
import looks for names that JAX has since moved or dropped, and pulls in TensorFlow through a subpackage that nothing
here uses. `load` puts these names in place for the length of the import alone; the modules of neural-tangents keep
their own references, so the names are needed no longer (only NTK implementation 3, which fails anyway, looks for some
of them later).
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
from typing import Any

import jax.core
import jax.extend.core
from jax.interpreters import ad

VERSION = "0.6.5"
INSTALL = f"pip install --no-deps neural-tangents=={VERSION} frozendict (or mupjax[kernel], which brings TensorFlow)"

_CORE_NAMES = ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var")
_PACKAGE = "neural_tangents"
_EXPERIMENTAL = f"{_PACKAGE}.experimental"


@functools.cache
def load() -> types.ModuleType:
    """Return the module `neural_tangents` with its `stax` and `predict`, importing it on the first call.

    Raises:
      ImportError: where neural-tangents is absent or of another version, or needs a package that is absent; the message
        says what to type.
    """
    _check_version()
    if _PACKAGE in sys.modules:  # imported by somebody who made that work
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
    """Add the names that are missing, and on leaving remove exactly these, whatever happened in between."""
    before = set(sys.modules)
    with contextlib.ExitStack() as added:
        for name in _CORE_NAMES:
            _add(added, jax.core.__dict__, name, getattr(jax.extend.core, name))
        _add(added, ad.__dict__, "zeros_like_p", jax.extend.core.Primitive("zeros_like"))
        _add(added, sys.modules, "jax.util", _module("jax.util", safe_map=_safe_map, safe_zip=_safe_zip))
        _add(added, sys.modules, _EXPERIMENTAL, _module(_EXPERIMENTAL))
        try:
            yield
        except BaseException:  # half an import would be taken for a whole one later
            for name in set(sys.modules) - before:
                if name.startswith(f"{_PACKAGE}."):
                    added.callback(sys.modules.pop, name, None)
            raise
        # The real subpackage stays open to whoever imports it by its name.
        vars(sys.modules[_PACKAGE]).pop("experimental", None)


def _add(added: contextlib.ExitStack, namespace: dict[str, Any], name: str, value: Any) -> None:
    if name not in namespace:
        namespace[name] = value
        added.callback(namespace.pop, name, None)


def _module(name: str, **attributes: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(attributes)
    return module


def _safe_map(f: Callable[..., Any], *iterables: Iterable[Any]) -> list[Any]:
    return [f(*items) for items in zip(*iterables, strict=True)]


def _safe_zip(*iterables: Iterable[Any]) -> list[tuple[Any, ...]]:
    return list(zip(*iterables, strict=True))
