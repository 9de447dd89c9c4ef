"""The command `mupjax transfer`."""

from __future__ import annotations

from typing import Annotated

import typer

from mupjax.cli import parsing, running
from mupjax.cli.options import (
    NETWORK,
    TRAINING,
    ActivationName,
    BatchSize,
    Cache,
    Classes,
    DataDir,
    Dataset,
    Depth,
    Grayscale,
    Key,
    Loss,
    Memory,
    Momentum,
    Out,
    Scale,
    Standardize,
    TestSize,
    TrainSize,
)


def transfer(
    out: Out = None,
    dataset: Dataset = "digits",
    classes: Classes = "all",
    train_size: TrainSize = 1024,
    test_size: TestSize = "none",
    loss: Loss = "cross_entropy",
    grayscale: Grayscale = False,
    standardize: Standardize = "mean",
    scale: Scale = "sphere",
    data_dir: DataDir = None,
    parametrizations: Annotated[
        str, typer.Option(help="Compared with the control, sp with one rate for all widths.", rich_help_panel=NETWORK)
    ] = "mup",
    widths: Annotated[
        str, typer.Option(help="Units of the hidden layers.", rich_help_panel=NETWORK)
    ] = "64,128,256,512",
    depth: Depth = 2,
    activation: ActivationName = "tanh",
    base_width: Annotated[
        int, typer.Option(help="Width at which muP and the control are one network.", rich_help_panel=NETWORK)
    ] = 64,
    optimizers: Annotated[str, typer.Option(help="sgd, adam, adamw.", rich_help_panel=TRAINING)] = "sgd,adam",
    learning_rates: Annotated[
        str,
        typer.Option(
            help="Base rates, for all optimizers or of each: 'sgd=.1:1:8;adam=.01:.1:8' (LOW:HIGH:COUNT).",
            rich_help_panel=TRAINING,
        ),
    ] = "sgd=0.1767767:8:12;adam=0.001381068:0.125:14",
    seeds: Annotated[int, typer.Option(help="Initialisations of each width.", rich_help_panel=TRAINING)] = 12,
    steps: Annotated[int, typer.Option(help="Updates.", rich_help_panel=TRAINING)] = 20,
    batch_size: BatchSize = 64,
    momentum: Momentum = 0.0,
    key: Key = 0,
    memory_gb: Memory = None,
    cache: Cache = True,
) -> None:
    """Measure how the best learning rate moves with the width; exit code 1 unless muP's stays and the control's moves.

    The rates of an optimizer should bracket the best one of every width, the control's widest too.
    """
    if len(parsing.widths(widths)) < 2:
        raise ValueError(f"Expected `widths` to name two or more, got widths={widths}.")
    options = {"base_width": base_width, "sp_exponent": 0.0, "depths": (depth,)}
    chosen = parsing.parametrizations(f"sp,{parametrizations}", **options)
    task_settings = running.task_settings(classes, train_size, test_size, loss, grayscale, standardize, scale, data_dir)
    running.prepare_jax(cache)
    from mupjax import datasets
    from mupjax.statistics import REPRODUCED
    from mupjax.studies import transfer as transfers
    from mupjax.sweeps.sweep import sweep as run

    about = {"dataset": dataset, **{name: value for name, value in task_settings.items() if name != "data_dir"}}
    results = run(
        datasets.load(dataset, **task_settings),
        parametrizations=chosen,
        widths=parsing.widths(widths),
        depths=(depth,),
        learning_rates=parsing.learning_rates(learning_rates),
        seeds=seeds,
        optimizers=parsing.names(optimizers),
        steps=steps,
        batch_size=batch_size,
        momentum=momentum,
        activation=activation,
        base_width=base_width,
        key=key,
        memory_gb=memory_gb,
        out=out,
        about=about,
        progress=True,
    )
    verdicts = transfers.judge(results)
    running.show(results.merge(transfers.best_rates(results)).assign_attrs(kind="transfer"), out, verdicts)
    if any(verdict.verdict != REPRODUCED for verdict in verdicts):
        raise typer.Exit(1)
