"""Every notebook runs from top to bottom with small settings, shows pictures, and is kept without outputs."""

import contextlib
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


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def pictures(notebook):
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def warnings(notebook):
    """Lines with Python's own ('x.py:1: UserWarning: ...') and with those of loggers ('WARNING:...')."""
    lines = [line for output in outputs(notebook) if output.get("name") == "stderr" for line in output.text.split("\n")]
    return [line for line in lines if re.search("warning", line, re.IGNORECASE)]


@contextlib.contextmanager
def kernel(own):
    """A function that runs a notebook in a folder and returns it with its outputs; notebooks see no names of others.

    Its kernel has small settings, this interpreter wherever others have kernels, and no configuration or history of the
    user's: these are in the folder `own`.
    """
    spec = own / "JUPYTER_DATA_DIR" / "kernels" / "here"
    spec.mkdir(parents=True)
    # Frozen modules make the kernel's debugger warn.
    argv = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "here", "language": "python"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUPJAX_SMOKE", "1")
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(own / name))
        client = NotebookClient(v4.new_notebook(), kernel_name="here", timeout=SECONDS)

        def run_in(notebook, folder):
            for cells in ([v4.new_code_cell(f"%reset -f\n%cd -q {folder}")], notebook.cells):
                client.nb = v4.new_notebook(cells=cells)
                client.execute(cleanup_kc=False)
            return client.nb

        yield run_in
        client.nb = v4.new_notebook()
        client.execute(cleanup_kc=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One kernel for all notebooks, since JAX takes seconds to start."""
    with kernel(tmp_path_factory.mktemp("jupyter")) as run:
        yield run


@pytest.fixture
def run_afresh(tmp_path_factory):
    """A kernel of the test's own: notebooks before it leave loggers and modules behind."""
    with kernel(tmp_path_factory.mktemp("jupyter")) as run:
        yield run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_shows_pictures(run, path, tmp_path):
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


def test_a_notebook_finds_no_names_of_another(run, tmp_path):
    run(v4.new_notebook(cells=[v4.new_code_cell("left = 1")]), tmp_path)
    with pytest.raises(CellExecutionError, match="name 'left' is not defined"):
        run(v4.new_notebook(cells=[v4.new_code_cell("left")]), tmp_path)


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_a_failing_cell_fails(run, tmp_path):
    notebook = v4.new_notebook(cells=[v4.new_code_cell("1 / 0")])
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run(notebook, tmp_path)


def test_what_a_run_shows_is_seen(run_afresh, tmp_path):
    plot = "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    about = "import os, pathlib, sys\nprint(os.environ['MUPJAX_SMOKE'], pathlib.Path.cwd(), sys.executable)"
    warn = "import warnings\nwarnings.warn('mind')"
    log = "import logging\nlogging.basicConfig()\nlogging.getLogger('a').warning('mind')"
    notebook = run_afresh(
        v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in (plot, about, warn, log)]), tmp_path
    )
    assert len(pictures(notebook)) == 1
    assert notebook.cells[1].outputs[0].text == f"1 {tmp_path} {sys.executable}\n"
    first, *_, last = warnings(notebook)
    assert first.endswith("UserWarning: mind")
    assert last == "WARNING:a:mind"
