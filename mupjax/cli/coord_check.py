"""`mupjax coord-check`: whether coordinates keep their size as the width grows."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from mupjax.cli import options, parsing, running
from mupjax.cli.command import Command, keywords
from mupjax.optim import OPTIMIZERS
from mupjax.parametrization import PRESETS
from mupjax.studies.coordinates.measured import RATES


class Study(NamedTuple):
    """Options of `mupjax.coord_check` beyond the task, the key and the memory."""

    model: Annotated[
        str | None,
        options.network_option(
            help="'package.module:function' from a width to a Flax linen module, called on inputs [N, d].",
            show_default="the library's MLP",
        ),
    ] = None
    parametrization: Annotated[
        str, options.network_option(help=f"Of the library's MLP: {options.one_of(PRESETS)}.")
    ] = "mup"
    widths: Annotated[str, options.network_option(help="Ascending.")] = "64,128,256,512"
    depth: options.Depth = 3
    network: options.Network = options.Network(base_width="64")
    optimizer: Annotated[
        str,
        options.training_option(
            help=f"{', '.join(OPTIMIZERS)}, or 'package.module:function' of (scaling, learning_rate), of "
            "(learning_rate) where the model's parameters carry no scaling."
        ),
    ] = "sgd"
    learning_rate: Annotated[
        float | None,
        options.training_option(help="Base rate.", show_default=options.rates_in_words(RATES)),
    ] = None
    seeds: options.Seeds = 8
    steps: Annotated[int, options.training_option(help="Updates, all on one batch.")] = 3
    centred: options.Centred = True
    control: Annotated[
        bool, options.network_option(help="Also check a standard network with one rate, which must fail.")
    ] = True


class CoordCheck(NamedTuple):
    """The options of `mupjax coord-check`."""

    out: options.Out = None
    data: options.Data = options.Data(classes="all", test_size="none", loss="cross_entropy")
    study: Study = Study()
    running: options.Running = options.Running()


def coord_check(given: CoordCheck) -> None:
    """Check that coordinates keep their size as the width grows.

    Their changes in training, and what each layer itself learns, must keep it too. The exit code is 1 where that is not
    shown, or where a layer was not measured.
    """
    study = given.study
    settings = keywords(study) | {
        "widths": parsing.whole_numbers("widths", study.widths),
        "base_width": parsing.base_width(study.network.base_width),
        "key": given.running.key,
    }
    task_settings = parsing.task(given.data)
    running.prepare_jax(given.running.cache)
    from mupjax import datasets
    from mupjax.statistics import REPRODUCED
    from mupjax.studies.coordinates import coord_check as run
    from mupjax.studies.coordinates import judge

    sources = {f"{name}_source": parsing.source(name, settings[name]) for name in ("model", "optimizer")}
    model, optimizer = settings.pop("model"), settings.pop("optimizer")
    running.say_what_is_there(given.out)
    results = run(
        None if model is None else parsing.imported("model", model),
        task=datasets.load(given.data.dataset, **task_settings),
        optimizer=parsing.imported("optimizer", optimizer) if ":" in optimizer else optimizer,
        **settings,
        memory_gb=given.running.memory_gb,
        out=given.out,
        about=parsing.about(given.data) | sources | {"model": model},
        progress=True,
    )
    verdicts = judge(results)
    running.show(results, given.out, verdicts)
    if any(verdict.verdict != REPRODUCED for verdict in verdicts):
        raise typer.Exit(1)


COMMAND = Command(
    coord_check,
    CoordCheck(),
    example="mupjax coord-check --parametrization mup --widths 64,128,256 --out check",
    without=("test_size",),  # a check has no test set
)
