"""Every notebook runs from top to bottom with small settings, shows pictures, and is kept without outputs."""

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import v4

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SECONDS = 120  # of one cell: a notebook's goal is 30 for all of them


def run(notebook, folder):
    """Run a notebook in a folder, by the kernel that `own_kernel` made, and return it with its outputs."""
    return NotebookClient(notebook, kernel_name="here", timeout=SECONDS).execute(cwd=str(folder))


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def pictures(notebook):
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def warnings(notebook):
    """Lines with Python's own ('x.py:1: UserWarning: ...') and with those of loggers ('WARNING:...')."""
    lines = [line for output in outputs(notebook) if output.get("name") == "stderr" for line in output.text.split("\n")]
    return [line for line in lines if re.search("warning", line, re.IGNORECASE)]


@pytest.fixture(autouse=True)
def own_kernel(tmp_path, monkeypatch):
    """Small settings, this interpreter wherever others have kernels, and no configuration or history of the user's."""
    monkeypatch.setenv("MUPJAX_SMOKE", "1")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    spec = tmp_path / "JUPYTER_DATA_DIR" / "kernels" / "here"
    spec.mkdir(parents=True)
    # Frozen modules make the kernel's debugger warn.
    argv = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "here", "language": "python"}))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_shows_pictures(path, tmp_path):
    notebook = run(nbformat.read(path, 4), tmp_path)
    assert len(pictures(notebook)) >= 2
    assert warnings(notebook) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped_small_for_tests_and_linked(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert [cell.execution_count for cell in code] == [None] * len(code)
    assert [cell.metadata for cell in notebook.cells] == [{}] * len(notebook.cells)
    assert any("MUPJAX_SMOKE" in cell.source for cell in code)
    assert re.search(r"\]\(https://arxiv\.org/abs/\d{4}\.\d{5}\)", text)


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_a_failing_cell_fails(tmp_path):
    notebook = v4.new_notebook(cells=[v4.new_code_cell("1 / 0")])
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run(notebook, tmp_path)


def test_what_a_run_shows_is_seen(tmp_path):
    plot = "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    about = "import os, pathlib, sys\nprint(os.environ['MUPJAX_SMOKE'], pathlib.Path.cwd(), sys.executable)"
    warn = "import warnings\nwarnings.warn('mind')"
    log = "import logging\nlogging.basicConfig()\nlogging.getLogger('a').warning('mind')"
    notebook = run(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in (plot, about, warn, log)]), tmp_path)
    assert len(pictures(notebook)) == 1
    assert notebook.cells[1].outputs[0].text == f"1 {tmp_path} {sys.executable}\n"
    first, *_, last = warnings(notebook)
    assert first.endswith("UserWarning: mind")
    assert last == "WARNING:a:mind"
