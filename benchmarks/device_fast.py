"""How fast is a device? Each stage: lines, goals, and, where a goal is missed, what bounds it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import device_bounds as bounds
import goals
import jax
import jax.numpy as jnp
import numpy as np
from baselines import BATCH_SIZE, DEPTH, INPUT_DIM, NUM_TRAIN, flops, num_parameters, torch_loop
from device_bounds import Rates
from device_right import worked_example

from mupjax import devices
from mupjax.dynamics import dense, feature_limit, kernel_limit, matrix_free
from mupjax.parametrization import mup, ntp
from mupjax.runs import map_runs, run_key
from mupjax.sweep import RATES, sweep
from mupjax.task import Task, batch_order
from mupjax.trajectory import TrajectorySpec

SPEC = TrajectorySpec(steps=(0, -1), grams=())
# Runs and steps by width: some tenths of a second on an H100.
SHAPES = {64: (256, 400), 512: (64, 100), 2048: (16, 50), 8192: (4, 10)}
SMALL_SHAPES = {8: (4, 3)}
SETTINGS = {"depth": 3, "learning_rate": 1.0, "num_steps": 12}


class Measured:
    """What stages share. measured: whether goals of an accelerator count; rates: of the card."""

    def __init__(self, small: bool) -> None:
        self.small, self.measured = small, devices.platform() != "cpu"
        self.side = 64 if small else 8192
        self.rates = bounds.rates(self.side, 2**12 if small else 2**28)

    def at_most(self, what: str, bound: float, figure: float | None, form: str = ".1f") -> str:
        return goals.at_most(what, bound, figure if self.measured else None, form)

    def at_least(self, what: str, bound: float, figure: float | None, form: str = ".2f") -> str:
        return goals.at_least(what, bound, figure if self.measured else None, form)

    def memory(self, what: str, peak: bounds.Peak) -> str:
        ratio = peak.ratio if self.measured else None
        within = ratio is not None and 0.5 <= ratio <= 2
        return goals.goal(f"memory of {what}: estimated / real in .5..2", ratio, f"{ratio or 0:.2f}", within)


def random_task() -> Task:
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((NUM_TRAIN, INPUT_DIM))
    return Task(inputs, generator.choice([-1.0, 1.0], (NUM_TRAIN, 1)))


def grid(of: Measured) -> tuple[list[str], list[str]]:
    """The sweep's grid beside a loop of PyTorch with mup on the same card."""
    task = random_task()
    widths, seeds, steps = ((8, 16), 1, 3) if of.small else ((64, 128, 256, 512), 8, 200)
    settings = {"widths": widths, "learning_rates": RATES[:2] if of.small else RATES, "seeds": seeds, "steps": steps}
    settings |= {"parametrizations": ("sp", "ntp", "mup", "ip"), "depths": (DEPTH,), "batch_size": BATCH_SIZE}

    def ours() -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "ip at depth", UserWarning)  # a deep IP network is part of the grid
            return sweep(task, **settings)

    first, found = bounds.once(ours)
    again = min(bounds.once(ours)[0] for _ in range(1 if of.small else 2))
    runs = found.train_loss.isel(step=0).size
    theirs, about = None, "PyTorch + mup: not measured"
    if of.measured:
        loop = torch_loop("cuda")
        a_step = [loop.milliseconds(width, 200) for width in widths]
        loop.close()
        if all(sample is not None for sample in a_step):
            theirs = 1e-3 * sum(a_step) * steps * runs / len(widths)
            each = ", ".join(f"{sample:.3f}" for sample in a_step)
            about = f"PyTorch + mup on {loop.about.split(',')[0]}: {each} ms a step and run at these widths, one run "
            about += f"after the other, initial weights and evaluations not counted; {theirs:.0f} s for the grid"
    sizes = f"widths {', '.join(map(str, widths))} x {len(settings['learning_rates'])} rates x {seeds} seeds"
    lines = [
        f"- The grid: sp, ntp, mup, ip x {sizes}, {steps} steps of batch {BATCH_SIZE}, {runs} runs: {first:.1f} s with "
        f"compiling, {again:.2f} s again. {about}."
    ]
    times = None if theirs is None else theirs / again
    found = [
        of.at_least("the grid: times PyTorch + mup", 20.0, times, ".1f"),
        of.at_least("the grid, compiling included: times PyTorch + mup", 20.0, theirs and theirs / first, ".1f"),
    ]
    if of.measured and not (times and times >= 20):
        work = sum(flops(width) for width in widths) * steps * runs / len(widths)
        moved = sum(12 * num_parameters(width) for width in widths) * steps * runs / len(widths)
        lines.append(bounds.bound("the grid", again, work, moved, of.rates, None))
    return lines, found


