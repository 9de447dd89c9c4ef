"""The command line: `mupjax compare`, `mupjax limit` and `mupjax describe`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Never

import typer

from mupjax._options import (
    LIMIT,
    NETWORK,
    STUDY,
    TRAINING,
    ActivationName,
    BaseWidth,
    BatchSize,
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

app = typer.Typer(
    help="Neural networks at finite width, their infinite-width limits, and how far apart they are.",
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
        _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _fail(
            "Expected the runs to fit the machine's memory; take fewer seeds, inputs or units, or a lower --memory-gb."
        )


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if show:
        import mupjax

        print(mupjax.__version__)
        raise typer.Exit


@app.command()
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
    key: Key = 0,
    memory_gb: Memory = 8.0,
) -> None:
    """Train networks of several parametrizations and widths beside their infinite-width limit, and compare."""
    settings = {
        "parametrizations": _names(parametrizations),
        "widths": _widths(widths),
        "learning_rate": _learning_rate(learning_rate),
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
        "key": key,
    }
    task_settings = _task_settings(classes, train_size, test_size, loss, grayscale, standardize, scale, data_dir)
    _one_cpu_device_a_core()
    from mupjax.compare import compare as run

    _compute(run, out, dataset, task_settings, settings, memory_gb)


@app.command()
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
    memory_gb: Memory = 8.0,
) -> None:
    """Train at infinite width, with error bars; with --widths, measure how networks approach it."""
    from mupjax.width_study import WIDTHS

    settings = {
        "parametrization": parametrization,
        "widths": WIDTHS if widths == "all" else _ints("widths", widths),
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
    task_settings = _task_settings(classes, train_size, test_size, loss, grayscale, standardize, scale, data_dir)
    _one_cpu_device_a_core()
    from mupjax.limit import limit as run

    _compute(partial(run, max_seconds=max_seconds), out, dataset, task_settings, settings, memory_gb)


@app.command()
def describe(
    parametrization: Annotated[str, typer.Option(help="sp, ntp, mup or ip.")] = "mup",
    width: Annotated[str, typer.Option(help="Units of the hidden layers; 64x128x64 gives each its own.")] = "256",
    depth: Annotated[int, typer.Option(help="Hidden layers.")] = 3,
    input_dim: Annotated[int, typer.Option(help="Input dimension d.")] = 64,
    out_dim: Annotated[int, typer.Option(help="Outputs C.")] = 1,
    base_width: Annotated[int, typer.Option(help="Width at which the network is the standard one.")] = 1,
    activation: Annotated[str, typer.Option(help="Enters the classification by phi(0) and homogeneity.")] = "tanh",
    learning_rate: Annotated[float, typer.Option(help="Base rate that the multipliers apply to.")] = 1.0,
    biases: Annotated[bool, typer.Option("--biases", help="Give every layer a bias.")] = False,
) -> None:
    """Print the initial standard deviation, multiplier and learning rates of every parameter, and the regime."""
    import jax
    import jax.numpy as jnp

    from mupjax import classification, network
    from mupjax import parametrization as presets

    chosen = presets.get(parametrization, base_width=base_width)
    kind = classification.classify(chosen, depth, activation)
    (one_width,) = _widths(width, "width")
    if input_dim < 1 or out_dim < 1:
        raise ValueError(f"Expected `input_dim` and `out_dim` to be positive, got {input_dim} and {out_dim}.")
    model = network.MLP(one_width, depth, out_dim, chosen, activation, use_bias=biases)
    boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.ones((1, input_dim))))
    columns = [
        "parameter",
        "role",
        "fan_in",
        "fan_out",
        "multiplier",
        "init std",
        "SGD rate",
        "Adam rate",
        "Adam eps x",
    ]
    rows = [
        [
            row["parameter"],
            row["role"],
            str(row["fan_in"]),
            str(row["fan_out"]),
            *(f"{row[field]:.4g}" for field in ("multiplier", "init_std")),
            *(f"{learning_rate * row[field]:.4g}" for field in ("sgd_lr_mult", "adam_lr_mult")),
            f"{row['adam_epsilon_mult']:.4g}",
        ]
        for row in network.describe(network.scaling_tree(boxed))
    ]
    _print_table(columns, rows)
    tp4 = "not defined for this initialisation" if kind.r is None else f"{kind.r:g}"
    print(f"Infinite width, SGD, {activation}, {depth} hidden layers: {kind.kind} (Tensor Programs IV's r: {tp4}).")
    print("Weight decay is decoupled: its product with the base rate applies to every parameter, at every width.")


def _task_settings(
    classes: str,
    train_size: int,
    test_size: str,
    loss: str,
    grayscale: bool,
    standardize: str,
    scale: str,
    data_dir: Path | None,
) -> dict[str, Any]:
    """The options of the panel 'Data' as `datasets.load` takes them."""
    named = {"auto": "auto", "none": None}
    return {
        "classes": None if classes == "all" else _ints("classes", classes),
        "train_size": train_size,
        "test_size": named[test_size] if test_size in named else _int("test_size", test_size),
        "loss": loss,
        "grayscale": grayscale,
        "standardize": _standardize(standardize),
        "scale": scale,
        "data_dir": data_dir,
    }


def _compute(
    run: Callable[..., Any],
    out: Path | None,
    dataset: str,
    task_settings: dict[str, Any],
    settings: dict[str, Any],
    memory_gb: float,
) -> None:
    """Compute a Dataset, or read it where `out` holds it already; print its table, write its report and figures."""
    from mupjax import datasets, plots, report, store
    from mupjax.results import arguments_json

    chosen = {"dataset": dataset, **settings, **task_settings}
    arguments = arguments_json({name: value for name, value in chosen.items() if name != "data_dir"})
    finished = store.check_directory(out, arguments) if out else None
    if finished:
        print(f"{finished} holds these results already; writing their report and figures anew.")
        results = store.read(finished)
    else:
        task = datasets.load(dataset, **task_settings)
        results = run(task, **settings, memory_gb=memory_gb, progress=True)
        results.attrs["arguments"] = arguments
        if out:
            store.write(results, out)
    _print_table(*report.format_table(results))
    if "error_run" in results:
        _print_table(*report.format_width_study(results))
    if out:
        print(f"Report: {report.write(results, out, plots.save_all(results, out))}")


def _fail(message: str) -> Never:
    print(f"mupjax: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _one_cpu_device_a_core() -> None:
    """Runs are shared out over devices, and a run a core beats threads inside a product (benchmarks/dense.py)."""
    import jax

    jax.config.update(
        "jax_num_cpu_devices", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )


def _print_table(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _int(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"Expected `{name}` to hold whole numbers, got {text!r}.") from None


def _ints(name: str, text: str) -> tuple[int, ...]:
    return tuple(_int(name, part) for part in _names(text))


def _widths(text: str, name: str = "widths") -> tuple[int | tuple[int, ...], ...]:
    parsed = (tuple(_int(name, part) for part in entry.split("x")) for entry in _names(text))
    return tuple(entry[0] if len(entry) == 1 else entry for entry in parsed)


def _float(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"Expected `{name}` to be a number, got {text!r}.") from None


def _learning_rate(text: str | None) -> float | dict[str, float] | None:
    if text is None or "=" not in text:
        return None if text is None else _float("learning_rate", text)
    pairs = [entry.partition("=") for entry in _names(text)]
    return {name.strip(): _float("learning_rate", rate) for name, _, rate in pairs}


def _standardize(text: str) -> Any:
    if "," not in text:
        return text
    numbers = tuple(_float("standardize", part) for part in _names(text))
    if len(numbers) != 2:
        raise ValueError(f"Expected `standardize` to be 'mean', 'none' or MEAN,STD, got {text!r}.")
    return numbers


if __name__ == "__main__":
    main()
