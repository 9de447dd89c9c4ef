"""Time a device beside PyTorch with mup, its own rates and the goals; say what bounds a stage that misses one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import device_bounds as bounds
import jax
import jax.numpy as jnp
import limit_example
import numpy as np
from baselines import BATCH_SIZE, DEPTH, INPUT_DIM, NUM_TRAIN, flops, num_parameters, torch_loop
from device_bounds import Session

from mupjax import devices
from mupjax.dynamics import dense, feature_limit, kernel_limit, matrix_free
from mupjax.dynamics._kernels import QUADRATURE_DEGREE
from mupjax.dynamics.runs import map_runs, run_key
from mupjax.parametrization import mup, ntp
from mupjax.sweeps.grid import grid_of
from mupjax.sweeps.plan import Plan, plan
from mupjax.sweeps.sweep import RATES, SPEC, sweep
from mupjax.task import Task, batch_order
from mupjax.trajectory import TrajectorySpec

# Runs and steps by width: some tenths of a second on an H100.
SHAPES = {64: (256, 400), 512: (64, 100), 2048: (16, 50), 8192: (4, 10)}
SMALL_SHAPES = {8: (4, 3)}
SETTINGS = {"depth": 3, "learning_rate": 1.0, "steps": 12}
GRID = {"parametrizations": ("sp", "ntp", "mup", "ip"), "depths": (DEPTH,), "batch_size": BATCH_SIZE}


class Trained(NamedTuple):
    """call: trains all runs. hlo: the compiled program. compile_seconds: what it took."""

    call: Callable[[], Any]
    hlo: str
    compile_seconds: float


def random_task() -> Task:
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((NUM_TRAIN, INPUT_DIM))
    return Task(inputs, generator.choice([-1.0, 1.0], (NUM_TRAIN, 1)))


def grid(session: Session) -> Iterator[str]:
    """Time the sweep's grid beside a loop of PyTorch with mup on the same card."""
    task = random_task()
    widths, seeds, steps, rates = ((8, 16), 1, 3, RATES[:2]) if session.small else ((64, 128, 256, 512), 8, 200, RATES)
    settings = GRID | {"widths": widths, "learning_rates": rates, "seeds": seeds, "steps": steps}
    planned = plan_of(task, settings)

    def ours() -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "ip at depth", UserWarning)  # a deep IP network is part of the grid
            return sweep(task, **settings)

    (first, data), peak = bounds.peak(partial(bounds.once, ours), planned_bytes(planned))
    again = bounds.once(ours)[0]
    runs = data.train_loss.isel(step=0).size
    yield (
        f"- The grid: sp, ntp, mup, ip x widths {', '.join(map(str, widths))} x {len(rates)} rates x {seeds} seeds, "
        f"{steps} steps of batch {BATCH_SIZE}, {runs} runs in {len(planned.programs)} programs: {first:.1f} s with "
        f"compiling, {again:.2f} s again."
    )
    yield session.memory("the grid", peak)
    theirs, about = torch_seconds(widths, steps * runs // len(widths)) if session.measured else (None, "")
    if about:
        yield about
    times = theirs and theirs / again
    yield session.at_least("the grid: times PyTorch + mup", 20.0, times, ".1f")
    yield session.at_least("the grid, compiling included: times PyTorch + mup", 20.0, theirs and theirs / first, ".1f")
    if session.measured and not (times and times >= 20):
        work, kernels = 0.0, 0
        for program in planned.programs:
            cells = [cell for cell in planned.cells if planned.programs[cell.program] == program]
            work += sum(cell.flops for cell in cells)
            calls = len(cells) * math.ceil(len(cells[0].widths) * len(rates) * seeds / program.chunk)
            kernels += calls * bounds.launches(trained(program.widths[0], program.chunk, steps, program.inner).hlo)
        moved = 12 * work / (2 * 3 * BATCH_SIZE)  # a weight is read twice and written once a step
        yield bounds.bound("the grid, padding included", again, work, moved, session.rates, kernels)


def plan_of(task: Task, settings: dict[str, Any]) -> Plan:
    rest = {"activation": "tanh", "base_width": 1, "centred": False, "padding": "auto", "key": jax.random.key(0)}
    return plan(task, grid_of(task, optimizers=("sgd",), spec=SPEC, memory_gb=None, **rest, **settings))


def planned_bytes(planned: Plan) -> float:
    return max(program.working + program.result for program in planned.programs)


def torch_seconds(widths: tuple[int, ...], run_steps: int) -> tuple[float | None, str]:
    """Seconds that PyTorch's loop takes for so many steps at every width, one run after the other, and words on it."""
    with torch_loop("cuda") as loop:
        a_step = [loop.milliseconds(width, 200) for width in widths]
    if any(sample is None for sample in a_step):
        return None, "- PyTorch + mup: not measured (not installed, or it sees no GPU)."
    each = ", ".join(f"{sample:.3f}" for sample in a_step)
    total = 1e-3 * sum(a_step) * run_steps
    return total, (
        f"- PyTorch + mup on the card ({loop.about}): {each} ms a step and run, widths in order, one run after the "
        f"other; {total:.0f} s for the grid, initial weights and evaluations not counted."
    )


def trained(width: int, runs: int, steps: int, inner: str) -> Trained:
    """Compile a program that trains so many runs."""
    task = random_task()
    batches = batch_order(jax.random.key(0), NUM_TRAIN, BATCH_SIZE, steps)
    keys = jnp.stack([run_key(jax.random.key(0), seed, width) for seed in range(runs)])

    def run(key: jax.Array, task: Task, batches: Any) -> Any:
        settings = {"width": width, "depth": DEPTH, "learning_rate": 0.1, "steps": steps, "spec": SPEC}
        return dense.train(task, mup(), key=key, batches=batches, **settings).train_loss

    def compiled() -> Any:
        fn = jax.jit(lambda runs, *shared: map_runs(run, runs, *shared, inner=inner))
        return fn.lower(keys, task, batches).compile()

    took, program = bounds.once(compiled)
    return Trained(partial(program, keys, task, batches), program.as_text(), took)


def matrix_rate(session: Session) -> Iterator[str]:
    """Share of the card's matrix rate at each width: runs vmapped, in quarters, mapped; float32 and TF32."""
    rates, inner, repeats = session.rates, devices.traits().inner, 1 if session.small else 2
    yield (
        f"- Rates: float32 {rates.float32 / 1e12:.1f} and TF32 {rates.tf32 / 1e12:.1f} TFLOP/s (square products), "
        f"{rates.bandwidth / 1e12:.2f} TB/s read and written. Below, milliseconds a step and run; planned: {inner}.\n"
    )
    yield (
        "| width | runs | vmap | quarters | map | share of float32 rate | TF32, vmap; share of its rate "
        "| share of the bandwidth, for weights | kernels a step | compile, s |"
    )
    yield f"|{'---|' * 10}"
    judged = []
    for width, (runs, steps) in (SMALL_SHAPES if session.small else SHAPES).items():
        sizes = {"vmap": (runs, "vmap"), "quarters": (max(1, runs // 4), "vmap"), "map": (max(1, runs // 4), "map")}
        programs = {name: trained(width, count, steps, how) for name, (count, how) in sizes.items()}
        took = {name: bounds.seconds(programs[name].call, repeats) / steps / sizes[name][0] for name in sizes}
        with jax.default_matmul_precision("tensorfloat32"):
            tf32 = bounds.seconds(trained(width, runs, steps, "vmap").call, repeats) / steps / runs
        planned = took[inner]
        share = flops(width) / planned / rates.float32
        weights = 12 * num_parameters(width) / planned / rates.bandwidth  # read twice, written once
        cells = [width, runs, *(f"{1e3 * took[name]:.4f}" for name in sizes), f"{share:.1%}"]
        cells += [f"{1e3 * tf32:.4f}; {flops(width) / tf32 / rates.tf32:.1%}", f"{weights:.1%}"]
        cells += [f"{bounds.launches(programs[inner].hlo) / steps:.0f}"]
        cells += [", ".join(f"{program.compile_seconds:.1f}" for program in programs.values())]
        yield f"| {' | '.join(map(str, cells))} |"
        judged.append((width, planned / min(took.values()), max(share, weights)))
    yield ""
    for width, ratio, share in judged:
        yield session.at_most(f"width {width}: time of the planned mapping of runs / of the best", 1.1, ratio, ".2f")
        # A step multiplies by the weights, and reads and writes them: the nearer of the two bounds is the device's.
        yield session.at_least(f"width {width}: share of the nearer bound", 0.5, share)


def limit(session: Session, particles: int, error: float, seconds: float) -> Iterator[str]:
    """Time the feature-learning limit of the worked example to a standard error."""
    task, particles = limit_example.task(), 256 if session.small else particles

    def train(reach: float) -> Any:
        settings = SETTINGS | {"num_particles": particles, "key": jax.random.key(0), "max_seconds": 4 * seconds}
        return feature_limit.train(task, mup(), error=reach, **settings)

    runs = feature_limit.PILOT_RUNS
    estimate = feature_limit.estimate_bytes(task, depth=3, steps=12, num_particles=particles, num_runs=runs)
    (first, _), peak = bounds.peak(partial(bounds.once, partial(train, 1.0)), estimate)
    yield f"- First call, of {runs} runs of {particles:,} particles: {first:.1f} s."
    yield session.memory(f"the limit, {runs} runs of {particles:,} particles", peak)
    took, run = bounds.once(partial(train, 0.1 if session.small else error))
    yield (
        f"- Limit to {error:g}: {took:.2f} s, {run.info.num_runs} runs, standard error of f at most "
        f"{np.max(run.stderr.predictions):.1e}."
    )
    yield session.at_most(f"limit to {error:g}: s, compiled", seconds, took, ".2f")
    if session.measured and took > seconds:
        yield implicit_bound(
            "the limit", took, task, particles, 12, run.info.num_runs, run.info.num_runs // runs, session
        )


def limit_coarse(session: Session) -> Iterator[str]:
    return limit(session, 2**17, 1e-4, 1.0)


def limit_fine(session: Session) -> Iterator[str]:
    return limit(session, 2**20, 1e-5, 60.0)


def implicit_bound(
    what: str, took: float, task: Task, width: int, steps: int, runs: int, calls: int, session: Session
) -> str:
    """Count the columns in use that all queries pass over (8 passes for each of 4 a step), and the kernels."""
    moved = 8 * 4 * steps * (steps * task.num_train / 2) * width * 4 * runs
    work = 2 * task.num_train * moved / 4

    def run(key: jax.Array) -> Any:
        return matrix_free.train(task, mup(), width=width, key=key, **(SETTINGS | {"steps": steps})).train_loss

    kernels = calls * bounds.launches(jax.jit(run).lower(jax.random.key(0)).compile().as_text())
    return bounds.bound(what, took, work, moved, session.rates, kernels)


def wide(session: Session, width: int, steps: int, task: Task, seconds: float | None) -> Iterator[str]:
    """Time a network without its hidden matrices."""
    width, steps = (64, 2) if session.small else (width, steps)
    settings = SETTINGS | {"steps": steps, "learning_rate": 0.5, "width": width}
    estimate = sum(matrix_free.estimate_bytes(task, width=width, depth=3, steps=steps))

    def train(seed: int) -> Any:
        return matrix_free.train(task, mup(), key=jax.random.key(seed), **settings).train_loss

    (first, losses), peak = bounds.peak(partial(bounds.once, partial(train, 0)), estimate)
    name = f"width {width:,}, {steps} steps of {task.num_train} samples"
    yield f"- {name}: {first:.1f} s with compiling; loss {losses[0]:.4f} to {losses[-1]:.4f}."
    yield session.at_least(f"{name}: share of losses that are finite", 1.0, float(np.mean(np.isfinite(losses))), ".0f")
    yield session.memory(name, peak)
    took = bounds.once(partial(train, 1))[0]
    yield f"- {name}: {took:.1f} s again."
    if seconds is not None:
        yield session.at_most(f"{name}: s, compiled", seconds, took)
        if session.measured and took > seconds:
            yield implicit_bound(name, took, task, width, steps, 1, 1, session)


def wide_short(session: Session) -> Iterator[str]:
    return wide(session, 10_000_000, 12, limit_example.task(), None)


def wide_long(session: Session) -> Iterator[str]:
    generator = np.random.default_rng(3)
    ten = Task(generator.standard_normal((10, 10)), generator.choice([-1.0, 1.0], (10, 1)))
    return wide(session, 1_000_000, 100, ten, 60.0)


def kernel(session: Session) -> Iterator[str]:
    """Time NNGP and NTK of 10,000 inputs of CIFAR-10's shape, tanh, three hidden layers."""
    num, dim = (12, 16) if session.small else (10_000, 3072)
    inputs = np.random.default_rng(0).standard_normal((num, dim), np.float32)
    inputs *= dim**0.5 / np.linalg.norm(inputs, axis=1, keepdims=True)
    task = Task(inputs, np.ones((num, 1)))
    estimate = kernel_limit.estimate_bytes(task, depth=3, steps=1, centred=True)

    def call() -> Any:
        return kernel_limit.kernels(inputs, ntp(), depth=3).ntk

    (first, ntk), peak = bounds.peak(partial(bounds.once, call), estimate)
    nodes = 3 * float(num) ** 2 * QUADRATURE_DEGREE**2  # of the quadrature, in all layers
    yield (
        f"- NNGP and NTK of {num:,} Gaussian inputs of CIFAR-10's shape ({dim} numbers, norm^2 = d), tanh, depth 3: "
        f"{first:.1f} s with compiling; {nodes / first / 1e9:.2f} billion nodes of the quadrature a second, where the "
        f"device computes {session.rates.tanh64 / 1e9:.2f} billion tanh in float64; mean diagonal of the NTK "
        f"{np.mean(np.diag(ntk)):.3f}."
    )
    yield session.at_most(f"NNGP/NTK of {num:,} inputs: s, compiling included", 30.0, first)
    yield session.memory("the kernels", peak)
    yield f"- Again: {bounds.once(call)[0]:.1f} s."


def shared(session: Session) -> Iterator[str]:
    """Compare runs that several devices share with the same on one."""
    count, task = len(devices.local_devices()), random_task()
    keys = jax.random.split(jax.random.key(0), count + 1)  # uneven

    def run(key: jax.Array, task: Task) -> Any:
        spec = TrajectorySpec(grams=())
        settings = {"width": 8, "depth": 2, "learning_rate": 0.1, "steps": 3, "key": key, "spec": spec}
        return dense.train(task, mup(), **settings).train_loss

    together = np.asarray(map_runs(run, keys, task))
    with jax.default_device(devices.local_devices()[0]):
        alone = np.asarray(map_runs(run, keys, task))
    off = float(np.max(np.abs(together - alone) / np.abs(alone)))
    yield f"- {count} devices share {count + 1} runs: largest relative difference from one device {off:.1e}."
    # Vmapped, a device's batch has another size than the whole one's: other kernels, float32 rounding over 3 steps.
    bound = 0.0 if devices.traits().inner == "map" else 1e-5
    what = "several devices: difference from one"
    yield bounds.goals.at_most(what, bound, off if count > 1 else None, ".1e")
