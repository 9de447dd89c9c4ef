"""One step of a network in Flax and Optax, jitted and called from Python, as their users write it, timed on request.

A process of its own with JAX's own settings. Its arguments and lines are those of torch_mup.py. The rate is an argument
of the step: one program a width, for all runs.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

DEPTH, INPUT_DIM, BATCH_SIZE, NUM_TRAIN = map(int, sys.argv[1:5])


class Net(nn.Module):
    """A multilayer perceptron with tanh."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(DEPTH):
            x = jnp.tanh(nn.Dense(self.width, use_bias=False)(x))
        return nn.Dense(1, use_bias=False)(x)


def prepare(width: int):
    """Return a function that trains for some steps."""
    net, generator = Net(width), np.random.default_rng(0)
    x = jnp.asarray(generator.standard_normal((NUM_TRAIN, INPUT_DIM)), jnp.float32)
    y = jnp.asarray(generator.choice([-1.0, 1.0], (NUM_TRAIN, 1)), jnp.float32)
    params = net.init(jax.random.key(0), x[:1])

    @partial(jax.jit, donate_argnums=0)
    def step(params, rate, index):
        def loss(params):
            return jnp.mean(0.5 * jnp.sum((net.apply(params, x[index]) - y[index]) ** 2, axis=1))

        optimizer = optax.sgd(rate)
        updates, _ = optimizer.update(jax.grad(loss)(params), optimizer.init(params))
        return optax.apply_updates(params, updates)

    def train(steps: int) -> None:
        nonlocal params
        for number in range(steps):
            if number % (NUM_TRAIN // BATCH_SIZE) == 0:
                batches = generator.permutation(NUM_TRAIN).reshape(-1, BATCH_SIZE)
            params = step(params, 0.1, batches[number % (NUM_TRAIN // BATCH_SIZE)])
        jax.block_until_ready(params)

    return train


def main() -> None:
    trainers, prepared = {}, {}
    print(f"ready {jax.devices()[0].device_kind}", flush=True)
    for line in sys.stdin:
        width, steps = map(int, line.split())
        if width not in trainers:
            start = time.perf_counter()
            trainers[width] = prepare(width)
            trainers[width](10)
            prepared[width] = time.perf_counter() - start
        start = time.perf_counter()
        trainers[width](steps)
        print((time.perf_counter() - start) / steps, prepared[width], flush=True)


if __name__ == "__main__":
    main()
