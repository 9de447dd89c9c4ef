"""`mupjax transfer`: whether the best learning rate stays as the width grows."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from mupjax.cli import options, parsing, running
from mupjax.cli.command import Command, keywords


class Study(NamedTuple):
    """What the sweep takes beside the task, the key and the memory."""

    parametrizations: Annotated[
        str, options.network_option(help="Compared with the control, sp with one rate for all widths.")
    ] = "mup"
    widths: options.Widths = "64,128,256,512"
    depth: options.Depth = 2
    network: options.Network = options.Network(base_width="64")
    optimizers: options.Optimizers = "sgd,adam"
    learning_rates: options.LearningRates = "sgd=0.1767767:8:12;adam=0.001381068:0.125:14"
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
    widths = parsing.widths(study.widths)
    if len(widths) < 2:
        raise ValueError(f"Expected `widths` to name two or more, got widths={study.widths}.")
    base_width = parsing.base_width(study.network.base_width)
    settings = keywords(study) | {
        "parametrizations": parsing.parametrizations(
            f"sp,{study.parametrizations}", base_width=base_width, sp_exponent=0.0, depths=(study.depth,)
        ),
        "base_width": base_width,
        "widths": widths,
        "learning_rates": parsing.learning_rates(study.learning_rates),
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
    verdicts = transfers.judge(results)
    running.show(results, given.out, verdicts)
    if any(verdict.verdict != REPRODUCED for verdict in verdicts):
        raise typer.Exit(1)


COMMAND = Command(
    transfer,
    Transfer(),
    example="mupjax transfer --optimizers sgd --learning-rates .25:4:5 --out moves",
)
