"""The command `mupjax coord-check`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mupjax.cli import parsing, running
from mupjax.cli.options import (
    NETWORK,
    TRAINING,
    ActivationName,
    Cache,
    Classes,
    DataDir,
    Dataset,
    Depth,
    Grayscale,
    Key,
    Loss,
    Memory,
    Out,
    Scale,
    Standardize,
    TrainSize,
)


def coord_check(
    out: Out = None,
    dataset: Dataset = "digits",
    classes: Classes = "all",
    train_size: TrainSize = 64,
    loss: Loss = "cross_entropy",
    grayscale: Grayscale = False,
    standardize: Standardize = "mean",
    scale: Scale = "sphere",
    data_dir: DataDir = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="'package.module:function' from a width to a Flax linen module, called on inputs [N, d]; by default "
            "the library's MLP.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None,
    parametrization: Annotated[
        str, typer.Option(help="Of the library's MLP: mup, sp, ntp or ip.", rich_help_panel=NETWORK)
    ] = "mup",
    widths: Annotated[str, typer.Option(help="Ascending.", rich_help_panel=NETWORK)] = "64,128,256,512,1024",
    depth: Depth = 3,
    activation: ActivationName = "tanh",
    base_width: Annotated[
        int, typer.Option(help="Width at which every parametrization is the standard network.", rich_help_panel=NETWORK)
    ] = 64,
    optimizer: Annotated[
        str,
        typer.Option(
            help="sgd, adam, adamw, or 'package.module:function' of (scaling, learning_rate), of (learning_rate) where "
            "the model's parameters carry no scaling.",
            rich_help_panel=TRAINING,
        ),
    ] = "sgd",
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Base rate. By default .1 for sgd, .01 for adam.", show_default=False, rich_help_panel=TRAINING
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Initialisations of each width.", rich_help_panel=TRAINING)] = 16,
    steps: Annotated[int, typer.Option(help="Updates, all on one batch.", rich_help_panel=TRAINING)] = 3,
    centred: Annotated[bool, typer.Option(help="Train f - f_0.", rich_help_panel=TRAINING)] = True,
    control: Annotated[
        bool,
        typer.Option(help="Also check a standard network with one rate, which must fail.", rich_help_panel=NETWORK),
    ] = True,
    key: Key = 0,
    memory_gb: Memory = None,
    cache: Cache = True,
) -> None:
    """Check that coordinates and their changes keep their size as width grows; exit code 1 where that is not shown."""
    settings: dict[str, Any] = {
        "parametrization": parametrization,
        "widths": parsing.whole_numbers("widths", widths),
        "depth": depth,
        "activation": activation,
        "base_width": base_width,
        "learning_rate": learning_rate,
        "seeds": seeds,
        "steps": steps,
        "centred": centred,
        "control": control,
        "key": key,
    }
    task_settings = running.task_settings(classes, train_size, "none", loss, grayscale, standardize, scale, data_dir)
    running.prepare_jax(cache)
    from mupjax import datasets
    from mupjax.results import arguments_json, store
    from mupjax.statistics import REPRODUCED
    from mupjax.studies.coordinates import coord_check as run
    from mupjax.studies.coordinates import judge

    chosen = {"model": model, "optimizer": optimizer, "dataset": dataset, **settings, **task_settings}
    chosen |= {f"{name}_source": parsing.source(name, chosen[name]) for name in ("model", "optimizer")}
    arguments = arguments_json({name: value for name, value in chosen.items() if name != "data_dir"})
    finished = store.check_directory(out, arguments) if out else None
    if finished:
        print(f"{finished} holds these results already; writing their report and figures anew.")
        results = store.read(finished)
    else:
        results = run(
            None if model is None else parsing.imported("model", model),
            task=datasets.load(dataset, **task_settings),
            optimizer=parsing.imported("optimizer", optimizer) if ":" in optimizer else optimizer,
            **settings,
            memory_gb=memory_gb,
            progress=True,
        )
        results.attrs["arguments"] = arguments
        if out:
            store.write(results, out)
    verdicts = judge(results)
    running.show(results, out, verdicts)
    if any(verdict.verdict != REPRODUCED for verdict in verdicts):
        raise typer.Exit(1)
