"""`mupjax transfer`: whether the best learning rate stays as the width grows."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from mupjax.cli import options, parsing, running
from mupjax.cli.command import Command, keywords
from mupjax.studies.transfer.study import RATES


class Study(NamedTuple):
    """Options of the sweep beyond the task, the key and the memory."""

    parametrizations: options.Parametrizations = "mup"
    control: Annotated[
        bool, options.network_option(help="Also sweep sp with one rate for all widths, whose best rate must move.")
    ] = True
    widths: options.Widths = "64,128,256,512"
    depth: options.Depth = 2
    network: options.Network = options.Network(base_width="64")
    optimizers: options.Optimizers = "sgd,adam"
    learning_rates: Annotated[
        str | None,
        options.training_option(help=options.RATES_HELP, show_default=options.ranges_in_words(RATES)),
    ] = None
    seeds: options.Seeds = 12
    training: options.Training = options.Training(steps=20, batch_size=64)


class Transfer(NamedTuple):
    """The options of `mupjax transfer`."""

    out: options.Out = None
    data: options.Data = options.Data(classes="all", train_size=1024, test_size="none", loss="cross_entropy")
    study: Study = Study()
    running: options.Running = options.Running()


def transfer(given: Transfer) -> None:
    """Measure how the best learning rate moves with the width.

    The exit code is 1 unless muP's best rate stays and the control's moves. The rates of an optimizer should bracket
    the best one of every width, the control's widest too.
    """
    study = given.study
    settings = keywords(study) | {
        "parametrizations": parsing.names(study.parametrizations),
        "base_width": parsing.base_width(study.network.base_width),
        "widths": parsing.widths(study.widths),
        "learning_rates": None if study.learning_rates is None else parsing.learning_rates(study.learning_rates),
        "optimizers": parsing.optimizers(study.optimizers, study.training.momentum),
        "out": given.out,
        "about": parsing.about(given.data),
        "key": given.running.key,
        "memory_gb": given.running.memory_gb,
    }
    del settings["momentum"]
    task_settings = parsing.task(given.data)
    running.prepare_jax(given.running.cache)
    from mupjax import datasets
    from mupjax.statistics import REPRODUCED
    from mupjax.studies import transfer as transfers

    task = datasets.load(given.data.dataset, **task_settings)
    running.say_what_is_there(given.out)
    results = transfers.transfer(task, progress=True, **settings)
    verdicts = transfers.judge(results, control=transfers.CONTROL if study.control else None)
    running.show(results, given.out, verdicts)
    if any(verdict.verdict != REPRODUCED for verdict in verdicts):
        raise typer.Exit(1)


COMMAND = Command(
    transfer,
    Transfer(),
    example="mupjax transfer --optimizers sgd --learning-rates .25:4:5 --out moves",
)
