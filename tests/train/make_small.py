"""Makes small models with random weights for the types that are no language model, and data that they can learn.

    python make_small.py FOLDER

Run by the interpreter that has torch. It writes `bert` and `vit` (an encoder and a vision model without heads),
`texts.jsonl` (three labels, told by their words), `pairs.csv` (questions made of words of their answers) and `images`
(a folder for each of three colours).
"""

import csv
import json
import random
import sys
from pathlib import Path

LABELS = ("bad", "good", "so so")
COLOURS = {"cat": (200, 60, 60), "dog": (60, 200, 60), "owl": (60, 60, 200)}
WORDS = [f"w{number}" for number in range(60)]


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **names)


def make_models(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    known = BertConfig(vocab_size=len(WORDS) + 4, max_position_embeddings=64, **size)
    BertModel(known, add_pooling_layer=False).save_pretrained(folder / "bert")
    tokenizer().save_pretrained(folder / "bert")
    seen = ViTConfig(image_size=16, patch_size=8, **size)
    ViTModel(seen, add_pooling_layer=False).save_pretrained(folder / "vit")
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder / "vit")


def make_data(folder: Path) -> None:
    from PIL import Image

    draw = random.Random(1)
    with (folder / "texts.jsonl").open("w") as stream:
        for number in range(180):
            label = (0, 0, 1, 2)[number % 4]
            own = [f"w{draw.randrange(label * 10, label * 10 + 10)}" for _ in range(draw.randint(3, 6))]
            words = own + [f"w{draw.randrange(30, 60)}" for _ in range(3)]
            draw.shuffle(words)
            stream.write(json.dumps({"text": " ".join(words), "label": LABELS[label]}) + "\n")
    with (folder / "pairs.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["query", "passage"])
        for _ in range(240):
            words = draw.sample(WORDS, 6)
            rows.writerow([" ".join([*draw.sample(words, 3), *draw.sample(WORDS, 2)]), " ".join(words)])
    for label, colour in COLOURS.items():
        (folder / "images" / label).mkdir(parents=True)
        for number in range(16):
            pixels = bytes(max(0, min(255, c + draw.randint(-60, 60))) for _ in range(20 * 24) for c in colour)
            Image.frombytes("RGB", (20, 24), pixels).save(folder / "images" / label / f"{number}.png")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    make_models(target)
    make_data(target)
