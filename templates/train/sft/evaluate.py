"""How good a trained language model is: mean loss of a token, perplexity, share of tokens that it would have said.

The base stands beside it: of an adapter it is the same model without it, else what the training began from or `--base`
names. The mean is over tokens, where a training's own `eval_loss` is over batches. Without `--data` it is what the
training held out. Prints an `EvaluationResult` (`caravan/values/evaluation.py`) as one line.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from samples import Encoder, Format, Sample, Samples, answers_only, format_of, read
from shared.arguments import count
from shared.canaries import canaries
from shared.data import Row, load, renamed
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
from shared.lengths import limit_of, most_tokens
from shared.models import be_quiet
from shared.records import perplexity
from shared.refusals import Refused, note, run


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = judge_parser(__doc__.splitlines()[0])
    parser.set_defaults(micro_batch=8)
    parser.add_argument("--data-format", default=None, help="how rows tell what is learned; unset: by their columns")
    parser.add_argument("--loss-on", choices=("auto", "answers", "all"), default=None, help="which tokens are judged")
    parser.add_argument("--max-len", type=count, default=None, help="tokens of a sequence; what is longer is cut")
    parser.add_argument("--attn", default=None)
    return parser.parse_args()


@dataclass
class Part:
    """Rows to be judged, and how they are read."""

    rows: list[Row]
    form: Format

    @property
    def keys(self) -> list[str]:
        """What its digest is of."""
        return [key_of(row.values) for row in self.rows]


def parts(args: argparse.Namespace, settings: argparse.Namespace | None) -> dict[str, Part]:
    """Name → what is judged: what the training held out or what was brought, as much learnt, and the fixed set."""
    found, learnt, given = {}, None, renamed(args.columns)
    if settings is not None:
        trained = read(settings)
        learnt = Part(trained.learned, trained.form)
        if trained.held_out:
            found["held_out"] = Part(trained.held_out, trained.form_apart)
    elif args.learnt:
        rows = load(args.learnt)
        learnt = Part(rows.rows, format_of(rows, args.data_format, given))
        if rows.held_out is not None:
            found["held_out"] = Part(rows.held_out.rows, format_of(rows.held_out, args.data_format, given))
    if args.data:
        rows = load(args.data)
        rows = rows.held_out or rows
        kept = unlearnt(rows.rows, learnt.keys if learnt else (), lambda row: key_of(row.values), args.data)
        found["held_out"] = Part(kept, format_of(rows, args.data_format, given))
    if args.regression:
        rows = load(args.regression)
        found["regression"] = Part(rows.rows, format_of(rows, "auto", given))
    if learnt:
        found["learnt"] = learnt
    for name in ("held_out", "learnt"):
        if name in found:
            found[name] = Part(drawn(found[name].rows, args.examples, args.seed), found[name].form)
    if not found:
        raise Refused("missing", "nothing to judge it on: say --data (evaluation.data in a plan)", args.model)
    if "held_out" not in found:
        note("nothing was held out: it is judged on what it learned from alone")
    return found


def losses(model: Any, samples: Samples, args: argparse.Namespace, pad: int) -> list[tuple[float, int, int]]:
    """For each sample the negative log-likelihood of its learned tokens in nats, how many they are, and how many of
    them the model would have said."""
    import torch
    from shared.sides import in_batches

    order = sorted(range(len(samples.samples)), key=lambda at: (len(samples.samples[at].ids), at))

    def asked(part: Sequence[int]) -> list[tuple[float, int, int]]:
        ids, labels = padded([samples.samples[at] for at in part], args.max_len, pad)
        ids, labels = ids.to(model.device), labels.to(model.device)
        logits = model(input_ids=ids, attention_mask=(labels > -200).to(ids.dtype)).logits[:, :-1]
        wanted = labels[:, 1:].clamp(min=-100).to(logits.device)
        found = []
        for row, want in zip(logits, wanted, strict=True):  # one by one: logits in 32 bit are large
            nll = torch.nn.functional.cross_entropy(row.float(), want, reduction="sum", ignore_index=-100)
            there = want != -100
            found.append((float(nll), int(there.sum()), int((row.argmax(-1) == want)[there].sum())))
        return found

    told = [one for part in in_batches(order, args.micro_batch, asked) for one in part]
    by_place = dict(zip(order, told, strict=True))
    return [by_place[at] for at in range(len(order))]


def padded(samples: list[Sample], max_len: int, pad: int) -> tuple[Any, Any]:
    """Ids and labels of a batch, (samples, tokens) each: -100 where a token is not judged, -200 where none is."""
    import torch

    width = min(max_len, max(len(s.ids) for s in samples))
    ids = torch.full((len(samples), width), pad)
    labels = torch.full((len(samples), width), -200)
    for at, sample in enumerate(samples):
        length = min(width, len(sample.ids))
        ids[at, :length] = torch.tensor(sample.ids[:length])
        learned = sample.learned or [1] * length
        told = [t if on else -100 for t, on in zip(sample.ids[:length], learned[:length], strict=True)]
        labels[at, :length] = torch.tensor(told)
    return ids, labels


def metrics(found: list[tuple[float, int, int]], args: argparse.Namespace) -> dict[str, float]:
    """The figures of a set: means over its tokens."""
    total, tokens, right = (sum(one[n] for one in found) for n in range(3))
    if not tokens:
        raise Refused("all_too_long", f"no token is left to judge within --max-len {args.max_len}")
    loss = total / tokens
    return {"loss": loss, "perplexity": perplexity(loss), "token_accuracy": right / tokens, "tokens": tokens}


def worse(rows: Part, encoded: Samples, base: Any, tuned: Any, drop: float) -> list[str]:
    """Ids of the fixed set's rows whose mean loss of a token rose by more than that share of the base's, or is none."""
    ids = {id(row): id_of(row, number) for number, row in enumerate(rows.rows, 1)}
    sums: dict[str, list[float]] = {}
    for sample, before, after in zip(encoded.samples, base, tuned, strict=True):
        told = sums.setdefault(ids[id(sample.row)], [0.0, 0.0])
        told[0] += before[0]
        told[1] += after[0]
    return [name for name, (before, after) in sums.items() if not after <= before * (1 + drop)][:MOST_REGRESSED]


def main() -> int:
    """Load, measure, tell."""
    args = parse_arguments()
    settings = settle(args, "sft", data_format="auto", loss_on="auto", max_len=1024)
    found = parts(args, settings)
    be_quiet()
    from answering import Questions, answered
    from shared.sides import both, config_of, finite, share, tokenizer_of
    from transformers import AutoModelForCausalLM

    tokenizer = tokenizer_of(args)
    args.max_len = limit_of(args, most_tokens(config_of(args), tokenizer))
    encoders = {
        name: Encoder(tokenizer, part.form, max_len=args.max_len, answers=answers_only(args, part.form))
        for name, part in found.items()
    }
    encoded = {name: encoders[name].encode(part.rows) for name, part in found.items()}
    asked, sha256 = canaries(args.canary) if args.canary else ([], None)
    first = next(name for name in ("held_out", "learnt", "regression") if name in found)
    questions = Questions.of(encoders[first], found[first].rows, asked, args)
    pad = tokenizer.pad_token_id or 0

    def look(model: Any) -> dict[str, Any]:
        told = {name: losses(model, encoded[name], args, pad) for name in encoded}
        return {**told, **answered(model, tokenizer, questions)}

    bits = settings.quant_bits if settings is not None and settings.method == "qlora" else None
    sides = both(args, AutoModelForCausalLM, look, bits)
    base, tuned = sides.get("base"), sides["tuned"]
    told: dict[str, Any] = {}
    for name, part in found.items():
        before = metrics(base[name], args) if base else None
        told[name] = side_metrics(part.keys, before, metrics(tuned[name], args))
    if "regression" in found and base:
        again = (base["regression"], tuned["regression"])
        told["regressed"] = worse(found["regression"], encoded["regression"], *again, args.regression_drop)
    whole = [one[0] for name in encoded for one in tuned[name]]
    told["collapse"] = {**tuned["collapse"], "non_finite": 1 - share(finite(whole))}
    if base:
        earlier = base["collapse"]
        told["collapse"] |= {f"{name}_base": earlier[name] for name in ("empty", "repeating") if name in earlier}
    if args.canary:
        told["canary"] = {"prompts": len(asked), "failed": tuned["failed"], "sha256": sha256}
        told["canary"] |= {"base_failed": base["failed"]} if base else {}
    prompts = [tokenizer.decode(ids)[:4000] for ids, _ in questions.prompts]
    told["generations"] = [
        {"prompt": prompts[n], "text": text, "base": base["texts"][n] if base else None}
        for n, text in enumerate(tuned["texts"])
    ]
    return tell(args, result("sft", args, **told))


if __name__ == "__main__":
    sys.exit(run(main))
