"""`mupjax limit`: infinite width with error bars, and how networks approach it."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from mupjax.cli import parsing, running
from mupjax.cli.options import (
    LIMIT,
    NETWORK,
    STUDY,
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


def limit(
    out: Out = None,
    dataset: Dataset = "digits",
    classes: Classes = "0,1",
    train_size: TrainSize = 16,
    test_size: TestSize = "none",
    loss: Loss = "mse",
    grayscale: Grayscale = False,
    standardize: Standardize = "mean",
    scale: Scale = "sphere",
    data_dir: DataDir = None,
    parametrization: Annotated[str, typer.Option(help="mup, sp, ntp or ip.", rich_help_panel=NETWORK)] = "mup",
    depth: Depth = 3,
    activation: ActivationName = "tanh",
    base_width: BaseWidth = 1,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Base rate. By default 1, ntp .3.", show_default=False, rich_help_panel=TRAINING),
    ] = None,
    steps: Steps = 50,
    batch_size: BatchSize = None,
    momentum: Momentum = 0.0,
    particles: Particles = 4096,
    limit_runs: LimitRuns = 4,
    error: Annotated[
        float | None,
        typer.Option(
            help="Add runs until no prediction has a larger standard error.", show_default=False, rich_help_panel=LIMIT
        ),
    ] = None,
    max_seconds: Annotated[float, typer.Option(help="With --error: how long to try.", rich_help_panel=LIMIT)] = 600.0,
    widths: Annotated[
        str,
        typer.Option(
            help="Also measure how far networks of these widths are from the limit: 64,256,1024, or 'all' for 64 to "
            "1048576. Beyond 4096 no hidden matrix is formed.",
            show_default=False,
            rich_help_panel=STUDY,
        ),
    ] = "",
    seeds: Annotated[
        int, typer.Option(help="Networks of each width up to 256; fewer beyond.", rich_help_panel=STUDY)
    ] = 256,
    key: Key = 0,
    memory_gb: Memory = None,
    cache: Cache = True,
) -> None:
    """Train at infinite width, with error bars; with --widths, measure how networks approach it."""
    from mupjax.studies.limit.widths import WIDTHS

    settings = {
        "parametrization": parametrization,
        "widths": WIDTHS if widths == "all" else parsing.whole_numbers("widths", widths),
        "learning_rate": learning_rate,
        "depth": depth,
        "activation": activation,
        "base_width": base_width,
        "seeds": seeds,
        "steps": steps,
        "batch_size": batch_size,
        "momentum": momentum,
        "particles": particles,
        "limit_runs": limit_runs,
        "error": error,
        "key": key,
    }
    task_settings = running.task_settings(classes, train_size, test_size, loss, grayscale, standardize, scale, data_dir)
    running.prepare_jax(cache)
    from mupjax.studies.limit import limit as run

    running.compute(partial(run, max_seconds=max_seconds), out, dataset, task_settings, settings, memory_gb)
