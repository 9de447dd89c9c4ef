"""Plan a grid's compiled programs: cells, padded groups of widths, chunks of runs. Nothing is compiled.

A plan follows from the grid, the declared memory budget and the kind of device, never from what is free or fast at the
moment (how many devices there are decides only whether it fits): the same plan gives the same bits. Parametrizations
and learning rates are numbers to a program (`dynamics.padded`), so that cells which differ in nothing else share one;
widths are padded to the widest of a group where that costs less than compiling another program.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mupjax import devices
from mupjax.dynamics import dense
from mupjax.network import MLP, hidden_widths, scaling_tree
from mupjax.observers import named
from mupjax.parametrization import Traits, traits_of
from mupjax.sweeps.grid import Grid
from mupjax.task import Task
from mupjax.trajectory import leaves_nbytes


class Program(NamedTuple):
    """One compiled program.

    Attributes:
      depth, optimizer: positions in the grid.
      widths: units of every hidden layer, those of padding included.
      padded: whether some network is narrower.
      traits: those that some network has.
      chunk: runs of one call.
      inner: how runs are mapped inside a device.
      working: bytes of all that is computed at once.
      result: bytes of a cell's results.
    """

    depth: int
    optimizer: int
    widths: tuple[int, ...]
    padded: bool
    traits: Traits
    chunk: int
    inner: str
    working: int
    result: int


class Cell(NamedTuple):
    """The unit of computation, storage and resumption.

    Attributes:
      name: unique.
      parametrization: position in the grid.
      depth: likewise.
      optimizer: likewise.
      widths: likewise, of all networks that the cell trains.
      program: position in the plan.
      flops: of its training, padding included: its weight in the progress bar.
    """

    name: str
    parametrization: int
    depth: int
    optimizer: int
    widths: tuple[int, ...]
    program: int
    flops: int


class Plan(NamedTuple):
    """How a grid is computed.

    Attributes:
      cells: in the order in which they run.
      programs: compiled ones, shared by cells.
      num_runs: of all cells.
    """

    cells: tuple[Cell, ...]
    programs: tuple[Program, ...]
    num_runs: int


def plan(task: Task, grid: Grid, *, platform: str | None = None) -> Plan:
    """Return the plan of a grid.

    Args:
      task: data and loss.
      grid: what is run.
      platform: 'cpu', 'gpu' or 'tpu'; by default JAX's.

    Raises:
      ValueError: where one run of some cell does not fit the grid's `memory_gb`.
    """
    platform = platform or devices.platform()
    programs, cells = [], []
    for depth, optimizer in product(range(len(grid.depths)), range(len(grid.optimizers))):
        layers = [hidden_widths(width, grid.depths[depth]) for width in grid.widths]
        for group in _groups(task, grid, layers, optimizer, platform):
            program = _program(task, grid, [layers[i] for i in group], depth, optimizer, len(group), platform)
            runs = len(group) * len(grid.rates[optimizer]) * grid.seeds
            cost = runs * grid.steps * step_flops(task, program.widths, grid.batch_size)
            for row, preset in enumerate(grid.parametrizations):
                width = "+".join(_label(grid.widths[i]) for i in group)
                by = _plain(grid.optimizers[optimizer][0], optimizer)
                name = f"{_plain(preset.name, row)}-depth{grid.depths[depth]}-{by}-width{width}"
                cells.append(Cell(name, row, depth, optimizer, group, len(programs), cost))
            programs.append(program)
    runs = sum(len(cell.widths) * len(grid.rates[cell.optimizer]) * grid.seeds for cell in cells)
    return Plan(tuple(cells), tuple(programs), runs)


def step_flops(task: Task, widths: tuple[int, ...], batch_size: int | None) -> int:
    """Return the operations of one step's products: outputs, kernels' gradients, and all inputs' but the first's."""
    batch = task.num_train if batch_size is None else batch_size
    sizes = [task.input_dim, *widths, task.out_dim]
    return 2 * batch * (3 * sum(a * b for a, b in pairwise(sizes)) - task.input_dim * widths[0])


def describe(chosen: Plan) -> dict[str, object]:
    """Return the part of a plan that is stored: results are bit-identical only for equal values of it.

    Where runs are vmapped it includes the number of devices that share them.
    """
    vmapped = any(program.inner == "vmap" for program in chosen.programs)
    return {
        **({"devices": len(devices.local_devices())} if vmapped else {}),
        "cells": {cell.name: cell.program for cell in chosen.cells},
        "programs": [
            {"widths": list(p.widths), "padded": p.padded, "chunk": p.chunk, "inner": p.inner} for p in chosen.programs
        ],
    }


def joined(described: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge stored plans, listing each distinct program once.

    Example:
      >>> one, other = ({"cells": {name: 0}, "programs": [{"widths": [8]}]} for name in ("mup", "sp"))
      >>> joined([one, other])
      {'cells': {'mup': 0, 'sp': 0}, 'programs': [{'widths': [8]}]}
    """
    whole: dict[str, Any] = {"cells": {}, "programs": []}
    for one in described:
        whole = {**one, **whole}
        whole["programs"] += [program for program in one["programs"] if program not in whole["programs"]]
        places = [whole["programs"].index(program) for program in one["programs"]]
        whole["cells"] |= {name: places[program] for name, program in one["cells"].items()}
    return whole


