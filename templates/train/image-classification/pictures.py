"""The data of this type: images and their labels, from a folder for each label or from a table of files."""

import argparse
import hashlib
import io
import json
import os
import random
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.classes import Sorted, labels_of, sort_rows, split_alike
from shared.data import HELD_OUT, READERS, Row, Rows, column_of, load, missing_column, renamed
from shared.refusals import Refused, note

IMAGE = ["image", "file", "file_name", "filename", "path", "image_path", "filepath", "img", "photo", "picture"]
LABEL = ["label", "labels", "class", "category", "target", "tag", "species", "y"]
ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))
LEARNED = frozenset(("train", "training"))
MOST_DECODED = 20_000
"""So many images are read whole before the training; of more, a part. A broken one among the rest ends the training."""


class Unreadable(Exception):
    """An image that can't be read; the text tells which."""


@dataclass
class Pictures:
    """Learned and held-out images with their labels' numbers, and the column that holds the image."""

    source: Rows
    labels: list[str]
    learned: list[Sorted]
    held_out: list[Sorted]
    image: str


def read(args: argparse.Namespace, known: Sequence[str] = ()) -> Pictures:
    """The images that `--data` and `--eval-data` name. Raises Refused, with its place, for what is no use."""
    given = renamed(args.columns)
    rows, apart = source(args.data)
    if args.eval_data:
        apart, _ = source(args.eval_data)
    image, label = needed(rows, "image", IMAGE, given), needed(rows, "label", LABEL, given)
    labels = labels_of(rows, label, args.labels, known)
    learned = sort_rows(rows.rows, label, labels)
    if apart is not None:
        needed(apart, "image", (image,), {})
        held_out = sort_rows(apart.rows, needed(apart, "label", (label,), {}), labels)
    else:
        learned, held_out = split_alike(learned, args.eval_fraction, args.seed)
    if len({row.label for row in learned}) < 2:
        raise Refused("label", "all images have the same label: there is nothing to tell apart", rows.source)
    check(learned, image)
    check(held_out, image)
    return Pictures(rows, labels, learned, held_out, image)


def needed(rows: Rows, role: str, known: Sequence[str], given: dict[str, str]) -> str:
    """The column of a role that must be there."""
    found = column_of(rows, role, known, given)
    if found is None:
        raise missing_column(rows.rows[0], known[:4])
    return found


def source(name: str) -> tuple[Rows, Rows | None]:
    """(all rows or the training part, the held-out part). A folder of folders with images, or a table."""
    folder = Path(name)
    if not folder.is_dir() or any(p.suffix.lower() in READERS for p in folder.iterdir() if p.is_file()):
        rows = load(name)
        return rows, rows.held_out
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_")))
    parts = [p for p in inner if p.name.lower() in LEARNED], [p for p in inner if p.name.lower() in HELD_OUT]
    if parts[0] and len(parts[0]) + len(parts[1]) == len(inner):
        return _labelled(name, parts[0][0]), _labelled(name, parts[1][0]) if parts[1] else None
    return _labelled(name, folder), None


def _labelled(source: str, folder: Path) -> Rows:
    """A row for each image, with its folder's name as label, in the order of their names."""
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_")))
    if not inner:
        raise Refused("empty", "the folder has neither a folder for each label nor a table of files", source)
    rows, digest = [], hashlib.sha256()
    for one in inner:
        found = sorted(p for p in one.rglob("*") if p.suffix.lower() in ENDINGS and not p.name.startswith("."))
        if not found:
            raise Refused("empty", "the label's folder holds no image", one)
        for path in found:
            digest.update(f"{path.relative_to(folder).as_posix()} {_digest(path)}\n".encode())
            rows.append(Row({"image": str(path), "label": one.name}, str(path)))
    return Rows(source, rows, (str(folder),), digest.hexdigest())


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Refused("missing", f"can't be read: {error.strerror or error}", path) from error


def opened(row: Row, column: str) -> Any:
    """A row's image in RGB, upright as its camera says. Raises Unreadable, which tells the file."""
    from PIL import Image, ImageOps

    value = row.values.get(column)
    where = _place(row, value)
    try:
        if isinstance(value, Image.Image):
            image = value
        elif isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            image = Image.open(io.BytesIO(value["bytes"]))
        elif isinstance(value, bytes):
            image = Image.open(io.BytesIO(value))
        else:
            image = Image.open(_path(row, value))
        return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise Unreadable(json.dumps(["missing", where, "there is no such image"])) from error
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise Unreadable(json.dumps(["malformed", where, "no image that can be read whole"])) from error


def _path(row: Row, value: Any) -> Path:
    """The file that a row names: as it stands from the table's folder, or from here."""
    if isinstance(value, dict):
        value = value.get("path")
    if not isinstance(value, str) or not value.strip():
        raise ValueError("no file is named")
    beside = Path(row.file).parent / value
    return beside if beside.exists() else Path(value)


def _place(row: Row, value: Any) -> str:
    """Which image it is: its file where the row is one, else the row's own place."""
    if isinstance(value, str) and row.line is None and row.file == value:
        return value
    return f"{row.file}:{row.line}" if row.line else row.file


def refused(error: BaseException) -> Refused | None:
    """The refusal for an image that was not readable, also where a process that loads data has passed it on."""
    for line in str(error).splitlines():
        start = line.find('["')
        if start >= 0:
            try:
                kind, where, text = json.loads(line[start:])
            except ValueError:
                continue
            return Refused(kind, text, where)
    return None


def check(rows: Sequence[Sorted], column: str) -> None:
    """Read images whole, as many as can be in a while. Raises Refused for the first that is broken, by its place."""
    looked = rows
    if len(rows) > MOST_DECODED:
        looked = random.Random(0).sample(list(rows), MOST_DECODED)
        note(f"{MOST_DECODED} of {len(rows)} images were read before the training")

    def tried(row: Sorted) -> Refused | None:
        try:
            opened(row.row, column)
        except Unreadable as error:
            return refused(error)
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for problem in pool.map(tried, looked):
            if problem is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                raise problem


class Images:
    """A data set for the trainer: what the model is given for each image.

    What is changed at random is drawn from seed, pass (`epoch`) and place alone, so that a resumed training sees the
    same.
    """

    def __init__(
        self, rows: Sequence[Sorted], column: str, processor: Any, augment: str = "none", seed: int = 0
    ) -> None:
        self.rows, self.column, self.processor = rows, column, processor
        self.augment, self.seed, self.epoch = augment, seed, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> dict[str, Any]:
        row = self.rows[at]
        image = opened(row.row, self.column)
        if self.augment != "none":
            image = changed(image, self.augment, random.Random(f"{self.seed}-{self.epoch}-{at}"))
        pixels = self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels, "labels": row.label}


def changed(image: Any, augment: str, draw: random.Random) -> Any:
    """The image mirrored in half of the cases; with `crop` also a part of it, 60 % to all of its area."""
    from PIL import ImageOps

    if draw.random() < 0.5:
        image = ImageOps.mirror(image)
    if augment == "crop":
        share = draw.uniform(0.6, 1.0) ** 0.5
        width, height = max(1, round(image.width * share)), max(1, round(image.height * share))
        left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
        image = image.crop((left, top, left + width, top + height))
    return image


def batch(samples: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Samples as one batch."""
    import torch

    samples = list(samples)
    pixels = torch.stack([sample["pixel_values"] for sample in samples])
    return {"pixel_values": pixels, "labels": torch.tensor([sample["labels"] for sample in samples])}
