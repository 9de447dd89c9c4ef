"""`mupjax limit`: infinite width with error bars, and how networks approach it."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from mupjax.cli import options, parsing, running
from mupjax.cli.command import Command, keywords
from mupjax.studies.limit.widths import WIDTHS


class Study(NamedTuple):
    """Options of `mupjax.limit` beyond the task, the key and the memory."""

    parametrization: options.Parametrization = "mup"
    depth: options.Depth = 3
    network: options.Network = options.Network()
    learning_rate: Annotated[
        float | None, options.training_option(help="Base rate.", show_default=options.DEFAULT_RATE)
    ] = None
    training: options.Training = options.Training(steps=50)
    resolution: options.Resolution = options.Resolution(particles=4096)
    error: Annotated[
        float | None,
        options.limit_option(help="Add runs until no prediction has a larger standard error.", show_default=False),
    ] = None
    max_seconds: Annotated[float, options.limit_option(help="With --error: how long to try.")] = 600.0
    widths: Annotated[
        str,
        options.study_option(
            help="Also measure how far networks of these widths are from the limit: 64,256,1024, or 'all' for "
            f"{WIDTHS[0]} to {WIDTHS[-1]}. Beyond 4096 no hidden matrix is formed.",
            show_default=False,
        ),
    ] = ""
    seeds: Annotated[int, options.study_option(help="Networks of each width up to 256; fewer beyond.")] = 256


class Limit(NamedTuple):
    """The options of `mupjax limit`."""

    out: options.Out = None
    data: options.Data = options.Data(train_size=16, test_size="none")
    study: Study = Study()
    running: options.Running = options.Running()


def limit(given: Limit) -> None:
    """Train at infinite width, with error bars.

    With --widths, also measure how finite networks approach the limit.
    """
    study = given.study
    settings = keywords(study) | {
        "widths": WIDTHS if study.widths == "all" else parsing.whole_numbers("widths", study.widths),
        "base_width": parsing.base_width(study.network.base_width),
        "key": given.running.key,
    }
    settings |= parsing.optimizer(settings.pop("momentum"))
    running.prepare_jax(given.running.cache)
    from mupjax.studies.limit import limit as run

    running.compute(run, given.out, given.data, settings, given.running.memory_gb)


COMMAND = Command(limit, Limit(), example="mupjax limit --train-size 4 --steps 10 --particles 256 --out infinite")
