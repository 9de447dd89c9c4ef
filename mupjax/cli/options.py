"""Options that several commands share: groups of them, and single ones. Names in help texts come from their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

import typer

from mupjax.activations import ACTIVATIONS
from mupjax.datasets import NAMES as DATASETS
from mupjax.devices import CPU_GB
from mupjax.optim import OPTIMIZERS
from mupjax.parametrization import PRESETS
from mupjax.studies.cells import DEFAULT_LEARNING_RATE, DEFAULT_LEARNING_RATES
from mupjax.task import Loss

data_option = partial(typer.Option, rich_help_panel="Data")
network_option = partial(typer.Option, rich_help_panel="Network")
training_option = partial(typer.Option, rich_help_panel="Training")
limit_option = partial(typer.Option, rich_help_panel="Infinite width")
study_option = partial(typer.Option, rich_help_panel="Width study")


def one_of(names: Iterable[str]) -> str:
    """Return names as a sentence lists them: "sgd, adam or adamw"."""
    *most, last = names
    return f"{', '.join(most)} or {last}"


def any_of(names: Iterable[str]) -> str:
    """Return what may stand in a list: "Any of sgd, adam or adamw, comma-separated"."""
    return f"Any of {one_of(names)}, comma-separated"


def memory_option(cpu_gb: float) -> Any:
    """Return the option --memory-gb, whose default on CPUs is `cpu_gb`."""
    words = f"{cpu_gb:g} on CPUs, elsewhere what the device has"
    return training_option(help="Refuse runs that need more, in GB.", show_default=words)


def rates_in_words(rates: Mapping[str, float]) -> str:
    """Return the rates of each name: {"sgd": 0.1} is "0.1 (sgd)"."""
    return ", ".join(f"{rate:g} ({name})" for name, rate in rates.items())


def ranges_in_words(rates: Mapping[str, Sequence[float]]) -> str:
    """Return the rates of each name by their ends: {"sgd": (1.0, 2.0, 4.0)} is "3 from 1 to 4 (sgd)"."""
    return ", ".join(f"{len(all_)} from {min(all_):.3g} to {max(all_):.3g} ({name})" for name, all_ in rates.items())


Out = Annotated[
    Path | None, typer.Option(help="Directory for results.zarr, report.html and PNG figures.", show_default=False)
]
DataDir = Annotated[
    Path | None,
    data_option(
        help="Where CIFAR-10 or MNIST files are; given this, nothing is downloaded.",
        envvar="MUPJAX_DATA",
        show_default=False,
    ),
]
Depth = Annotated[int, network_option(help="Hidden layers.")]
Parametrization = Annotated[str, network_option(help=f"{one_of(PRESETS)}.")]
Parametrizations = Annotated[str, network_option(help=f"{any_of(PRESETS)}.")]
Widths = Annotated[str, network_option(help="Units of the hidden layers; 64x128x64 gives each layer its own.")]
Optimizers = Annotated[str, training_option(help=f"{any_of(OPTIMIZERS)}.")]
RATES_HELP = (
    "Base rates: .1,.2,.4; or LOW:HIGH:COUNT in equal ratios; or of each optimizer: 'sgd=.1:1:4;adam=.01:.1:4'."
)
LearningRates = Annotated[str, training_option(help=RATES_HELP)]
Seeds = Annotated[int, training_option(help="Initialisations of each width.")]
Centred = Annotated[bool, training_option(help="Train f - f_0, which starts at zero.")]
Memory = Annotated[float | None, memory_option(CPU_GB)]
DEFAULT_RATE = f"{DEFAULT_LEARNING_RATE:g}, {rates_in_words(DEFAULT_LEARNING_RATES)}"  # of studies without sweeps
Cache = Annotated[bool, training_option(help="Keep compiled programs in the user's cache folder.")]


class Data(NamedTuple):
    """The task: keywords of `datasets.load`, once `parsing.task` has read them."""

    dataset: Annotated[str, data_option(help=f"{one_of(DATASETS)}.")] = "digits"
    classes: Annotated[str, data_option(help="Classes, comma-separated, or 'all'.")] = "0,1"
    train_size: Annotated[int, data_option(help="Training inputs; 0 takes all.")] = 64
    test_size: Annotated[str, data_option(help="Test inputs; 0 takes all, 'none' is no test set, 'auto' 64.")] = "auto"
    loss: Annotated[str, data_option(help=f"{one_of(get_args(Loss))}.")] = "mse"
    grayscale: Annotated[bool, data_option("--grayscale", help="CIFAR-10 in grey (d=1024).")] = False
    standardize: Annotated[
        str, data_option(help="'mean' subtracts the training mean per pixel; 'none'; or 'MEAN,STD'.")
    ] = "mean"
    scale: Annotated[str, data_option(help="'sphere': every input has norm^2 = d; or 'none'.")] = "sphere"
    data_dir: DataDir = None


class Network(NamedTuple):
    """Options shared by a command's networks, beyond their depth and widths."""

    activation: Annotated[str, network_option(help=f"{one_of(ACTIVATIONS)}.")] = "tanh"
    base_width: Annotated[
        str,
        network_option(help="Width at which every parametrization is the standard network; 64x32 has one a layer."),
    ] = "1"


class Training(NamedTuple):
    """How networks and limits are trained."""

    steps: Annotated[int, training_option(help="Updates.")] = 200
    batch_size: Annotated[int | None, training_option(help="Inputs a step sees.", show_default="all")] = None
    momentum: Annotated[float, training_option(help="Of SGD, in [0, 1).")] = 0.0


class Resolution(NamedTuple):
    """The resolution of the feature-learning limit."""

    particles: Annotated[int, limit_option(help="Particles of the feature-learning limit; best a power of two.")] = 512
    limit_runs: Annotated[int, limit_option(help="Independent runs of the limit; they give its error bars.")] = 4


class Running(NamedTuple):
    """Random keys, memory and compiled programs."""

    key: Annotated[int, training_option(help="Seed of the random keys.")] = 0
    memory_gb: Memory = None
    cache: Cache = True
