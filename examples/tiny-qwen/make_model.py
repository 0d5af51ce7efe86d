"""Make a small language model of the Qwen3 architecture on the spot: random weights, a tokenizer of this data's words.

It knows nothing yet: whatever it can say after a fine-tuning, it has learned there. Two runs with the same seed make
the same files. About 0.2 million parameters, a second of one CPU core.
"""

import argparse
import json
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent

TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.role == 'assistant' -%}
{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}
{%- else -%}
{{ message.content }}<|im_end|>
{%- endif %}

{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
END, START, PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "tiny-model", help="folder of the new model")
    parser.add_argument(
        "--words", type=Path, default=HERE / "data" / "train.jsonl", help="data the tokenizer is made of"
    )
    parser.add_argument("--hidden", type=int, default=64, help="width of the model")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=800, help="tokens at most")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def texts(path):
    """All that is said in the data."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield from (message["content"] for message in json.loads(line)["messages"])


def make_tokenizer(args):
    """Byte-level BPE, as Qwen's: it can write any text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=args.vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(texts(args.words), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, pad_token=PAD, model_max_length=512)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(args, tokenizer):
    from transformers import Qwen3Config, Qwen3ForCausalLM, set_seed

    set_seed(args.seed)
    heads = max(1, args.hidden // 16)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=args.hidden,
        intermediate_size=2 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def main():
    from transformers.utils import logging

    args = parse_arguments()
    logging.disable_progress_bar()
    tokenizer = make_tokenizer(args)
    model = make_model(args, tokenizer)
    part = args.output.with_name(f".{args.output.name}.{os.getpid()}.part")
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    if args.output.exists():  # made before: the same files
        for file in part.iterdir():
            file.replace(args.output / file.name)
        part.rmdir()
    else:
        part.rename(args.output)
    count = sum(p.numel() for p in model.parameters())
    print(f"made {args.output}: {count:,} parameters, {len(tokenizer)} tokens")


if __name__ == "__main__":
    main()
