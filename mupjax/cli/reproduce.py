"""`mupjax reproduce`: a paper's experiment, its claims beside what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mupjax.cli import parsing, running
from mupjax.cli.options import Cache, DataDir, Memory, Out

app = typer.Typer(help="Run a paper's experiment and judge its claims.", no_args_is_help=True)


@app.callback()
def papers() -> None:
    """Run a paper's experiment and judge its claims; exit code 0 also where a claim is contradicted."""


@app.command("rich-features")
def rich_features(
    out: Out = None,
    dataset: Annotated[
        str, typer.Option(help="cifar10 as in the paper, digits, ...; 'auto' is cifar10 where its files are found.")
    ] = "auto",
    data_dir: DataDir = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer widths, seeds and steps: under three minutes.")] = False,
    parts: Annotated[str, typer.Option(help="Parts to run, comma-separated, or 'all'.")] = "all",
    memory_gb: Memory = 20.0,
    cache: Cache = True,
) -> None:
    """Rich features and global convergence in muP (Chen et al. 2025): feature change, diversity, non-degeneracy.

    Every finished part is kept in --out, and the same command goes on where it stopped.
    """
    names = None if parts == "all" else parsing.names(parts)
    running.prepare_jax(cache)
    from mupjax import plots, report
    from mupjax import verdicts as judged
    from mupjax.reproduce import rich_features as study
    from mupjax.reproduce.parts import MAIN, WIDE, folder_of
    from mupjax.reproduce.reading import across_widths

    chosen = _dataset(dataset, data_dir)
    found, verdicts = study.reproduce(
        chosen, quick=quick, names=names, data_dir=data_dir, out=out, memory_gb=memory_gb, progress=True
    )
    running.print_table(*report.format_verdicts(verdicts))
    columns, rows = study.test_errors(found)
    if rows:
        running.print_table(columns, rows)
    if out:
        judged.write(verdicts, out)
        for name, data in found.items():
            folder = folder_of(name, out)
            pictures = plots.save_all(data, folder)
            if name == MAIN:
                pictures += plots.save_layers(data, folder)
            if name == WIDE and MAIN in found:
                pictures += plots.save_layers(across_widths(found[MAIN], data), folder)
            page = report.write(data, folder, pictures, verdicts if name == MAIN else ())
            print(f"Report of {name}: {page}")


def _dataset(dataset: str, data_dir: Path | None) -> str:
    """'auto' is CIFAR-10 where its files are at hand, and else the embedded digits, which is said."""
    if dataset != "auto":
        return dataset
    from mupjax import datasets

    if data_dir is not None:
        try:
            datasets.load("cifar10", classes=(0, 1), train_size=2, test_size=None, data_dir=data_dir)
            return "cifar10"
        except FileNotFoundError as missing:
            print(f"No CIFAR-10, as in the paper: {missing}")
    print("Running on the embedded digits; --dataset cifar10 fetches CIFAR-10, --data-dir says where it is.")
    return "digits"
