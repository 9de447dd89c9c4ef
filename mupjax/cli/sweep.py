"""`mupjax sweep`: a grid of networks."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from mupjax.cli import options, parsing, running
from mupjax.cli.command import Command, keywords
from mupjax.observers.named import OF_FEATURES as OBSERVERS
from mupjax.sweeps.grid import PADDING


class Study(NamedTuple):
    """Options of `mupjax.sweep` beyond the task, the key and the memory."""

    parametrizations: options.Parametrizations = "sp,mup"
    sp_exponent: Annotated[
        float, options.network_option(help="sp's learning rate falls as width^-this; 0: one rate for all.")
    ] = 1.0
    widths: options.Widths = "64,128,256,512"
    depths: Annotated[str, options.network_option(help="Numbers of hidden layers.")] = "3"
    network: options.Network = options.Network()
    padding: Annotated[
        str,
        options.network_option(
            help=f"Whether widths share a compiled program: {options.one_of(PADDING)}; auto: where it is cheaper."
        ),
    ] = "auto"
    learning_rates: options.LearningRates = "0.0625:8:8"
    optimizers: options.Optimizers = "sgd"
    seeds: options.Seeds = 3
    training: options.Training = options.Training()
    centred: options.Centred = False
    observe: Annotated[str, options.training_option(help=f"{options.any_of(OBSERVERS)}.")] = ""
    observe_every: Annotated[
        int | None,
        options.training_option(help="Steps between observations.", show_default="first and last step"),
    ] = None


class Sweep(NamedTuple):
    """The options of `mupjax sweep`."""

    out: options.Out = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print cells, runs, memory and compiled programs, and stop.")
    ] = False
    data: options.Data = options.Data(train_size=256)
    study: Study = Study()
    running: options.Running = options.Running()


def sweep(given: Sweep) -> None:
    """Train a grid of networks in few compiled programs.

    If it is interrupted, run the same command again to resume.
    """
    study = given.study
    settings = keywords(study) | {
        "widths": parsing.widths(study.widths),
        "depths": parsing.whole_numbers("depths", study.depths),
        "learning_rates": parsing.learning_rates(study.learning_rates),
        "optimizers": parsing.optimizers(study.optimizers, study.training.momentum),
        "observe": parsing.names(study.observe),
        "base_width": parsing.base_width(study.network.base_width),
        "key": given.running.key,
        "memory_gb": given.running.memory_gb,
    }
    settings["parametrizations"] = parsing.parametrizations(
        study.parametrizations,
        base_width=settings["base_width"],
        sp_exponent=settings.pop("sp_exponent"),
        depths=settings["depths"],
    )
    del settings["momentum"]
    task_settings = parsing.task(given.data)
    running.prepare_jax(given.running.cache)
    from mupjax import datasets
    from mupjax._checks import key
    from mupjax.sweeps.grid import grid_of
    from mupjax.sweeps.plan import plan, table
    from mupjax.sweeps.sweep import SPEC
    from mupjax.sweeps.sweep import sweep as run

    task = datasets.load(given.data.dataset, **task_settings)
    if given.dry_run:
        settings["key"] = key(given.running.key)
        grid = grid_of(task, spec=SPEC, **settings)
        planned = plan(task, grid)
        running.print_table(*table(planned, grid))
        compiled = len(planned.programs)
        print(f"{planned.num_runs} runs in {len(planned.cells)} cells; {compiled} programs to compile.")
        return
    running.say_what_is_there(given.out)
    results = run(task, out=given.out, about=parsing.about(given.data), progress=True, **settings)
    running.show(results, given.out)


COMMAND = Command(sweep, Sweep(), example="mupjax sweep --widths 16,32 --learning-rates .25:1:3 --steps 20 --out rates")
