"""`mupjax reproduce`: a command for each paper, its claims beside what was found."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mupjax.cli import parsing, running
from mupjax.cli.command import epilog
from mupjax.cli.options import Cache, DataDir, Out, memory_option
from mupjax.reproduce import PAPERS, Paper, get, run_paper
from mupjax.reproduce.parts import folder_of, papers_or_digits

if TYPE_CHECKING:
    import xarray as xr

    from mupjax.statistics import Verdict

app = typer.Typer(no_args_is_help=True, epilog=epilog(get(next(iter(PAPERS))).example))


@app.callback()
def papers() -> None:
    """Run a paper's experiment and judge its claims; exit code 0 also where a claim is contradicted."""


def _command(paper: Paper) -> Callable[..., None]:
    """Return the command of a paper."""

    def command(
        out: Out = None,
        dataset: Annotated[str, typer.Option(help=paper.dataset_help)] = paper.dataset,
        data_dir: DataDir = None,
        quick: Annotated[bool, typer.Option("--quick", help=paper.quick_help)] = False,
        parts: Annotated[str, typer.Option(help="Parts to run, comma-separated, or 'all'.")] = "all",
        memory_gb: Annotated[float | None, memory_option(running.PAPER_GB)] = None,
        cache: Cache = True,
    ) -> None:
        names = None if parts == "all" else parsing.names(parts)
        running.prepare_jax(cache)
        budget = running.memory_budget(memory_gb)
        if dataset == "auto":
            dataset, why = papers_or_digits(paper.datasets, data_dir)
            if dataset == "digits":
                own = " and ".join(name.upper().replace("CIFAR10", "CIFAR-10") for name in paper.datasets)
                print(f"{why} Running on the embedded digits; --dataset {paper.datasets[0]} fetches {own}.")
        found, verdicts = run_paper(
            paper, dataset, quick=quick, names=names, data_dir=data_dir, out=out, memory_gb=budget, progress=True
        )
        _show(paper, found, verdicts, out)

    return command


def _show(paper: Paper, found: "dict[str, xr.Dataset]", verdicts: "Sequence[Verdict]", out: Path | None) -> None:
    """Print verdicts and tables; with `out` write the verdicts, and every part's figures and report."""
    from mupjax import plots, report, statistics

    if verdicts:
        running.print_table(*report.format_verdicts(verdicts))
        print(report.conclude(verdicts))
    for table in paper.tables(found):
        running.print_table(table.columns, table.rows)
    if out is None:
        return
    statistics.write(verdicts, out)
    more = paper.figures(found)
    for name, data in found.items():
        folder = folder_of(name, out)
        pictures = [*plots.save_all(data, folder), *plots.save(more.get(name, {}), folder)]
        of_first = verdicts if name == next(iter(found)) else ()
        print(f"Report of {name}: {report.write(data, folder, pictures, of_first, paper.captions)}")


def _add(paper: Paper) -> None:
    words = f"{paper.title}\n\nEvery finished part is kept in --out: run the same command again to resume."
    app.command(paper.name, help=words, epilog=epilog(paper.example))(_command(paper))


for _name in PAPERS:
    _add(get(_name))
