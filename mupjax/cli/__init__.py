"""The command line: `mupjax compare`, `mupjax sweep`, `mupjax limit`, ..."""

from __future__ import annotations

from typing import Annotated

import typer

from mupjax.cli import compare, coord_check, describe, limit, reproduce, running, sweep, transfer
from mupjax.cli.command import epilog

app = typer.Typer(
    help="Neural networks at finite width, their infinite-width limits, and how far apart they are.",
    epilog=epilog("mupjax compare --dataset digits --widths 64,256,1024 --out compared"),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line; an error that a user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except (ValueError, TypeError, ImportError, OSError) as error:
        running.fail(str(error))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        running.fail(
            "Expected the runs to fit the machine's memory; take fewer seeds, inputs or units, or a lower --memory-gb."
        )


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if show:
        import mupjax

        print(mupjax.__version__)
        raise typer.Exit


for module in (compare, limit, sweep, transfer, coord_check, describe):
    module.COMMAND.add_to(app)
app.add_typer(reproduce.app, name="reproduce")
