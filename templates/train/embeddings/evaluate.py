"""How well a trained encoder finds what belongs together: recall at 1 and 10, MRR, beside its base and blind drawing.

Without `--data` it is measured on what the training held out. Prints an `EvaluationResult`
(`caravan/values/evaluation.py`) as one line.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pairs import Pair, columns_of, pair_of, read
from shared.data import load, renamed
from shared.files import read_json
from shared.judging import (
    MOST_REGRESSED,
    drawn,
    id_of,
    judge_parser,
    key_of,
    result,
    settle,
    side_metrics,
    tell,
    unlearnt,
)
from shared.models import be_quiet
from shared.refusals import Refused, note, run


def key(pair: Pair) -> str:
    """What a pair is known by."""
    return key_of(asdict(pair))


def parts(args: argparse.Namespace, settings: argparse.Namespace | None) -> tuple[dict[str, list[Pair]], list[str]]:
    """(name → the pairs that it is judged on, ids of the fixed set)."""
    found: dict[str, list[Pair]] = {}
    learnt, ids = [], []
    if settings is not None:
        trained = read(settings)
        learnt, found["held_out"] = trained.learned, trained.held_out
    elif args.learnt:
        learnt, _ = brought(args.learnt, args)
    if args.data:
        pairs, _ = brought(args.data, args)
        found["held_out"] = unlearnt(pairs, map(key, learnt), key, args.data)
    if args.regression:
        found["regression"], ids = brought(args.regression, args)
    found["learnt"] = learnt
    for name in ("held_out", "learnt"):
        found[name] = drawn(found.get(name, []), args.examples, args.seed)
    found = {name: pairs for name, pairs in found.items() if pairs}
    if not found:
        raise Refused("missing", "nothing to judge it on: say --data (evaluation.data in a plan)", args.model)
    if "held_out" not in found:
        note("nothing was held out: it is judged on what it learned from alone")
    return found, ids


def brought(source: str, args: argparse.Namespace) -> tuple[list[Pair], list[str]]:
    """(the pairs of a file, their ids)."""
    rows = load(source)
    rows = rows.held_out or rows
    columns = columns_of(rows, renamed(args.columns))
    return [pair_of(row, columns) for row in rows.rows], [id_of(row, n) for n, row in enumerate(rows.rows, 1)]


def embed(model: Any, tokenizer: Any, texts: Sequence[str], args: argparse.Namespace) -> Any:
    """The embeddings of texts, each of length 1."""
    import torch
    from encoder import pooled
    from shared.sides import in_batches

    def asked(part: Sequence[str]) -> Any:
        told = {"truncation": True, "max_length": args.max_len, "padding": True, "return_tensors": "pt"}
        batch = tokenizer(list(part), **told).to(model.device)
        return pooled(model(**batch).last_hidden_state, batch["attention_mask"], args.pooling).cpu()

    return torch.cat(list(in_batches(texts, args.micro_batch, asked)))


def found_first(anchors: Any, positives: Any, pairs: Sequence[Pair]) -> list[bool]:
    """Whether each pair's anchor is nearer to its own positive than to that of any other pair."""
    near = anchors @ positives.T
    same = [[a.positive == b.positive or a.anchor == b.anchor for b in pairs] for a in pairs]
    return [
        all(mine or near[at, other] < near[at, at] for other, mine in enumerate(row)) for at, row in enumerate(same)
    ]


def collapse(anchors: Any, positives: Any, pairs: Sequence[Pair]) -> dict[str, float]:
    """Of the embeddings of different texts: the share of distinct ones (to four digits), that of those that are the
    commonest, of dimensions that never change, of embeddings with numbers that are none."""
    import torch

    texts = {pair.anchor: anchors[at] for at, pair in enumerate(pairs)}
    texts |= {pair.positive: positives[at] for at, pair in enumerate(pairs)}
    vectors = torch.stack(list(texts.values()))
    finite = torch.isfinite(vectors).all(-1)
    kept = vectors[finite]
    told = {"non_finite": 1 - float(finite.float().mean())}
    if len(kept):
        _, counts = torch.unique((kept * 1e4).round(), dim=0, return_counts=True)
        told |= {"distinct": len(counts) / len(kept), "commonest": int(counts.max()) / len(kept)}
        told |= {"distinct_expected": 1.0, "commonest_expected": 1 / len(kept)}
        told["zero_variance"] = float((kept.var(0, unbiased=False) < 1e-10).float().mean())
    return told


def main() -> int:
    """Load, measure, tell."""
    parser = judge_parser(__doc__.splitlines()[0])
    parser.add_argument("--max-len", type=int, default=None, help="unset: as in the training, else 128")
    parser.add_argument("--pooling", choices=("mean", "cls"), default=None, help="unset: as in the training, else mean")
    parser.add_argument("--anchor-prefix", default=None)
    parser.add_argument("--positive-prefix", default=None)
    args = parser.parse_args()
    folder = Path(args.model or os.environ.get("CARAVAN_MODEL") or ".")
    pool = read_json(folder / "1_Pooling" / "config.json") or {}
    length = (read_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    own = {"pooling": "cls" if pool.get("pooling_mode_cls_token") else "mean", "max_len": length or 128}
    settings = settle(args, "embeddings", anchor_prefix="", positive_prefix="", **own)
    args.max_len = min(args.max_len, length or args.max_len)
    sets, ids = parts(args, settings)
    be_quiet()
    from encoder import chance, retrieval
    from shared.sides import both, tokenizer_of
    from transformers import AutoModel

    tokenizer = tokenizer_of(args)

    def look(model: Any) -> dict[str, Any]:
        return {name: sides_of(model, pairs) for name, pairs in sets.items()}

    def sides_of(model: Any, pairs: Sequence[Pair]) -> tuple[Any, Any]:
        anchors = embed(model, tokenizer, [args.anchor_prefix + pair.anchor for pair in pairs], args)
        return anchors, embed(model, tokenizer, [args.positive_prefix + pair.positive for pair in pairs], args)

    seen = both(args, AutoModel, look, None)
    base, tuned = seen.get("base", {}), seen["tuned"]
    told: dict[str, Any] = {}
    for name, pairs in sets.items():
        before = retrieval(*base[name], pairs) if name in base else None
        keys = [key(pair) for pair in pairs]
        told[name] = side_metrics(keys, before, retrieval(*tuned[name], pairs), chance(pairs))
    if "regression" in sets:
        now = found_first(*tuned["regression"], sets["regression"])
        was = found_first(*base["regression"], sets["regression"]) if base else [True] * len(now)
        told["regressed"] = [i for i, a, b in zip(ids, was, now, strict=True) if a and not b][:MOST_REGRESSED]
    name = "held_out" if "held_out" in sets else next(iter(sets))
    told["collapse"] = collapse(*tuned[name], sets[name])
    return tell(args, result("embeddings", args, **told))


if __name__ == "__main__":
    sys.exit(run(main))
