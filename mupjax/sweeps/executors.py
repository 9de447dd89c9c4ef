"""Send cells to the workers of any `concurrent.futures.Executor`; each worker writes its own cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, as_completed
from typing import Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Named(Protocol):
    """A cell has a name."""

    @property
    def name(self) -> str: ...


Cell = TypeVar("Cell", bound=Named)
Job = TypeVar("Job")


def run_cells(
    executor: Executor, work: Callable[[Job], str], jobs: Sequence[tuple[Cell, Job]], on_done: Callable[[Cell], None]
) -> None:
    """Run `work(job)` for every cell on an executor's workers, and wait for all of them.

    A cell that fails does not stop the others. Nothing but names comes back.

    Args:
      executor: a process pool (started with 'spawn': JAX does not survive a fork), Dask's `Client.get_executor()`,
        MPI's `MPIPoolExecutor`, ...
      work: a function that can be pickled; it writes what it finds and returns the cell's name.
      jobs: cells, and what `work` is given of each.
      on_done: called with each cell that is finished.

    Raises:
      RuntimeError: where cells were not finished, a worker or the pool lost; the message names them and the first
        failure. What was finished is written.
    """
    failed: dict[str, BaseException] = {}
    futures = {}
    for cell, job in jobs:
        try:
            futures[executor.submit(work, job)] = cell
        except Exception as error:  # a broken pool takes no more; each kind of executor has errors of its own
            failed[cell.name] = error
    try:
        for future in as_completed(futures):
            error = future.exception()
            if error is None:
                on_done(futures[future])
            else:
                failed[futures[future].name] = error
    finally:
        for future in futures:
            future.cancel()  # what waits when the user interrupts; of no effect on what is finished
    if failed:
        first = next(iter(failed.values()))
        names = ", ".join(list(failed)[:8]) + (f" and {len(failed) - 8} more" if len(failed) > 8 else "")
        raise RuntimeError(
            f"Expected every worker to finish its cells, got {type(first).__name__}: {first} for {names}. Finished "
            "cells are kept: the same call again computes the rest."
        ) from first
