"""Recording: which stops a plan makes, and that stops which record nothing compute nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mupjax.dynamics.recording import empty, keep, plan_stops, when

# Plans


def test_stops_are_the_union_of_all_wanted_steps_and_the_start():
    stops = plan_stops({"loss": (2, 5, 9), "gram": [5, 7], "every third": range(3, 10, 3)})
    assert stops.step.tolist() == [0, 2, 3, 5, 6, 7, 9]
    assert stops.next_step.tolist() == [2, 3, 5, 6, 7, 9, 9]


def test_slots_are_the_rows_of_every_recording():
    stops = plan_stops({"loss": (2, 5, 9), "gram": [5, 7], "nothing": ()})
    assert stops.step.tolist() == [0, 2, 5, 7, 9]
    assert stops.slots["loss"].tolist() == [-1, 0, 1, -1, 2]
    assert stops.slots["gram"].tolist() == [-1, -1, 0, 1, -1]
    assert stops.slots["nothing"].tolist() == [-1] * 5


def test_a_plan_without_wishes_still_visits_the_start():
    stops = plan_stops({})
    assert (stops.step.tolist(), stops.next_step.tolist(), stops.slots) == ([0], [0], {})


@pytest.mark.parametrize("seed", range(5))
def test_every_recording_finds_its_steps_in_order(seed):
    rng = np.random.default_rng(seed)
    wanted = {name: sorted(rng.choice(30, rng.integers(1, 10), replace=False).tolist()) for name in "abc"}
    stops = plan_stops(wanted)
    for name, steps in wanted.items():
        visited = stops.slots[name] >= 0
        assert stops.step[visited].tolist() == steps
        assert stops.slots[name][visited].tolist() == list(range(len(steps)))
    assert (np.diff(stops.step) > 0).all()
    assert stops.step.dtype == stops.next_step.dtype == np.int32


# Buffers in a training-like scan: the state doubles at every step

WANTED = {"square": (0, 3, 4), "norm": (1, 4)}
NUM_STEPS = 5
START = np.array([1.0, -2.0, 3.0], np.float32)


def record(start, slots=None, on_square=lambda: None):
    """Final state with the kept squares, and norms at every stop; `on_square` is called when a square is computed."""
    stops = plan_stops(WANTED)
    stops = stops if slots is None else stops._replace(slots=slots)

    def square(z):
        jax.debug.callback(lambda _: on_square(), z)
        return {"square": jnp.tanh(z) * z, "first": z[0]}

    def visit(carry, stop):
        z, kept = carry
        norm = when(stop.slots["norm"], lambda: jnp.exp(-jnp.sum(z**2)))
        kept = keep(kept, stop.slots["square"], lambda: square(z))
        return (lax.fori_loop(stop.step, stop.next_step, lambda _, z: 2 * z, z), kept), norm

    rows = len(WANTED["square"])
    return lax.scan(visit, (start, empty(lambda: square(start), rows)), stops)


def expected(start):
    states = {step: start * 2.0**step for step in range(NUM_STEPS + 1)}
    squares = np.stack([np.tanh(states[step]) * states[step] for step in WANTED["square"]])
    norms = [np.exp(-np.sum(states[step] ** 2)) if step in WANTED["norm"] else 0 for step in (0, 1, 3, 4)]
    return states[4], squares, np.array([states[step][0] for step in WANTED["square"]]), np.array(norms)


def assert_recorded(results, starts):
    (z, kept), norms = results
    wanted = zip(*map(expected, starts), strict=True)
    for got, want in zip((z, kept["square"], kept["first"], norms), wanted, strict=True):
        np.testing.assert_allclose(got, np.stack(want), rtol=1e-5)  # float32 tanh and exp of numbers up to 48


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_rows_are_written_at_their_stops_alone(transform):
    results = transform(record)(START)
    assert_recorded(jax.tree.map(lambda leaf: leaf[None], results), [START])


@pytest.mark.parametrize(
    "transform",
    [jax.vmap, lambda f: jax.jit(jax.vmap(f)), lambda f: lambda z: lax.map(f, z)],
    ids=["vmap", "jit(vmap)", "lax.map"],
)
def test_every_run_of_a_batch_records_its_own(transform):
    starts = START * np.array([[1.0], [0.5], [-1.0]], np.float32)
    assert_recorded(transform(record)(starts), starts)


def test_stops_that_record_nothing_compute_nothing_under_vmap():
    """Three runs, four stops, three of them with a square: nine evaluations and not twelve."""
    calls = []
    starts = jnp.asarray(START * np.array([[1.0], [0.5], [-1.0]], np.float32))
    results = jax.jit(jax.vmap(lambda z: record(z, on_square=lambda: calls.append(1))))(starts)
    jax.block_until_ready(results)
    jax.effects_barrier()
    assert len(calls) == 9


def primitives(jaxpr) -> list[tuple[str, int]]:
    """Names of all primitives of a program, those of inner programs too, with the rank of their result."""
    found = []
    for equation in jaxpr.eqns:
        found += [(equation.primitive.name, max((out.aval.ndim for out in equation.outvars), default=0))]
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, tuple) else (parameter,):
                inner = getattr(inner, "jaxpr", inner)
                found += primitives(inner) if hasattr(inner, "eqns") else []
    return found


def test_slots_of_the_plan_stay_branches_under_vmap_and_slots_of_a_run_do_not():
    """With a negative control: were the slots an axis of the runs, both branches would run and one be selected.

    Selections between single numbers do not count: an index is checked for being negative.
    """
    starts = jnp.stack([START, START])
    lazy = primitives(jax.make_jaxpr(jax.vmap(record))(starts).jaxpr)
    assert [name for name, _ in lazy].count("cond") == 2
    assert not [rank for name, rank in lazy if name == "select_n" and rank]
    slots = {name: jnp.stack([rows, rows]) for name, rows in plan_stops(WANTED).slots.items()}
    eager = primitives(jax.make_jaxpr(jax.vmap(record))(starts, slots).jaxpr)
    assert [name for name, _ in eager].count("cond") == 0
    assert [rank for name, rank in eager if name == "select_n" and rank]


def test_empty_has_the_shape_of_the_rows_and_computes_none():
    calls = []

    def make():
        jax.debug.callback(lambda: calls.append(1))
        return {"a": jnp.ones((2, 3)), "b": (jnp.int32(7),)}

    rows = empty(make, 4)
    jax.effects_barrier()
    assert calls == []
    assert rows["a"].shape == (4, 2, 3)
    assert rows["b"][0].shape == (4,)
    assert (rows["a"].dtype, rows["b"][0].dtype) == (np.float32, np.int32)
    assert not rows["a"].any()


def test_when_gives_zeros_of_the_right_kind_where_nothing_is_wanted():
    def make():
        return {"a": jnp.ones((2, 3)), "b": (jnp.int32(7), None)}

    assert jax.tree.map(np.sum, when(jnp.int32(0), make)) == {"a": 6, "b": (7, None)}
    nothing = when(jnp.int32(-1), make)
    assert jax.tree.map(np.sum, nothing) == {"a": 0, "b": (0, None)}
    assert (nothing["a"].dtype, nothing["b"][0].dtype) == (np.float32, np.int32)


def test_keep_leaves_the_buffer_alone_for_slot_minus_one():
    buffer = jnp.arange(6.0).reshape(3, 2)
    assert (keep(buffer, jnp.int32(-1), lambda: jnp.full(2, 9.0)) == buffer).all()
    assert keep(buffer, jnp.int32(1), lambda: jnp.full(2, 9.0)).tolist() == [[0, 1], [9, 9], [4, 5]]
