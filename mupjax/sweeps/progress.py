"""Progress over cells: a bar on a terminal and in a notebook, a line for every finished cell in a log."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Planned(Protocol):
    """A cell: its label and its weight."""

    @property
    def label(self) -> str: ...

    @property
    def work(self) -> float: ...


@runtime_checkable
class Progress(Protocol):
    """Told when a cell starts and when it is done."""

    def start(self, cell: Planned) -> None: ...

    def done(self, cell: Planned) -> None: ...


@contextmanager
def progress_of(cells: Sequence[Planned], shown: bool, finished: Sequence[Planned] = ()) -> Iterator[Progress]:
    """Show how far `cells` are.

    Args:
      cells: all of them.
      shown: whether to show anything.
      finished: those that are done already.
    """
    if not shown:
        yield _Silent()
    elif sys.stderr.isatty() or "ipykernel" in sys.modules:
        from tqdm import TqdmWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TqdmWarning)  # a notebook without widgets gets the bar of a terminal
            from tqdm.auto import tqdm

        total, before = (sum(cell.work for cell in some) for some in (cells, finished))
        form = "{desc}{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
        with tqdm(total=total, initial=before, bar_format=form) as bar:
            yield _Bar(bar)
    else:
        yield _Log(len(cells), len(finished))


class _Silent:
    def start(self, cell: Planned) -> None:
        pass

    def done(self, cell: Planned) -> None:
        pass


class _Bar:
    def __init__(self, bar) -> None:
        self.bar = bar

    def start(self, cell: Planned) -> None:
        self.bar.set_description(cell.label)

    def done(self, cell: Planned) -> None:
        self.bar.update(cell.work)


class _Log:
    def __init__(self, total: int, finished: int) -> None:
        self.total, self.finished, self.begun = total, finished, time.perf_counter()

    def start(self, cell: Planned) -> None:
        self.begun = time.perf_counter()

    def done(self, cell: Planned) -> None:
        self.finished += 1
        seconds = time.perf_counter() - self.begun
        print(f"[{self.finished}/{self.total}] {cell.label}, {seconds:.1f} s", file=sys.stderr, flush=True)
        self.begun = time.perf_counter()
