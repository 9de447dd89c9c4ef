r"""The infinite-width limit of deep LINEAR muP networks, exactly, from the rules of Tensor Programs and nothing else.

Every random variable is a linear combination of Gaussian generators of its layer, so expectations are quadratic forms
and the derivatives in Zdot are coefficients. Shares no idea with the library's conditioning: a product W_0 x adds a
generator with covariances E[Z^x Z^y], and the coefficients of x on the generators of W_0^T g times the g's.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np


class Space:
    """Generators of one layer with their covariance; a vector is a coefficient array, padded as they are added."""

    def __init__(self):
        self.cov = np.zeros((0, 0))

    def new(self, covariances):
        """Add a generator with these covariances with (earlier ones, itself) and return it as a vector."""
        size = len(self.cov) + 1
        cov = np.zeros((size, size))
        cov[:-1, :-1] = self.cov
        cov[-1, : len(covariances)] = cov[: len(covariances), -1] = covariances
        self.cov = cov
        return np.eye(size)[-1]

    def pad(self, vector):
        return np.pad(vector, (0, len(self.cov) - len(vector)))

    def inner(self, v, w):
        return self.pad(v) @ self.cov @ self.pad(w)

    def add(self, *vectors):
        return sum(self.pad(vector) for vector in vectors)


class Matrix:
    """W_0 from one space to another: what it was multiplied with, on either side."""

    def __init__(self, below, above):
        self.sides = {"forward": (below, above, []), "backward": (above, below, [])}

    def times(self, vector, side):
        """Zhat + Zdot of W_0 x ('forward') or W_0^T g ('backward')."""
        source, target, queries = self.sides[side]
        covariances = np.zeros(len(target.cov) + 1)
        for earlier, place in queries:
            covariances[place] = source.inner(vector, earlier)
        covariances[-1] = source.inner(vector, vector)
        zhat = target.new(covariances)
        other = self.sides["backward" if side == "forward" else "forward"][2]
        padded = source.pad(vector)
        zdot = [padded[place] * g for g, place in other]
        queries.append((vector, len(target.cov) - 1))
        return target.add(zhat, *zdot)


def train_linear(x, y, depth, rate, steps):
    """Predictions [steps + 1, P] of the infinitely wide linear muP network: full-batch SGD, MSE, one output."""
    num, dim = x.shape
    kernel = x @ x.T / dim
    spaces = [Space() for _ in range(depth)]
    matrices = [Matrix(below, above) for below, above in pairwise(spaces)]
    columns = [spaces[0].new(np.eye(k + 1)[-1]) for k in range(dim)]
    h_0 = [spaces[0].add(*(x[i, k] / dim**0.5 * columns[k] for k in range(dim))) for i in range(num)]
    last = spaces[-1]
    readout = last.new(np.eye(len(last.cov) + 1)[-1])
    seen = []  # per step: chi, features [L][P], backward vectors [L][P]
    predictions = []
    for _ in range(steps + 1):
        features = [[None] * num for _ in range(depth)]
        for i in range(num):
            moved = (-rate * chi[j] * kernel[i, j] * dh[0][j] for chi, _, dh in seen for j in range(num))
            features[0][i] = spaces[0].add(h_0[i], *moved)
        for layer in range(1, depth):
            for i in range(num):
                below = spaces[layer - 1]
                product = matrices[layer - 1].times(features[layer - 1][i], "forward")
                moved = [
                    -rate * chi[j] * below.inner(xs[layer - 1][j], features[layer - 1][i]) * dh[layer][j]
                    for chi, xs, dh in seen
                    for j in range(num)
                ]
                features[layer][i] = spaces[layer].add(product, *moved)
        moved = (-rate * chi[j] * xs[-1][j] for chi, xs, _ in seen for j in range(num))
        now = last.add(readout, *moved)
        f = np.array([last.inner(now, features[-1][i]) for i in range(num)])
        predictions.append(f)
        backward = [[None] * num for _ in range(depth)]
        backward[-1] = [now] * num
        for layer in reversed(range(1, depth)):
            for i in range(num):
                product = matrices[layer - 1].times(backward[layer][i], "backward")
                moved = [
                    -rate * chi[j] * spaces[layer].inner(dh[layer][j], backward[layer][i]) * xs[layer - 1][j]
                    for chi, xs, dh in seen
                    for j in range(num)
                ]
                backward[layer - 1][i] = spaces[layer - 1].add(product, *moved)
        seen.append(((f - y) / num, features, backward))
    return np.array(predictions)
