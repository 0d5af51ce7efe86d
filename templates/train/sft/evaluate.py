"""How good a trained model is on data: mean loss of a token and perplexity, of the base model beside the tuned one.

The base of an adapter is the same model without it; a model that was trained as a whole is held against what `--base`
names. The mean is over tokens, where a training's own `eval_loss` is over batches.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from building import load_model
from samples import Encoder, Sample, Samples, format_of
from shared.arguments import count
from shared.data import load, renamed
from shared.files import read_json, write_json
from shared.hardware import precision
from shared.judging import ADAPTER, judge_parser
from shared.models import be_quiet, find_config, find_tokenizer
from shared.records import perplexity
from shared.refusals import Refused, run


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = judge_parser(__doc__.splitlines()[0])
    parser.set_defaults(micro_batch=4)
    parser.add_argument("--data-format", default="auto", help="how rows tell what is learned; auto: by their columns")
    parser.add_argument("--loss-on", choices=("auto", "answers", "all"), default="auto", help="which tokens are judged")
    parser.add_argument("--max-len", type=count, default=1024, help="tokens of a sequence; what is longer is cut")
    parser.add_argument("--attn", default="auto")
    return parser.parse_args()


def measure(model: Any, samples: Samples, max_len: int, batch: int, pad: int) -> dict[str, float]:
    """The mean negative log-likelihood of the learned tokens in nats, and how many they are."""
    import torch

    total, tokens = 0.0, 0
    ordered = sorted(samples.samples, key=lambda s: len(s.ids))
    for begin in range(0, len(ordered), batch):
        ids, labels = padded(ordered[begin : begin + batch], max_len, pad)
        with torch.no_grad():
            logits = model(input_ids=ids.to(model.device), attention_mask=(labels > -200).to(model.device)).logits
        wanted = labels[:, 1:].clamp(min=-100).to(logits.device)
        found = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), wanted.flatten(), reduction="sum", ignore_index=-100
        )
        total, tokens = total + float(found), tokens + int((wanted != -100).sum())
    if not tokens:
        raise Refused("all_too_long", f"no token is left to judge within --max-len {max_len}")
    return {"loss": total / tokens, "perplexity": perplexity(total / tokens), "tokens": tokens}


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


def main() -> int:
    """Load, measure, tell."""
    args = parse_arguments()
    rows = load(args.data)
    form = format_of(rows, args.data_format, renamed(args.columns))
    be_quiet()
    tokenizer = find_tokenizer(args)
    answers = args.loss_on == "answers" or (args.loss_on == "auto" and form.name == "instruction")
    samples = Encoder(tokenizer, form, max_len=args.max_len, answers=answers).encode(rows.rows)
    told: dict[str, Any] = {"data": args.data, "data_sha256": rows.sha256, "samples": len(samples.samples)}
    for side, model in models(args):
        told[side] = measure(model, samples, args.max_len, args.micro_batch, tokenizer.pad_token_id or 0)
    print(json.dumps(told), flush=True)
    if args.output:
        write_json(args.output, told)
    return 0


def models(args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """(side, model) of what is measured: the base, where there is one to compare with, and the tuned one."""
    adapter = read_json(Path(args.model, ADAPTER))
    if adapter is None:
        yield "tuned", loaded(args, args.model)
        if args.base:
            yield "base", loaded(args, args.base)
        return
    from peft import PeftModel

    tuned = PeftModel.from_pretrained(loaded(args, args.base or adapter["base_model_name_or_path"]), args.model).eval()
    with tuned.disable_adapter():
        yield "base", tuned
    yield "tuned", tuned


def loaded(args: argparse.Namespace, name: str) -> Any:
    """The weights of a model, on the GPU where there is one."""
    import torch

    asked = argparse.Namespace(**{**vars(args), "model": name})
    find_config(asked)
    numbers = precision(args.precision)
    return (
        load_model(asked, numbers, numbers, quantised=False).to("cuda" if torch.cuda.is_available() else "cpu").eval()
    )


if __name__ == "__main__":
    sys.exit(run(main))
