"""The runs axis: equal to a loop, over several devices, with failures in their own rows."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mupjax.dynamics import dense
from mupjax.dynamics import runs as axis
from mupjax.parametrization import mup
from mupjax.task import Task

TASK = Task(np.eye(4), np.ones((4, 1)))


def run(pair, task):
    key, rate = pair
    return dense.train(task, mup(), width=8, depth=2, learning_rate=rate, steps=5, key=key).train_loss


def runs(rates):
    return jnp.stack([axis.run_key(jax.random.key(0), seed, 8) for seed in range(len(rates))]), jnp.array(rates)


def test_mapped_runs_are_bit_identical_to_single_ones():
    together = axis.map_runs(run, runs([0.1, 0.2, 0.3]), TASK, inner="map")
    alone = axis.map_runs(run, jax.tree.map(lambda leaf: leaf[1:2], runs([0.1, 0.2, 0.3])), TASK, inner="map")
    np.testing.assert_array_equal(together[1], alone[0])


def test_vmapped_runs_equal_mapped_ones_to_rounding():
    mapped, vmapped = (axis.map_runs(run, runs([0.1, 0.2, 0.3]), TASK, inner=inner) for inner in ("map", "vmap"))
    np.testing.assert_allclose(mapped, vmapped, rtol=1e-5)  # 5 steps of float32 rounding


@pytest.mark.parametrize("inner", ["map", "vmap"])
def test_a_diverged_run_touches_nothing_else(inner):
    healthy = axis.map_runs(run, runs([0.1, 0.2, 0.3]), TASK, inner=inner)
    with_diverged = axis.map_runs(run, runs([0.1, 1e30, 0.3]), TASK, inner=inner)
    assert not np.isfinite(with_diverged[1, -1])
    np.testing.assert_array_equal(with_diverged[jnp.array([0, 2])], healthy[jnp.array([0, 2])])


def test_keys_differ_by_seed_and_width_alone():
    keys = {
        tuple(np.asarray(jax.random.key_data(axis.run_key(jax.random.key(0), s, w)))) for s in (0, 1) for w in (8, 16)
    }
    assert len(keys) == 4
    same = axis.run_key(jax.random.key(0), 1, (4, 16)), axis.run_key(jax.random.key(0), 1, 16)
    np.testing.assert_array_equal(*map(jax.random.key_data, same))


def test_several_devices_give_the_same_numbers_with_uneven_runs():
    """Three runs on two virtual devices, in a process of its own: the device count is fixed when JAX starts."""
    program = """
import sys
import jax; jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import numpy as np
from mupjax.dynamics import runs as axis
from tests.dynamics import test_runs as t
assert len(jax.devices()) == int(sys.argv[1])
out = axis.map_runs(t.run, t.runs([0.1, 0.2, 0.3]), t.TASK)
assert out.shape == (3, 6)
print(np.asarray(out).tobytes().hex())
"""
    outputs = [
        subprocess.run([sys.executable, "-c", program, count], capture_output=True, text=True, check=True).stdout
        for count in ("1", "2")
    ]
    assert outputs[0] == outputs[1]


def test_bad_runs_are_named():
    with pytest.raises(ValueError, match="`runs` to share one leading axis"):
        axis.map_runs(run, (jnp.zeros(2), jnp.zeros(3)), TASK)
    with pytest.raises(ValueError, match="`runs` to share one leading axis of at least 1"):
        axis.map_runs(run, jnp.zeros((0, 2)), TASK)
    with pytest.raises(ValueError, match="`inner`"):
        axis.map_runs(run, runs([0.1]), TASK, inner="pmap")
