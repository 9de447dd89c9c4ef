"""What every command does around its computation: options to arguments, results to table, report and figures."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

from mupjax.cli import parsing

if TYPE_CHECKING:
    import xarray as xr

    from mupjax.statistics import Verdict


def task_settings(
    classes: str,
    train_size: int,
    test_size: str,
    loss: str,
    grayscale: bool,
    standardize: str,
    scale: str,
    data_dir: Path | None,
) -> dict[str, Any]:
    """The options of the panel 'Data' as `datasets.load` takes them."""
    named = {"auto": "auto", "none": None}
    return {
        "classes": None if classes == "all" else parsing.whole_numbers("classes", classes),
        "train_size": train_size,
        "test_size": named[test_size] if test_size in named else parsing.whole_number("test_size", test_size),
        "loss": loss,
        "grayscale": grayscale,
        "standardize": parsing.standardize(standardize),
        "scale": scale,
        "data_dir": data_dir,
    }


def compute(
    run: Callable[..., xr.Dataset],
    out: Path | None,
    dataset: str,
    task_settings: dict[str, Any],
    settings: dict[str, Any],
    memory_gb: float | None,
) -> None:
    """Compute a Dataset, or read it where `out` holds it already; print its table, write its report and figures."""
    from mupjax import datasets
    from mupjax.results import arguments_json, store

    chosen = {"dataset": dataset, **settings, **task_settings}
    arguments = arguments_json({name: value for name, value in chosen.items() if name != "data_dir"})
    finished = store.check_directory(out, arguments) if out else None
    if finished:
        print(f"{finished} holds these results already; writing their report and figures anew.")
        results = store.read(finished)
    else:
        task = datasets.load(dataset, **task_settings)
        results = run(task, **settings, memory_gb=memory_gb, progress=True)
        results.attrs["arguments"] = arguments
        if out:
            store.write(results, out)
    show(results, out)


def show(results: xr.Dataset, out: Path | None, verdicts: Sequence[Verdict] = ()) -> None:
    """Print what was found, tables and verdicts; write figures, report and verdicts to `out`, if there is one."""
    from mupjax import report
    from mupjax.results import complete, kind_of

    kind, whole = kind_of(results), complete(results)
    print(kind.conclusion(whole))
    for table in kind.tables(whole):
        print_table(table.columns, table.rows)
    if verdicts:
        print_table(*report.format_verdicts(verdicts))
    write_report(results, out, verdicts)


def memory_budget(memory_gb: float | None) -> float:
    """The budget of a paper's study: 20 GB on CPUs, else what the device has."""
    from mupjax import devices

    return devices.memory_budget(memory_gb, on_cpu=20.0)


def write_report(results: xr.Dataset, out: Path | None, verdicts: Sequence[Verdict] = ()) -> None:
    """Write figures, report and verdicts to `out`, if there is one, and say where the report is."""
    if out:
        from mupjax import plots, report
        from mupjax import statistics as judged

        if verdicts:
            judged.write(verdicts, out)
        print(f"Report: {report.write(results, out, plots.save_all(results, out), verdicts)}")


def fail(message: str) -> Never:
    """Say in one line what is wrong, and end with exit code 2."""
    print(f"mupjax: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def prepare_jax(cache: bool) -> None:
    """Give JAX a CPU device a core, and let it keep compiled programs in the user's cache folder.

    Runs are shared out over devices, and a run a core beats threads inside a product (benchmarks/dense.py).
    """
    import jax

    if cache:
        import pooch

        jax.config.update("jax_compilation_cache_dir", os.path.join(pooch.os_cache("mupjax"), "compiled", _machine()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update(
        "jax_num_cpu_devices", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )


def _machine() -> str:
    """A name for the processor's instructions: a program for others would crash, and homes are shared on clusters."""
    words = [platform.machine(), platform.processor()]
    if (known := Path("/proc/cpuinfo")).is_file():
        words += [line for line in known.read_text().splitlines() if line.startswith(("flags", "Features"))][:1]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:12]


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table as wide as the terminal, 160 columns where there is none."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
