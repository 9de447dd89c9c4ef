"""Run a command: set up JAX, compute, print the table, write report and figures."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

from mupjax.cli import parsing
from mupjax.cli.options import Data

if TYPE_CHECKING:
    import xarray as xr

    from mupjax.statistics import Verdict


PAPER_GB = 20.0  # a paper's widest networks on CPUs


def compute(
    run: Callable[..., xr.Dataset],
    out: Path | None,
    data: Data,
    settings: dict[str, Any],
    memory_gb: float | None,
) -> None:
    """Compute a Dataset, or what `out` lacks of it; print its table, write its report and figures."""
    from mupjax import datasets

    say_what_is_there(out)
    task = datasets.load(data.dataset, **parsing.task(data))
    results = run(task, **settings, memory_gb=memory_gb, out=out, about=parsing.about(data), progress=True)
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
        print(report.conclude(verdicts))
    write_report(results, out, verdicts)


def say_what_is_there(out: Path | None) -> None:
    """Say whether `out` holds finished results, or some to go on with."""
    from mupjax.results import store

    if out and (out / store.STORE / "zarr.json").is_file():
        try:
            finished = store.attributes(out / store.STORE).get("complete")
        except (OSError, ValueError, KeyError):
            return  # not ours, or harmed: the study says so in full
        print(f"{out / store.STORE} holds {'finished' if finished else 'unfinished'} results.")


def memory_budget(memory_gb: float | None) -> float:
    """The budget of a paper's study: PAPER_GB on CPUs, else what the device has."""
    from mupjax import devices

    return devices.memory_budget(memory_gb, on_cpu=PAPER_GB)


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


_BROKEN = 8  # letters after which words are broken in a table that is too wide


def _longest_word(cells: Iterable[str], has_digit: bool = False) -> int:
    words = [word for cell in cells for word in cell.split()]
    return max((len(word) for word in words if not has_digit or any(map(str.isdigit, word))), default=0)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as wide as the terminal, 160 columns where there is none.

    Cells wrap between words alone, so that no digit is cut; where even the longest words of all columns do not fit,
    lines are longer than the terminal is wide. Columns without an entry are left out.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    kept = [i for i in range(len(columns)) if any(row[i] not in ("", "–") for row in rows)]
    longest = [_longest_word([columns[i], *(row[i] for row in rows)]) for i in kept]
    numbers = [_longest_word((row[i] for row in rows), has_digit=True) for i in kept]
    width = Console().width if sys.stdout.isatty() else 160
    narrow = sum(longest) + 3 * len(kept) + 1 > width
    if narrow:  # words may be broken, numbers not
        longest = [max(number, min(most, _BROKEN)) for number, most in zip(numbers, longest, strict=True)]
    table = Table(
        box=box.SIMPLE_HEAD if narrow else box.HEAVY_HEAD,
        padding=(0, 0 if narrow else 1),
        show_edge=not narrow,
    )
    for i, least in zip(kept, longest, strict=True):
        table.add_column(escape(columns[i]), min_width=least, overflow="fold")
    for row in rows:
        table.add_row(*(escape(row[i]) for i in kept))
    least = sum(longest) + (len(kept) - 1 if narrow else 3 * len(kept) + 1)
    Console(width=max(width, least)).print(table, crop=False, soft_wrap=False)