def trained(width: int, runs: int, steps: int, inner: str) -> Callable[[], Any]:
    """A compiled program that trains so many runs at once, ready to be called; `.compile_seconds` of it."""
    task = random_task()
    batches = batch_order(jax.random.key(0), NUM_TRAIN, BATCH_SIZE, steps)
    keys = jnp.stack([run_key(jax.random.key(0), seed, width) for seed in range(runs)])

    def run(key: jax.Array, task: Task, batches: Any) -> Any:
        settings = {"width": width, "depth": DEPTH, "learning_rate": 0.1, "num_steps": steps, "spec": SPEC}
        return dense.train(task, mup(), key=key, batches=batches, **settings).train_loss

    def compiled() -> Any:
        fn = jax.jit(lambda runs, *shared: map_runs(run, runs, *shared, inner=inner))
        return fn.lower(keys, task, batches).compile()

    took, program = bounds.once(compiled)
    call = partial(program, keys, task, batches)
    call.compile_seconds, call.program = took, program  # pyright: ignore[reportAttributeAccessIssue]
    return call


def matrix_rate(of: Measured) -> tuple[list[str], list[str]]:
    """The share of the card's matrix rate at each width: runs vmapped, in quarters, mapped; float32 and TF32."""
    lines = [
        f"- Rates: float32 {of.rates.float32 / 1e12:.1f} and TF32 {of.rates.tf32 / 1e12:.1f} TFLOP/s (square products "
        f"of side {of.side}), {of.rates.bandwidth / 1e12:.2f} TB/s read and written. Milliseconds a step and run.",
        "",
        "| width | runs | vmap | quarters | map | picked / best | share of float32 rate | TF32, vmap; share of it "
        "| weights' share of the bandwidth | compile, s |",
        f"|{'---|' * 10}",
    ]
    found, notes = [], []
    for width, (runs, steps) in (SMALL_SHAPES if of.small else SHAPES).items():
        sizes = {"vmap": (runs, "vmap"), "quarters": (max(1, runs // 4), "vmap"), "map": (max(1, runs // 4), "map")}
        repeats = 1 if of.small else 2
        calls = {name: trained(width, count, steps, inner) for name, (count, inner) in sizes.items()}
        sizes_of = {"width": width, "depth": DEPTH, "num_steps": steps, "batch_size": BATCH_SIZE, "spec": SPEC}
        _, peak = bounds.peak(calls["vmap"], runs * sum(dense.estimate_bytes(random_task(), **sizes_of)))
        took = {name: bounds.seconds(call, repeats) / steps / sizes[name][0] for name, call in calls.items()}
        compiling = [call.compile_seconds for call in calls.values()]
        with jax.default_matmul_precision("tensorfloat32"):
            short = bounds.seconds(trained(width, runs, steps, "vmap"), repeats) / steps / runs
        best, picked = min(took.values()), took["vmap" if devices.traits().inner == "vmap" else "map"]
        share = flops(width) / picked / of.rates.float32
        weights = 12 * num_parameters(width) / picked / of.rates.bandwidth  # read twice, written once
        cells = [str(width), str(runs), *(f"{1e3 * took[name]:.4f}" for name in sizes), f"{picked / best:.2f}"]
        cells += [f"{share:.1%}", f"{1e3 * short:.4f}; {flops(width) / short / of.rates.tf32:.1%}", f"{weights:.1%}"]
        lines.append(f"| {' | '.join(cells)} | {', '.join(f'{one:.1f}' for one in compiling)} |")
        found.append(of.at_most(f"width {width}: the plan's way with runs / the best", 1.1, picked / best, ".2f"))
        # A step reads and writes the weights: the nearer of the two bounds is the device's.
        found.append(of.at_least(f"width {width}: share of the nearer bound", 0.5, max(share, weights)))
        if of.measured and max(share, weights) < 0.5:
            a_step = bounds.launches(calls["vmap"].program.as_text()) / steps
            notes.append(
                f"- Width {width}: about {a_step:.0f} kernels a step, {1e6 * picked * runs / a_step:.1f} us each."
            )
    found.append(of.memory(f"training, {runs} runs of width {width}", peak))
    return [*lines, "", *notes], found


def limit(of: Measured) -> tuple[list[str], list[str]]:
    """The feature-learning limit of the worked example to two errors, compiled."""
    task, lines, found = worked_example(), [], []
    cases = ((2**17, 1e-4, 1.0), (2**20, 1e-5, 60.0))
    for particles, error, bound in ((256, 1e-1, 1.0),) if of.small else cases:

        def train(reach: float, particles: int = particles) -> Any:
            return feature_limit.train(
                task, mup(), num_particles=particles, error=reach, max_seconds=120, key=jax.random.key(0), **SETTINGS
            )

        estimate = feature_limit.estimate_bytes(
            task, depth=3, num_steps=12, num_particles=particles, num_runs=feature_limit.PILOT_RUNS
        )
        (first, _), peak = bounds.peak(partial(bounds.once, partial(train, 1.0)), estimate)
        took, run = bounds.once(partial(train, error))
        lines.append(
            f"- Limit to {error:g}: {took:.2f} s, {run.info.num_runs} runs of {particles:,} particles, standard error "
            f"of f at most {np.max(run.stderr.predictions):.1e}; first call, of 8 runs, {first:.1f} s."
        )
        found.append(of.at_most(f"limit to {error:g}: s, compiled", bound, took, ".2f"))
        found.append(of.memory(f"the limit, 8 runs of {particles:,} particles", peak))
        if of.measured and took > bound:
            lines.append(implicit_bound("it", took, task, particles, 12, 48, of.rates, run.info.num_runs))
    return lines, found


def implicit_bound(
    what: str, took: float, task: Task, width: int, steps: int, directions: int, rates: Rates, runs: int = 1
) -> str:
    """The columns in use that all questions pass over (8 passes for each of 4 a step), and the kernels of a run."""
    moved = 8 * 4 * steps * directions / 2 * width * 4 * runs
    work = 2 * task.num_train * moved / 4

    def program() -> Any:
        def run(key: jax.Array) -> Any:
            return matrix_free.train(task, mup(), width=width, key=key, **(SETTINGS | {"num_steps": steps})).train_loss

        return jax.jit(run).lower(jax.random.key(0)).compile()

    return bounds.bound(what, took, work, moved, rates, program)


def wide(of: Measured) -> tuple[list[str], list[str]]:
    """Networks of width 10^7 and 10^6 without their hidden matrices."""
    generator = np.random.default_rng(3)
    ten = Task(generator.standard_normal((10, 10)), generator.choice([-1.0, 1.0], (10, 1)))
    cases = ((10_000_000, 12, worked_example(), None), (1_000_000, 100, ten, 60.0))
    lines, found = [], []
    for width, steps, task, bound in ((64, 2, worked_example(), None),) if of.small else cases:
        settings = SETTINGS | {"num_steps": steps, "width": width, "learning_rate": 0.5}
        keys = iter(jax.random.split(jax.random.key(0), 3))
        sizes = {"width": width, "depth": 3, "num_steps": steps}
        estimate = sum(matrix_free.estimate_bytes(task, **sizes))

        def train(task: Task = task, settings: dict[str, Any] = settings, keys: Any = keys) -> Any:
            return matrix_free.train(task, mup(), key=next(keys), **settings).train_loss

        (first, losses), peak = bounds.peak(lambda call=train: bounds.once(call), estimate)
        took = bounds.once(train)[0]
        name = f"width {width:,}, {steps} steps of {task.num_train} samples"
        lines.append(
            f"- {name}: {took:.1f} s, first call {first:.1f} s; loss {losses[0]:.4f} to {losses[-1]:.4f}; about "
            f"{estimate / 1e9:.2g} GB."
        )
        within = took if bound is not None else float(np.all(np.isfinite(losses)))
        goal = f"{name}: s, compiled" if bound is not None else f"{name}: runs and stays finite"
        found.append(of.at_most(goal, bound, within) if bound is not None else of.at_least(goal, 1.0, within, ".0f"))
        found.append(of.memory(name, peak))
        if of.measured and bound is not None and took > bound:
            lines.append(implicit_bound(name, took, task, width, steps, steps * task.num_train, of.rates))
    return lines, found


def kernel(of: Measured) -> tuple[list[str], list[str]]:
    """NNGP and NTK of 10,000 inputs of CIFAR-10's shape, tanh, three hidden layers."""
    num, dim = (12, 16) if of.small else (10_000, 3072)
    inputs = np.random.default_rng(0).standard_normal((num, dim), np.float32)
    inputs *= dim**0.5 / np.linalg.norm(inputs, axis=1, keepdims=True)
    task = Task(inputs, np.ones((num, 1)))
    estimate = kernel_limit.estimate_bytes(task, depth=3, num_steps=1, centred=True)

    def call() -> Any:
        return kernel_limit.kernels(inputs, ntp(), depth=3).ntk

    (took, ntk), peak = bounds.peak(lambda: bounds.once(call), estimate)
    again = took if of.small else bounds.once(call)[0]
    nodes = 3 * float(num) ** 2 * 50**2  # of the quadrature, in all layers
    lines = [
        f"- NNGP and NTK of {num:,} Gaussian inputs of CIFAR-10's shape ({dim} numbers, norm^2 = d), tanh, depth 3: "
        f"{took:.1f} s, {again:.1f} s again; {nodes / again / 1e9:.1f} billion nodes a second; NTK's diagonal "
        f"{np.mean(np.diag(ntk)):.3f}."
    ]
    found = [of.at_most("NNGP/NTK of 10,000 inputs: s, compiling included", 30.0, took)]
    found.append(of.memory("the kernels", peak))
    if of.measured and took > 30:
        # A node is about 100 operations in float64 (two values of tanh's kind), and 16 bytes that pass through memory.
        lines.append(bounds.bound("it", again, 100 * nodes, 16 * nodes, of.rates, None))
    return lines, found


def shared(of: Measured) -> tuple[list[str], list[str]]:
    """Several devices share the runs axis: the same numbers as one device, to the bit where runs are mapped."""
    count, task = len(devices.local_devices()), random_task()
    keys = jax.random.split(jax.random.key(0), count + 1)  # uneven

    def run(key: jax.Array, task: Task) -> Any:
        return dense.train(task, mup(), width=8, depth=2, learning_rate=0.1, num_steps=3, key=key).train_loss

    together = np.asarray(map_runs(run, keys, task))
    with jax.default_device(devices.local_devices()[0]):
        alone = np.asarray(map_runs(run, keys, task))
    off = float(np.max(np.abs(together - alone) / np.abs(alone)))
    lines = [f"- {count} devices share {count + 1} runs: largest relative difference from one device {off:.1e}."]
    return lines, [goals.at_most("several devices: difference from one", 1e-6, off if count > 1 else None, ".1e")]
