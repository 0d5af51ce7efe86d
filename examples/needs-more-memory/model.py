"""A character model: embedded characters of a window, one hidden layer, chances of the next character.

Shapes: B windows of C characters each, E numbers for each character, F = C · E features of a window, H hidden, V
characters in the alphabet. The embedding is frozen, so the features of a window never change while the rest learns.
"""

import numpy as np


def new_embedding(alphabet, width, rng):
    """A fixed vector of length 1 for each character: (V, E)."""
    vectors = rng.standard_normal((alphabet, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def new_weights(features, hidden, alphabet, rng):
    """Fresh weights of the two layers, as name → array."""
    return {
        "w1": (rng.standard_normal((features, hidden)) / np.sqrt(features)).astype(np.float32),
        "b1": np.zeros(hidden, np.float32),
        "w2": (rng.standard_normal((hidden, alphabet)) / np.sqrt(hidden)).astype(np.float32),
        "b2": np.zeros(alphabet, np.float32),
    }


def window_features(tokens, embedding, context, report=None):
    """The features of every window of a text, and the character that follows each: (N, F) float32 and (N,).

    Computed once and kept, so that an epoch is matrix products alone. N · F · 4 bytes.
    """
    count, width = len(tokens) - context, embedding.shape[1]
    embedded = embedding[tokens]
    features = np.empty((count, context * width), np.float32)
    block = 4096
    for start in range(0, count, block):
        end = min(start + block, count)
        part = embedded[start : end + context - 1]
        windows = np.lib.stride_tricks.sliding_window_view(part, context, axis=0)  # (n, E, C)
        features[start:end] = windows.transpose(0, 2, 1).reshape(end - start, -1)
        if report is not None:
            report(end, count)
    return features, tokens[context:]


def loss_and_gradients(w, x, targets):
    """Mean cross-entropy in nats per character over (B, F) features, and its gradients by weight name."""
    rows = np.arange(len(x))
    hidden = np.tanh(x @ w["w1"] + w["b1"])
    chances = softmax(hidden @ w["w2"] + w["b2"])
    loss = float(-np.log(np.maximum(chances[rows, targets], 1e-30)).mean())
    d_logits = chances
    d_logits[rows, targets] -= 1
    d_logits /= len(x)
    d_hidden = (d_logits @ w["w2"].T) * (1 - hidden * hidden)
    gradients = {"w2": hidden.T @ d_logits, "b2": d_logits.sum(0), "w1": x.T @ d_hidden, "b1": d_hidden.sum(0)}
    return loss, gradients


def softmax(x):
    """Along the last axis, safe for large numbers."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Adam:
    """The Adam optimizer (Kingma and Ba 2015, Algorithm 1)."""

    def __init__(self, weights, beta1=0.9, beta2=0.99):
        self.beta1, self.beta2, self.steps = beta1, beta2, 0
        self.mean = {k: np.zeros_like(w) for k, w in weights.items()}
        self.square = {k: np.zeros_like(w) for k, w in weights.items()}

    def step(self, weights, gradients, learning_rate):
        """Update the weights in place."""
        self.steps += 1
        for k, g in gradients.items():
            self.mean[k] += (1 - self.beta1) * (g - self.mean[k])
            self.square[k] += (1 - self.beta2) * (g * g - self.square[k])
            mean = self.mean[k] / (1 - self.beta1**self.steps)
            square = self.square[k] / (1 - self.beta2**self.steps)
            weights[k] -= learning_rate * mean / (np.sqrt(square) + 1e-8)
