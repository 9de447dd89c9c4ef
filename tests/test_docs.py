"""Examples that readers copy: README's code runs, docstrings' examples give what they say."""

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import mupjax
from mupjax.results import store
from tests import result_datasets

README = Path(__file__).parents[1] / "README.md"
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(mupjax.__path__, "mupjax.")
    if name != "mupjax.dynamics._neural_tangents"
]


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
def test_readme_example_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})


def test_what_readme_links_to_is_there():
    names = re.findall(r"\]\((?!https?:)([^)]+)\)", README.read_text())
    assert names
    assert not [name for name in names if not (README.parent / name).exists()]


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """A folder with finished results of every kind, as README's commands leave them: what examples read."""
    folder = tmp_path_factory.mktemp("examples")
    for name, data in (
        ("results/demo", result_datasets.comparison()),
        ("sweep", result_datasets.sweep()),
        ("transfer", result_datasets.with_optimum(result_datasets.sweep())),
        ("coord-check", result_datasets.coordinates()),
        ("limit", result_datasets.width_study()),
        ("training", result_datasets.training()),
        ("catapults", result_datasets.catapults()),
    ):
        store.write(data, folder / name)
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name, kept, monkeypatch):
    monkeypatch.chdir(kept)
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0
    assert module.__doc__


def test_every_public_name_is_documented():
    for name in mupjax.__dir__():
        member = getattr(mupjax, name)
        if name.startswith("_") or not callable(member):
            continue
        assert member.__doc__, name


def test_names_of_modules_in_docstrings_resolve():
    """Such as `mupjax.sgd`, `sweeps.runner.Running` or `curvature.sharpness_of`: the first part is a module's name."""
    modules = ["mupjax", *MODULES]
    wrong = []
    for module in modules:
        tree = ast.parse(Path(importlib.import_module(module).__file__).read_text())
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        docstrings = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
        for name in re.findall(r"(?<!`)`([A-Za-z_]\w*(?:\.\w+)+)(?:\(.*?\))?`", "\n".join(docstrings)):
            first, _, rest = name.partition(".")
            starts = [start for start in modules if start.split(".")[-1] == first]
            if starts and not any(resolves(f"{start}.{rest}") for start in starts):
                wrong.append(f"{module}: {name}")
    assert not wrong


def resolves(name):
    try:
        pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        return False
    return True
