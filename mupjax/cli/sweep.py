"""The command `mupjax sweep`."""

from __future__ import annotations

from typing import Annotated

import typer

from mupjax.cli import parsing, running
from mupjax.cli.options import (
    NETWORK,
    TRAINING,
    ActivationName,
    BaseWidth,
    BatchSize,
    Cache,
    Classes,
    DataDir,
    Dataset,
    Grayscale,
    Key,
    Loss,
    Memory,
    Momentum,
    Out,
    Scale,
    Standardize,
    Steps,
    TestSize,
    TrainSize,
)


def sweep(
    out: Out = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print cells, runs, memory and compiled programs, and stop.")
    ] = False,
    dataset: Dataset = "digits",
    classes: Classes = "0,1",
    train_size: TrainSize = 256,
    test_size: TestSize = "auto",
    loss: Loss = "mse",
    grayscale: Grayscale = False,
    standardize: Standardize = "mean",
    scale: Scale = "sphere",
    data_dir: DataDir = None,
    parametrizations: Annotated[
        str, typer.Option(help="sp, ntp, mup, ip, comma-separated.", rich_help_panel=NETWORK)
    ] = "sp,mup",
    sp_exponent: Annotated[
        float,
        typer.Option(help="sp's learning rate falls as width^-this; 0: one rate for all.", rich_help_panel=NETWORK),
    ] = 1.0,
    widths: Annotated[
        str,
        typer.Option(help="Units of the hidden layers; 64x128x64 gives each layer its own.", rich_help_panel=NETWORK),
    ] = "64,128,256,512",
    depths: Annotated[str, typer.Option(help="Numbers of hidden layers.", rich_help_panel=NETWORK)] = "3",
    activation: ActivationName = "tanh",
    base_width: BaseWidth = 1,
    padding: Annotated[
        str,
        typer.Option(
            help="Whether widths share a compiled program: auto (where it is cheaper), always, never.",
            rich_help_panel=NETWORK,
        ),
    ] = "auto",
    learning_rates: Annotated[
        str,
        typer.Option(
            help="Base rates: .1,.2,.4; or LOW:HIGH:COUNT in equal ratios; or of each optimizer: "
            "'sgd=.1:1:4;adam=.01:.1:4'.",
            rich_help_panel=TRAINING,
        ),
    ] = "0.0625:8:8",
    optimizers: Annotated[str, typer.Option(help="sgd, adam, adamw.", rich_help_panel=TRAINING)] = "sgd",
    seeds: Annotated[int, typer.Option(help="Initialisations of each width.", rich_help_panel=TRAINING)] = 3,
    steps: Steps = 200,
    batch_size: BatchSize = None,
    momentum: Momentum = 0.0,
    centred: Annotated[bool, typer.Option(help="Train f - f_0.", rich_help_panel=TRAINING)] = False,
    observe: Annotated[
        str, typer.Option(help="Any of sharpness,cosines,update_sizes,preactivations.", rich_help_panel=TRAINING)
    ] = "",
    observe_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between observations; by default first and last.", show_default=False, rich_help_panel=TRAINING
        ),
    ] = None,
    key: Key = 0,
    memory_gb: Memory = None,
    cache: Cache = True,
) -> None:
    """Train a grid of networks in few compiled programs; killed, the same command goes on where it stopped."""
    layers = parsing.whole_numbers("depths", depths)
    presets = parsing.parametrizations(parametrizations, base_width=base_width, sp_exponent=sp_exponent, depths=layers)
    settings = {
        "parametrizations": presets,
        "widths": parsing.widths(widths),
        "depths": layers,
        "learning_rates": parsing.learning_rates(learning_rates),
        "seeds": seeds,
        "optimizers": parsing.names(optimizers),
        "steps": steps,
        "batch_size": batch_size,
        "momentum": momentum,
        "activation": activation,
        "base_width": base_width,
        "centred": centred,
        "observe": parsing.names(observe) if observe else (),
        "observe_every": observe_every,
        "padding": padding,
        "key": key,
        "memory_gb": memory_gb,
    }
    task_settings = running.task_settings(classes, train_size, test_size, loss, grayscale, standardize, scale, data_dir)
    running.prepare_jax(cache)
    from mupjax import datasets
    from mupjax.sweeps.grid import grid_of
    from mupjax.sweeps.plan import plan, table
    from mupjax.sweeps.sweep import SPEC
    from mupjax.sweeps.sweep import sweep as run

    task = datasets.load(dataset, **task_settings)
    if dry_run:
        grid = grid_of(task, spec=SPEC, **settings)
        planned = plan(task, grid)
        running.print_table(*table(planned, grid))
        compiled = len(planned.programs)
        print(f"{planned.num_runs} runs in {len(planned.cells)} cells; {compiled} programs to compile.")
        return
    about = {"dataset": dataset, **{name: value for name, value in task_settings.items() if name != "data_dir"}}
    results = run(task, out=out, about=about, progress=True, **settings)
    running.show(results, out)
