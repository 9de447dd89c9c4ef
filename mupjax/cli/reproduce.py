"""`mupjax reproduce`: a paper's experiment, its claims beside what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mupjax.cli import parsing, running
from mupjax.cli.options import Cache, DataDir, Memory, Out

app = typer.Typer(help="Run a paper's experiment and judge its claims.", no_args_is_help=True)


@app.callback()
def papers() -> None:
    """Run a paper's experiment and judge its claims; exit code 0 also where a claim is contradicted."""


def _finish(
    found: Mapping[str, Any],
    verdicts: Sequence[Any],
    out: Path | None,
    more: Callable[[str, Path], list[Path]],
    tables: Sequence[tuple[list[str], list[list[str]]]] = (),
) -> None:
    """Print verdicts and tables; with `out` write the verdicts, and every part's figures (`more` of it) and report."""
    from mupjax import plots, report
    from mupjax import statistics as judged
    from mupjax.reproduce.parts import folder_of

    for table in (report.format_verdicts(verdicts), *tables):
        if table[1]:
            running.print_table(*table)
    if out is None:
        return
    judged.write(verdicts, out)
    for name, data in found.items():
        folder = folder_of(name, out)
        pictures = [*plots.save_all(data, folder), *more(name, folder)]
        page = report.write(data, folder, pictures, verdicts if name == next(iter(found)) else ())
        print(f"Report of {name}: {page}")


@app.command("rich-features")
def rich_features(
    out: Out = None,
    dataset: Annotated[
        str, typer.Option(help="cifar10 as in the paper, digits, ...; 'auto' is cifar10 where its files are found.")
    ] = "auto",
    data_dir: DataDir = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer widths, seeds and steps: under three minutes.")] = False,
    parts: Annotated[str, typer.Option(help="Parts to run, comma-separated, or 'all'.")] = "all",
    memory_gb: Memory = None,
    cache: Cache = True,
) -> None:
    """Rich features and global convergence in muP (Chen et al. 2025): feature change, diversity, non-degeneracy.

    Every finished part is kept in --out, and the same command goes on where it stopped.
    """
    names = None if parts == "all" else parsing.names(parts)
    running.prepare_jax(cache)
    budget = running.memory_budget(memory_gb)
    from mupjax import plots
    from mupjax.reproduce import rich_features as study
    from mupjax.reproduce import tables
    from mupjax.reproduce.parts import MAIN, WIDE, papers_or_digits
    from mupjax.reproduce.reading import across_widths

    if dataset == "auto":
        dataset, why = papers_or_digits(("cifar10",), data_dir)
        if dataset == "digits":
            print(f"{why} Running on the embedded digits; --dataset cifar10 fetches CIFAR-10.")
    found, verdicts = study.reproduce(
        dataset,
        quick=quick,
        names=names,
        data_dir=data_dir,
        out=out,
        memory_gb=budget,
        progress=True,
    )

    def more(name: str, folder: Path) -> list[Path]:
        if name == WIDE and MAIN in found:
            return plots.save_layers(across_widths(found[MAIN], found[WIDE]), folder)
        if name == "linearized" and "test" in found:
            return [plots.save_three_lines(found["test"], found[name], folder)]
        return plots.save_layers(found[MAIN], folder) if name == MAIN else []

    _finish(found, verdicts, out, more, (tables.side_by_side(found), tables.test_errors(found)))


@app.command("edge-of-chaos")
def edge_of_chaos(
    out: Out = None,
    dataset: Annotated[str, typer.Option(help="digits, mnist, ...: whose images.")] = "digits",
    data_dir: DataDir = None,
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything, no q = 1: under three minutes.")] = False,
    parts: Annotated[str, typer.Option(help="Parts to run, comma-separated, or 'all'.")] = "all",
    memory_gb: Memory = None,
    cache: Cache = True,
) -> None:
    """MLPs at the edge of chaos (Terjek 2025, partly reconstructed): catapults, sharpness, depth.

    Every finished part is kept in --out, and the same command goes on where it stopped.
    """
    names = None if parts == "all" else parsing.names(parts)
    running.prepare_jax(cache)
    budget = running.memory_budget(memory_gb)
    from mupjax import plots
    from mupjax.reproduce import edge_of_chaos as study
    from mupjax.reproduce.edge_reading import by_depth, by_width
    from mupjax.reproduce.parts import MAIN

    found, verdicts = study.reproduce(
        dataset,
        quick=quick,
        names=names,
        data_dir=data_dir,
        out=out,
        memory_gb=budget,
        progress=True,
    )

    def more(name: str, folder: Path) -> list[Path]:
        if name != MAIN:
            return []
        return plots.save_depths(by_depth(found, "step"), by_depth(found, "train"), by_width(found), folder)

    _finish(found, verdicts, out, more)


@app.command("integrable")
def integrable(
    out: Out = None,
    dataset: Annotated[
        str, typer.Option(help="mnist as in the paper (and cifar10), or digits; 'auto' is mnist where both are found.")
    ] = "auto",
    data_dir: DataDir = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer widths, seeds and steps: under three minutes.")] = False,
    parts: Annotated[str, typer.Option(help="Parts to run, comma-separated, or 'all'.")] = "all",
    memory_gb: Memory = None,
    cache: Cache = True,
) -> None:
    """Integrable parametrizations (Hajjar et al. 2021): deep IP is stuck, large initial rates let it train.

    Every finished part is kept in --out, and the same command goes on where it stopped.
    """
    names = None if parts == "all" else parsing.names(parts)
    running.prepare_jax(cache)
    budget = running.memory_budget(memory_gb)
    from mupjax import plots
    from mupjax.reproduce import integrable as study
    from mupjax.reproduce.parts import MAIN, papers_or_digits

    if dataset == "auto":
        dataset, why = papers_or_digits(study.DATASETS, data_dir)
        if dataset == "digits":
            print(f"{why} Running on the embedded digits; --dataset mnist fetches MNIST and CIFAR-10.")
    found, verdicts = study.reproduce(
        dataset,
        quick=quick,
        names=names,
        data_dir=data_dir,
        out=out,
        memory_gb=budget,
        progress=True,
    )
    _finish(found, verdicts, out, lambda name, folder: plots.save_integrable(found, folder) if name == MAIN else [])
