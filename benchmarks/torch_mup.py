"""One step of a muP network in PyTorch with the package `mup`, as its users write it, timed on request.

A process of its own, so that PyTorch's threads and JAX's do not meet. Its arguments are depth, input dimension, batch
size, number of training inputs and device; it reads lines `width steps` and answers with seconds a step and the
seconds that preparing the width took.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise

import torch
from mup import MuReadout, MuSGD, set_base_shapes
from torch import nn

DEPTH, INPUT_DIM, BATCH_SIZE, NUM_TRAIN = map(int, sys.argv[1:5])
DEVICE = sys.argv[5]


class Net(nn.Module):
    """A multilayer perceptron with tanh and a muP readout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [INPUT_DIM, *[width] * DEPTH]
        self.hidden = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))
        self.readout = MuReadout(width, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return self.readout(x)


def prepare(width: int):
    """Return a function that trains for some steps."""
    torch.manual_seed(0)
    net = Net(width).to(DEVICE)
    set_base_shapes(net, Net(16), delta=Net(32))
    optimizer = MuSGD(net.parameters(), lr=0.1)
    x = torch.randn(NUM_TRAIN, INPUT_DIM, device=DEVICE)
    y = torch.randn(NUM_TRAIN, 1, device=DEVICE).sign()

    def train(steps: int) -> None:
        for step in range(steps):
            if step % (NUM_TRAIN // BATCH_SIZE) == 0:
                batches = torch.randperm(NUM_TRAIN, device=DEVICE).split(BATCH_SIZE)
            index = batches[step % (NUM_TRAIN // BATCH_SIZE)]
            loss = 0.5 * ((net(x[index]) - y[index]) ** 2).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # an accelerator may still be at work

    return train


def main() -> None:
    trainers, prepared = {}, {}
    torch.zeros(1, device=DEVICE)  # fails here where there is no such device
    print(f"ready {DEVICE}, {torch.get_num_threads()} threads", flush=True)
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
