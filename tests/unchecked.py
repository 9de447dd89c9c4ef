"""Modules without the tests' type checks, for tests that call cheap functions very often."""

from __future__ import annotations

import importlib.util


def without_type_checks(module):
    """A copy of the module that the tests' import hook has not instrumented: some 100 times as fast on these grids."""
    spec = importlib.util.spec_from_file_location(f"{module.__name__}_unchecked", module.__file__)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy
