"""`mupjax compare`: finite networks beside their infinite-width limits."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from mupjax.cli import options, parsing, running
from mupjax.cli.command import Command, keywords


class Study(NamedTuple):
    """Options of `mupjax.compare` beyond the task, the key and the memory."""

    parametrizations: options.Parametrizations = "sp,ntp,mup,ip"
    widths: options.Widths = "64,256,1024"
    depth: options.Depth = 3
    network: options.Network = options.Network()
    learning_rate: Annotated[
        str | None,
        options.training_option(help="Base rate, or 'mup=1,ntp=.3'.", show_default=options.DEFAULT_RATE),
    ] = None
    seeds: options.Seeds = 3
    training: options.Training = options.Training()
    centred: options.Centred = True
    limit: Annotated[bool, options.limit_option(help="Compute the infinite-width rows.")] = True
    resolution: options.Resolution = options.Resolution()
    linearize: Annotated[
        bool, options.training_option("--linearize", help="Train the networks' first-order models.")
    ] = False
    matrix_free_from: Annotated[
        int | None,
        options.network_option(help="Train networks at least this wide without hidden matrices.", show_default=False),
    ] = None
    max_directions: Annotated[
        int | None,
        options.limit_option(
            help="Maximum number of query directions kept per hidden matrix (matrix-free networks and the "
            "feature-learning limit).",
            show_default=False,
        ),
    ] = None
    gram_steps: Annotated[
        str, options.training_option(help="Steps at which features are measured; -1 is the last.")
    ] = "0,-1"


class Compare(NamedTuple):
    """The options of `mupjax compare`."""

    out: options.Out = None
    data: options.Data = options.Data()
    study: Study = Study()
    running: options.Running = options.Running()


def compare(given: Compare) -> None:
    """Compare finite networks with their infinite-width limits.

    Networks of several parametrizations and widths are trained beside the limit of each parametrization.
    """
    study = given.study
    settings = keywords(study) | {
        "parametrizations": parsing.names(study.parametrizations),
        "widths": parsing.widths(study.widths),
        "learning_rate": parsing.learning_rate(study.learning_rate),
        "base_width": parsing.base_width(study.network.base_width),
        "gram_steps": parsing.whole_numbers("gram_steps", study.gram_steps),
        "key": given.running.key,
    }
    settings |= parsing.optimizer(settings.pop("momentum"))
    running.prepare_jax(given.running.cache)
    from mupjax.studies.comparison import compare as run

    running.compute(run, given.out, given.data, settings, given.running.memory_gb)


COMMAND = Command(compare, Compare(), example="mupjax compare --widths 16,64 --steps 20 --batch-size 8 --out compared")
