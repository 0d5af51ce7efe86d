"""How well an encoder's embeddings find what belongs together in data: recall at 1 and 10, MRR, as JSON.

It measures a trained encoder, and any other to hold it against.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pairs import columns_of, pair_of
from shared.data import load, renamed
from shared.files import read_json, write_json
from shared.judging import judge_parser, load_trained
from shared.models import be_quiet, find_tokenizer
from shared.refusals import run


def embed(model: Any, tokenizer: Any, texts: list[str], args: argparse.Namespace) -> Any:
    """The embeddings of texts, each of length 1."""
    import torch
    from encoder import pooled

    found = []
    for begin in range(0, len(texts), args.micro_batch):
        part = texts[begin : begin + args.micro_batch]
        batch = tokenizer(part, truncation=True, max_length=args.max_len, padding=True, return_tensors="pt")
        batch = batch.to(model.device)
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        found.append(pooled(hidden, batch["attention_mask"], args.pooling).cpu())
    return torch.cat(found)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The metrics of the encoder on the pairs."""
    from encoder import chance, retrieval
    from transformers import AutoModel

    rows = load(args.data)
    columns = columns_of(rows, renamed(args.columns))
    pairs = [pair_of(row, columns) for row in rows.rows]
    tokenizer = find_tokenizer(args)
    model, _ = load_trained(AutoModel, args)
    anchors = embed(model, tokenizer, [args.anchor_prefix + pair.anchor for pair in pairs], args)
    positives = embed(model, tokenizer, [args.positive_prefix + pair.positive for pair in pairs], args)
    told = {"rows": len(pairs), "data_sha256": rows.sha256, "chance": chance(pairs)}
    return {**told, **retrieval(anchors, positives, pairs)}


def main() -> int:
    """Load, measure, tell."""
    parser = judge_parser(__doc__.splitlines()[0])
    parser.add_argument("--max-len", type=int, default=None, help="unset: as in the training, else 128")
    parser.add_argument("--pooling", choices=("mean", "cls"), default=None, help="unset: as in the training, else mean")
    parser.add_argument("--anchor-prefix", default="")
    parser.add_argument("--positive-prefix", default="")
    args = parser.parse_args()
    pool = read_json(Path(args.model) / "1_Pooling" / "config.json") or {}
    length = read_json(Path(args.model) / "sentence_bert_config.json") or {}
    args.pooling = args.pooling or ("cls" if pool.get("pooling_mode_cls_token") else "mean")
    args.max_len = args.max_len or length.get("max_seq_length") or 128
    be_quiet()
    found = measure(args)
    print(json.dumps(found), flush=True)
    if args.output:
        write_json(args.output, found)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