def table(chosen: Plan, grid: Grid) -> tuple[list[str], list[list[str]]]:
    """Return a plan as plain text, a row a program: what is shared, how many runs, what it takes."""
    columns = ["program", "depth", "optimizer", "widths", "cells", "runs a cell", "runs a call", "memory, GB"]
    rows = []
    for number, program in enumerate(chosen.programs):
        cells = [cell for cell in chosen.cells if cell.program == number]
        widths = ", ".join(_label(grid.widths[i]) for i in cells[0].widths)
        padded = f" padded to {_label(program.widths)}" if program.padded else ""
        runs = len(cells[0].widths) * len(grid.rates[program.optimizer]) * grid.seeds
        name, depth = grid.optimizers[program.optimizer][0], grid.depths[program.depth]
        memory = f"{(program.working + program.result) / 1e9:.2g}"
        row = [number + 1, depth, name, widths + padded, len(cells), runs, program.chunk, memory]
        rows.append([str(entry) for entry in row])
    return columns, rows


def _groups(task: Task, grid: Grid, layers: list[tuple[int, ...]], optimizer: int, platform: str) -> list[tuple]:
    """Positions along width that share a program, from narrow to wide."""
    order = sorted(range(len(layers)), key=lambda i: (step_flops(task, layers[i], grid.batch_size), i))
    if grid.padding == "never":
        return [(i,) for i in order]
    if grid.padding == "always":
        return [tuple(order)]
    runs = len(grid.parametrizations) * len(grid.rates[optimizer]) * grid.seeds * grid.steps
    of = devices.traits(platform)

    def extra(group: list[int]) -> float:
        """Operations that padding adds."""
        own = sum(step_flops(task, layers[i], grid.batch_size) for i in group)
        return runs * (len(group) * step_flops(task, _widest([layers[i] for i in group]), grid.batch_size) - own)

    groups: list[list[int]] = []
    for i in order:
        last = groups[-1] if groups else []
        saved = of.compile_seconds * of.flops
        if last and extra([*last, i]) - extra(last) < saved:
            last.append(i)
        else:
            groups.append([i])
    return [tuple(group) for group in groups]


def _program(task, grid: Grid, layers: list[tuple[int, ...]], depth: int, optimizer: int, group: int, platform: str):
    """The program of some widths, and how many of its runs fit the budget at once."""
    widths = _widest(layers)
    bytes_ = dense.estimate_bytes(
        task,
        width=widths,
        depth=len(widths),
        steps=grid.steps,
        batch_size=grid.batch_size,
        spec=grid.spec,
    )
    working = bytes_.working + _state_bytes(task, grid, widths, optimizer) + _observer_bytes(task, grid, widths)
    inner = devices.traits(platform).inner
    runs = group * len(grid.rates[optimizer]) * grid.seeds
    # Where runs are mapped one a device trains at a time, else all of a call. Of a cell's results there are four copies
    # where they are written and read (as they came, as the Dataset has them, zarr's, compressed), of a call's
    # three where its runs do not fill the devices (benchmarks/sweep_growth.py measures it).
    mapped, count = inner == "map", len(devices.local_devices())
    at_once = min(count, runs) if mapped else 1
    whole, in_call = 4 * runs * bytes_.result, 3 * bytes_.result
    room = 1e9 * grid.memory_gb - whole - (working * at_once if mapped else 0)
    a_run = in_call + (0 if mapped else working / count)
    if room < a_run:
        need = (whole + working * at_once + in_call) / 1e9
        raise ValueError(
            f"Expected the runs to fit memory_gb={grid.memory_gb:g}, got about {need:.2g} GB for {runs} runs of width "
            f"{_label(widths)}, {at_once} at once; raise `memory_gb`, or take fewer seeds, rates, inputs, recorded "
            "steps or units."
        )
    # Calls of equal length waste less on the copies that fill the last one up.
    calls = math.ceil(runs / min(runs, int(room // a_run)))
    chunk = math.ceil(runs / calls)
    return Program(
        depth,
        optimizer,
        widths,
        len(set(layers)) > 1,
        traits_of(grid.parametrizations),
        chunk,
        inner,
        working * (at_once if mapped else math.ceil(chunk / count)),
        whole + chunk * in_call,
    )


def _state_bytes(task: Task, grid: Grid, widths: tuple[int, ...], optimizer: int) -> int:
    """Size of an optimizer's state beyond the one copy of the parameters that `dense.estimate_bytes` counts."""
    model = MLP(widths, len(widths), task.out_dim, grid.parametrizations[0], grid.activation)
    boxed = jax.eval_shape(partial(model.init, jax.random.key(0)), task.x_train[:1])
    params = nn.meta.unbox(boxed)["params"]
    transform = grid.optimizers[optimizer][1](scaling_tree(boxed), jnp.ones(()))
    return max(0, leaves_nbytes(jax.eval_shape(transform.init, params)) - leaves_nbytes(params))


def _observer_bytes(task: Task, grid: Grid, widths: tuple[int, ...]) -> int:
    """Memory of observers: Lanczos vectors, the initial parameters and the last update."""
    parameters = sum(fan_in * fan_out for fan_in, fan_out in pairwise((task.input_dim, *widths, task.out_dim)))
    copies = 3 * bool(grid.observe) + (named.PRODUCTS + 4) * ("sharpness" in grid.observe)
    return copies * parameters * task.x_train.dtype.itemsize


def _widest(layers: list[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(max(widths) for widths in zip(*layers, strict=True))


def _plain(name: str, row: int) -> str:
    """A parametrization's name as a part of a file's."""
    plain = re.sub(r"[^A-Za-z0-9_.=]", "_", name)
    return name if plain == name else f"{plain}{row}"


def _label(width: int | tuple[int, ...]) -> str:
    widths = width if isinstance(width, tuple) else (width,)
    return str(widths[0]) if len(set(widths)) == 1 else "x".join(map(str, widths))
