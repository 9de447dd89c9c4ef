"""Plans: which runs share a program, how many fit the budget, what is refused. Nothing is compiled here."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from mupjax import devices, optim
from mupjax.parametrization import mup, sp
from mupjax.sweeps.grid import grid_of
from mupjax.sweeps.plan import describe, plan, step_flops, table
from mupjax.sweeps.sweep import SPEC
from mupjax.task import Task

TASK = Task(np.ones((8, 4)), np.ones((8, 1)))
SETTINGS = {
    "parametrizations": ("sp", "mup"),
    "widths": (64, 128, 2048),
    "depths": (2, 3),
    "learning_rates": (0.1, 0.2, 0.4),
    "seeds": 4,
    "optimizers": ("sgd",),
    "steps": 100,
    "batch_size": 4,
    "activation": "tanh",
    "base_width": 1,
    "centred": False,
    "spec": SPEC,
    "padding": "auto",
    "key": jax.random.key(0),
    "memory_gb": 8.0,
}


def planned(platform="cpu", **changes):
    grid = grid_of(TASK, **(SETTINGS | changes))
    return grid, plan(TASK, grid, platform=platform)


def test_cells_share_programs_over_parametrizations_and_cheap_widths():
    grid, found = planned()
    groups = [program.widths for program in found.programs]
    assert groups == [(128, 128), (2048, 2048), (128, 128, 128), (2048, 2048, 2048)]
    assert [program.padded for program in found.programs] == [True, False, True, False]
    assert len(found.cells) == 2 * 2 * 2
    assert found.num_runs == 2 * 2 * 3 * 3 * 4
    assert {cell.name for cell in found.cells} >= {"mup-depth2-sgd-width64+128", "sp-depth3-sgd-width2048"}
    columns, rows = table(found, grid)
    assert len(rows) == len(found.programs)
    assert all(len(row) == len(columns) for row in rows)
    json.dumps(describe(found))


def test_cells_of_any_names_are_files(tmp_path):
    odd = (replace(mup(), name="mup/2 ü"), replace(mup(), name="mup/2 ö"))
    names = [cell.name for cell in planned(parametrizations=odd, widths=(8,), depths=(3,))[1].cells]
    assert len(set(names)) == 2
    for name in names:
        (tmp_path / name).write_text("")


def test_padding_is_weighed_against_compiling():
    """By hand: padding costs the operations of the wider network for every run of the narrower."""
    widths = (64, 256)
    runs = 2 * 3 * 4  # parametrizations x rates x seeds
    narrow, wide = (step_flops(TASK, (n, n), 4) for n in widths)
    cpu = devices.traits("cpu")
    even = cpu.compile_seconds * cpu.flops / (runs * (wide - narrow))  # steps at which both cost the same
    for steps, programs in ((int(0.9 * even), 1), (int(1.1 * even), 2)):
        assert len(planned(widths=widths, depths=(2,), steps=steps)[1].programs) == programs
    assert len(planned(widths=widths, depths=(2,), steps=int(1.1 * even), platform="gpu")[1].programs) == 1
    assert len(planned(padding="never")[1].programs) == 6
    assert len(planned(padding="always")[1].programs) == 2


def test_step_flops_count_every_product():
    d, n, m, batch = 4, 5, 6, 3
    forward, of_kernels, of_inputs = d * n + n * m + m, d * n + n * m + m, n * m + m
    assert step_flops(TASK, (n, m), batch) == 2 * batch * (forward + of_kernels + of_inputs)


def test_the_budget_sets_chunks_of_equal_length_and_the_plan_follows_from_it_alone():
    small = {"platform": "gpu", "widths": (64, 128), "depths": (2,)}
    roomy = planned(**small)[1].programs[0]
    assert (roomy.chunk, roomy.inner) == (24, "vmap")
    one = roomy.result / (4 * 24 + 3 * 24)  # bytes of a run's results: four times of the cell's, three of a call's
    budget = (4 * 24 * one + 0.4 * (roomy.working + 3 * 24 * one)) / 1e9
    tight = planned(memory_gb=budget, **small)[1].programs[0]
    assert tight.chunk == 8  # 24 runs in three calls of 8, not of 9, 9 and 6
    assert tight.working + tight.result <= 1e9 * budget
    assert planned(memory_gb=4.0)[1] == planned(memory_gb=4.0)[1]


def test_an_optimizer_with_more_state_counts_more():
    sgd, adam = (planned(optimizers=(name,))[1].programs[-1].working for name in ("sgd", "adam"))
    parameters = 4 * (4 * 2048 + 2 * 2048**2 + 2048)
    assert adam - sgd == pytest.approx(parameters, rel=0.01)  # two moments, of which the estimate counts one


def test_a_run_that_does_not_fit_is_refused_with_its_size():
    with pytest.raises(ValueError, match=r"fit memory_gb=0.01, got about .* GB for 12 runs of width 2048, \d at once"):
        planned(memory_gb=0.01)


def test_optimizers_of_the_same_settings_are_equal_and_may_be_callables():
    def heavy_ball():
        return {"optimizers": {"sgd": partial(optim.sgd, momentum=0.5)}}

    assert planned(**heavy_ball())[0] == planned(**heavy_ball())[0]
    grid, _ = planned(optimizers=("sgd", optim.adamw), learning_rates={"sgd": (2.0, 1.0), "adamw": (0.1,)})
    assert [name for name, _ in grid.optimizers] == ["sgd", "adamw"]
    assert grid.rates == ((1.0, 2.0), (0.1,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": ()}, "`widths` to name at least one"),
        ({"widths": (8, 8)}, "`widths` to be distinct"),
        ({"widths": (4, (4, 4)), "depths": (2,)}, "`widths` to be distinct"),
        ({"widths": (0,)}, "`width` to be a positive int, got width=0"),
        ({"widths": ((8, 8),)}, "one width for each of 3 layers"),
        ({"depths": ()}, "`depths` to name at least one"),
        ({"depths": (0,)}, "`depth` to be a positive int"),
        ({"parametrizations": (sp(), sp(learning_rate_exponent=0))}, "`parametrizations` to be distinct"),
        ({"parametrizations": (mup(), "mupp")}, "`parametrization` to be one of"),
        ({"learning_rates": ()}, "`learning_rates` to name at least one"),
        ({"learning_rates": (0.1, 0.0)}, "`learning_rates` to be finite and positive, got 0.0"),
        ({"learning_rates": (0.1, float("nan"))}, "`learning_rates` to be finite and positive"),
        ({"learning_rates": {"adam": (0.1,)}}, "`learning_rates` for each of sgd, got them for adam"),
        ({"seeds": 0}, "`seeds` to be a positive int, got seeds=0"),
        ({"steps": 0}, "`steps` to be a positive int"),
        ({"optimizers": ("lion",)}, "`optimizers` to be one of sgd, adam, adamw"),
        ({"optimizers": (lambda scaling, rate: optim.sgd(scaling, rate),)}, "`optimizers` to have names"),
        ({"optimizers": {"sgd": partial(optim.sgd, momentum=1.0)}}, "`momentum` to be in"),
        ({"batch_size": 9}, r"`batch_size` to be in 1\.\.8"),
        ({"padding": "always", "activation": lambda x: jnp.sqrt(jnp.abs(x))}, "got padding='always'"),
        ({"memory_gb": 0.0}, "`memory_gb` to be positive"),
        ({"padding": "some"}, "`padding` to be one of auto, always, never"),
        ({"activation": "tan"}, "`activation` to be one of"),
    ],
)
def test_bad_grids_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        planned(**change)


def test_an_optimizer_that_loses_the_multipliers_is_refused():
    def plain(scaling, learning_rate):
        import optax

        return optax.sgd(learning_rate)

    for widths in ((64, 256), (32, 64)):
        with pytest.raises(ValueError, match="to keep the sgd multiplier"):
            planned(optimizers=(plain,), widths=widths, base_width=64)  # at the base width nothing would be lost


def test_optimizers_of_ones_own_may_name_layers_and_are_not_padded():
    """What averages over a kernel's entries would count absent units."""

    def frozen_start(scaling, learning_rate):
        import optax

        labels = {name: "frozen" if name == "layer_1" else "trained" for name in scaling}
        rest = {name: leaf for name, leaf in scaling.items() if name != "layer_1"}
        kinds = {"frozen": optax.set_to_zero(), "trained": optim.sgd(rest, learning_rate)}
        return optax.multi_transform(kinds, labels)

    _, found = planned(optimizers=(frozen_start,))
    assert not any(program.padded for program in found.programs)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"widths": 64}, TypeError),
        ({"parametrizations": "mup"}, TypeError),
        ({"optimizers": "sgd"}, TypeError),
        ({"learning_rates": ("fast",)}, TypeError),
        ({"batch_size": 2.5}, ValueError),
    ],
)
def test_values_of_another_kind_are_named(change, kind):
    jaxtyping_config.update("jaxtyping_disable", True)  # as users run it: the annotations alone would refuse them
    try:
        with pytest.raises(kind, match=f"`{next(iter(change))}` to be"):
            planned(**change)
    finally:
        jaxtyping_config.update("jaxtyping_disable", False)
