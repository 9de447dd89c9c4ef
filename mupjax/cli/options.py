"""Options that several commands of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DATA, NETWORK, TRAINING, LIMIT, STUDY = "Data", "Network", "Training", "Infinite width", "Width study"

Out = Annotated[
    Path | None, typer.Option(help="Directory for results.zarr, report.html and PNG figures.", show_default=False)
]
Dataset = Annotated[str, typer.Option(help="digits, cifar10, mnist or synthetic.", rich_help_panel=DATA)]
Classes = Annotated[str, typer.Option(help="Classes, comma-separated, or 'all'.", rich_help_panel=DATA)]
TrainSize = Annotated[int, typer.Option(help="Training inputs; 0 takes all.", rich_help_panel=DATA)]
TestSize = Annotated[
    str, typer.Option(help="Test inputs; 0 takes all, 'none' is no test set, 'auto' 64.", rich_help_panel=DATA)
]
Loss = Annotated[str, typer.Option(help="mse or cross_entropy.", rich_help_panel=DATA)]
Grayscale = Annotated[bool, typer.Option("--grayscale", help="CIFAR-10 in grey (d=1024).", rich_help_panel=DATA)]
Standardize = Annotated[
    str,
    typer.Option(help="'mean' subtracts the training mean per pixel; 'none'; or 'MEAN,STD'.", rich_help_panel=DATA),
]
Scale = Annotated[str, typer.Option(help="'sphere': every input has norm^2 = d; or 'none'.", rich_help_panel=DATA)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Where CIFAR-10 or MNIST files are; given this, nothing is downloaded.",
        envvar="MUPJAX_DATA",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Depth = Annotated[int, typer.Option(help="Hidden layers.", rich_help_panel=NETWORK)]
ActivationName = Annotated[str, typer.Option(help="tanh, relu, gelu, silu, erf, ...", rich_help_panel=NETWORK)]
BaseWidth = Annotated[
    int, typer.Option(help="Width at which every parametrization is the standard network.", rich_help_panel=NETWORK)
]
Steps = Annotated[int, typer.Option(help="SGD updates.", rich_help_panel=TRAINING)]
BatchSize = Annotated[
    int | None, typer.Option(help="Inputs a step sees; by default all.", show_default=False, rich_help_panel=TRAINING)
]
Momentum = Annotated[float, typer.Option(help="Of SGD, in [0, 1).", rich_help_panel=TRAINING)]
Key = Annotated[int, typer.Option(help="Seed of the random keys.", rich_help_panel=TRAINING)]
Memory = Annotated[
    float | None,
    typer.Option(
        help="Refuse runs that need more, in GB; by default 8 (reproduce 20) on CPUs, else what the device has.",
        show_default=False,
        rich_help_panel=TRAINING,
    ),
]
Particles = Annotated[
    int, typer.Option(help="Particles of the feature-learning limit; powers of two are best.", rich_help_panel=LIMIT)
]
Cache = Annotated[
    bool, typer.Option(help="Keep compiled programs in the user's cache folder.", rich_help_panel=TRAINING)
]
LimitRuns = Annotated[
    int, typer.Option(help="Independent runs of the limit; they give its error bars.", rich_help_panel=LIMIT)
]
