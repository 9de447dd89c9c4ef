"""`mupjax compare`: finite networks beside their infinite-width limits."""

from __future__ import annotations

from typing import Annotated

import typer

from mupjax.cli import parsing, running
from mupjax.cli.options import (
    LIMIT,
    NETWORK,
    TRAINING,
    ActivationName,
    BaseWidth,
    BatchSize,
    Cache,
    Classes,
    DataDir,
    Dataset,
    Depth,
    Grayscale,
    Key,
    LimitRuns,
    Loss,
    Memory,
    Momentum,
    Out,
    Particles,
    Scale,
    Standardize,
    Steps,
    TestSize,
    TrainSize,
)


def compare(
    out: Out = None,
    dataset: Dataset = "digits",
    classes: Classes = "0,1",
    train_size: TrainSize = 64,
    test_size: TestSize = "auto",
    loss: Loss = "mse",
    grayscale: Grayscale = False,
    standardize: Standardize = "mean",
    scale: Scale = "sphere",
    data_dir: DataDir = None,
    parametrizations: Annotated[
        str, typer.Option(help="sp, ntp, mup, ip, comma-separated.", rich_help_panel=NETWORK)
    ] = "sp,ntp,mup,ip",
    widths: Annotated[
        str,
        typer.Option(help="Units of the hidden layers; 64x128x64 gives each layer its own.", rich_help_panel=NETWORK),
    ] = "64,256,1024",
    depth: Depth = 3,
    activation: ActivationName = "tanh",
    base_width: BaseWidth = 1,
    learning_rate: Annotated[
        str | None,
        typer.Option(
            help="Base rate, or 'mup=1,ntp=.3'. By default 1, ntp .3.", show_default=False, rich_help_panel=TRAINING
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Initialisations of each width.", rich_help_panel=TRAINING)] = 3,
    steps: Steps = 200,
    batch_size: BatchSize = None,
    momentum: Momentum = 0.0,
    centred: Annotated[
        bool, typer.Option(help="Train f - f_0, which starts at zero.", rich_help_panel=TRAINING)
    ] = True,
    limit: Annotated[bool, typer.Option(help="Compute the infinite-width rows.", rich_help_panel=LIMIT)] = True,
    particles: Particles = 512,
    limit_runs: LimitRuns = 4,
    linearize: Annotated[
        bool, typer.Option("--linearize", help="Train the networks' first-order models.", rich_help_panel=TRAINING)
    ] = False,
    matrix_free_from: Annotated[
        int | None,
        typer.Option(
            help="Train networks at least this wide without hidden matrices.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None,
    max_directions: Annotated[
        int | None,
        typer.Option(
            help="Directions kept of a hidden matrix, by these and by the feature-learning limit.",
            show_default=False,
            rich_help_panel=LIMIT,
        ),
    ] = None,
    gram_steps: Annotated[
        str, typer.Option(help="Steps at which features are measured; -1 is the last.", rich_help_panel=TRAINING)
    ] = "0,-1",
    key: Key = 0,
    memory_gb: Memory = None,
    cache: Cache = True,
) -> None:
    """Train networks of several parametrizations and widths beside their infinite-width limit, and compare."""
    settings = {
        "parametrizations": parsing.names(parametrizations),
        "widths": parsing.widths(widths),
        "learning_rate": parsing.learning_rate(learning_rate),
        "depth": depth,
        "activation": activation,
        "base_width": base_width,
        "seeds": seeds,
        "steps": steps,
        "batch_size": batch_size,
        "momentum": momentum,
        "centred": centred,
        "limit": limit,
        "particles": particles,
        "limit_runs": limit_runs,
        "linearize": linearize,
        "matrix_free_from": matrix_free_from,
        "max_directions": max_directions,
        "gram_steps": parsing.whole_numbers("gram_steps", gram_steps),
        "key": key,
    }
    task_settings = running.task_settings(classes, train_size, test_size, loss, grayscale, standardize, scale, data_dir)
    running.prepare_jax(cache)
    from mupjax.studies.comparison import compare as run

    running.compute(run, out, dataset, task_settings, settings, memory_gb)
