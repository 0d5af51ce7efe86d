"""A table of weights for each pair of characters, its loss and its gradient."""

import itertools
import math


def pairs(text):
    """How often each character follows another one: (first, second) → count."""
    found = {}
    for pair in itertools.pairwise(text):
        found[pair] = found.get(pair, 0) + 1
    return found


def loss_and_gradient(weights, alphabet, counts):
    """The mean surprise in nats, and its gradient; a pair without a weight has weight 0."""
    total = sum(counts.values()) or 1
    loss, gradient = 0.0, {}
    for first in sorted({pair[0] for pair in counts}):
        scores = [weights.get(first + second, 0.0) for second in alphabet]
        top = max(scores)
        powers = [math.exp(score - top) for score in scores]
        norm = sum(powers)
        row = [counts.get((first, second), 0) for second in alphabet]
        for second, power, count in zip(alphabet, powers, row, strict=True):
            share = power / norm
            loss -= count * math.log(share) / total
            gradient[first + second] = (share * sum(row) - count) / total
    return loss, gradient
