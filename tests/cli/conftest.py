"""The command line in this process, where JAX and its programs are loaded once for all tests."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import NamedTuple

import pytest

from mupjax import cli
from mupjax.cli import running


class Done(NamedTuple):
    """How a command ended, named as in `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def command():
    """A function of a command's words that runs it by `main()`, but for the set-up of JAX, which has started."""

    def run(*words: str) -> Done:
        stdout, stderr, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, "prepare_jax", lambda cache: None)
            patch.setattr(sys, "argv", ["mupjax", *words])
            with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                try:
                    cli.main()
                except SystemExit as stop:
                    code = stop.code or 0
        return Done(code, stdout.getvalue(), stderr.getvalue())

    return run
