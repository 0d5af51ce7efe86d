"""A character model with one attention block, its gradients written out by hand, and low-rank adapters (LoRA).

Shapes: B sequences, T tokens each, D model width, H hidden width, V characters. The same `loss_and_gradients` serves
pretraining (gradients of the weights are used) and fine-tuning (they are carried on to the adapters, weights stay).
"""

import numpy as np

WIDTH = 32
HIDDEN = 64
ADAPTED = ("wq", "wk", "wv", "wo", "w1", "w2", "unembed")


def new_weights(vocabulary, seq_len, rng, dtype=np.float32):
    """Fresh base weights, as name → array."""
    shapes = {
        "embed": (vocabulary, WIDTH),
        "position": (seq_len, WIDTH),
        "wq": (WIDTH, WIDTH),
        "wk": (WIDTH, WIDTH),
        "wv": (WIDTH, WIDTH),
        "wo": (WIDTH, WIDTH),
        "w1": (WIDTH, HIDDEN),
        "w2": (HIDDEN, WIDTH),
        "unembed": (WIDTH, vocabulary),
    }
    return {name: (rng.standard_normal(s) / np.sqrt(s[0])).astype(dtype) for name, s in shapes.items()}


def new_adapter(weights, rank, rng):
    """A low-rank pair for every adapted matrix. B starts at zero, so the adapted model starts as the base model."""
    adapter = {}
    for name in ADAPTED:
        rows, columns = weights[name].shape
        adapter[f"{name}.A"] = (rng.standard_normal((rows, rank)) / np.sqrt(rows)).astype(weights[name].dtype)
        adapter[f"{name}.B"] = np.zeros((rank, columns), weights[name].dtype)
    return adapter


def adapted(weights, adapter, scale):
    """The weights with W + scale · A·B in place of every adapted W."""
    return {
        name: w + scale * adapter[f"{name}.A"] @ adapter[f"{name}.B"] if name in ADAPTED else w
        for name, w in weights.items()
    }


def adapter_gradients(gradients, adapter, scale):
    """The chain rule for W + scale · A·B: dA = scale · dW·Bᵀ and dB = scale · Aᵀ·dW."""
    result = {}
    for name in ADAPTED:
        result[f"{name}.A"] = scale * gradients[name] @ adapter[f"{name}.B"].T
        result[f"{name}.B"] = scale * adapter[f"{name}.A"].T @ gradients[name]
    return result


def loss_and_gradients(w, tokens, targets, with_gradients=True):
    """Mean cross-entropy in nats per character over (B, T) arrays of tokens, and its gradients by weight name."""
    batch, length = tokens.shape
    root = np.sqrt(WIDTH)
    x = w["embed"][tokens] + w["position"][:length]
    q, k, v = x @ w["wq"], x @ w["wk"], x @ w["wv"]
    future = np.triu(np.ones((length, length), bool), 1)
    attention = softmax(np.where(future, -1e9, q @ k.transpose(0, 2, 1) / root).astype(x.dtype))
    mixed = attention @ v
    h = x + mixed @ w["wo"]
    active = np.tanh(h @ w["w1"])
    y = h + active @ w["w2"]
    chances = softmax(y @ w["unembed"])
    picked = chances[np.arange(batch)[:, None], np.arange(length), targets]
    loss = float(-np.log(np.maximum(picked, 1e-30)).mean())
    if not with_gradients:
        return loss, {}

    g = {}
    d_logits = chances
    d_logits[np.arange(batch)[:, None], np.arange(length), targets] -= 1
    d_logits /= batch * length
    g["unembed"] = over(y, d_logits)
    d_y = d_logits @ w["unembed"].T
    g["w2"] = over(active, d_y)
    d_active = (d_y @ w["w2"].T) * (1 - active**2)
    g["w1"] = over(h, d_active)
    d_h = d_y + d_active @ w["w1"].T
    g["wo"] = over(mixed, d_h)
    d_mixed = d_h @ w["wo"].T
    d_attention = d_mixed @ v.transpose(0, 2, 1)
    d_v = attention.transpose(0, 2, 1) @ d_mixed
    d_scores = attention * (d_attention - (d_attention * attention).sum(-1, keepdims=True)) / root
    d_q, d_k = d_scores @ k, d_scores.transpose(0, 2, 1) @ q
    g["wq"], g["wk"], g["wv"] = over(x, d_q), over(x, d_k), over(x, d_v)
    d_x = d_h + d_q @ w["wq"].T + d_k @ w["wk"].T + d_v @ w["wv"].T
    g["position"] = np.zeros_like(w["position"])
    g["position"][:length] = d_x.sum(0)
    g["embed"] = over(np.eye(len(w["embed"]), dtype=x.dtype)[tokens], d_x)
    return loss, g


def softmax(scores):
    """Softmax over the last axis."""
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def over(inputs, outputs):
    """The gradient of W in `outputs = inputs @ W`, summed over sequences and tokens."""
    return inputs.reshape(-1, inputs.shape[-1]).T @ outputs.reshape(-1, outputs.shape[-1])


class Adam:
    """Adam (Kingma and Ba, 2015) over a dict of arrays; its state is plain arrays that a checkpoint can hold."""

    def __init__(self, parameters):
        self.mean = {k: np.zeros_like(p) for k, p in parameters.items()}
        self.square = {k: np.zeros_like(p) for k, p in parameters.items()}

    def step(self, parameters, gradients, rate, count):
        """Change `parameters` in place; `count` is the number of this step, from 1."""
        for k, g in gradients.items():
            self.mean[k] += 0.1 * (g - self.mean[k])
            self.square[k] += 0.001 * (g * g - self.square[k])
            parameters[k] -= (
                rate * (self.mean[k] / (1 - 0.9**count)) / (np.sqrt(self.square[k] / (1 - 0.999**count)) + 1e-8)
            )
