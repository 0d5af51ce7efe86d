"""Folders of images: a folder for each label. Of an image only its first bytes are read, to see whether it is one."""

from collections.abc import Iterator
from typing import Final

from caravan.training.data.places import HELD_OUT, DataFile, Place
from caravan.training.data.problems import Problems
from caravan.training.data.rows import Counts, Row
from caravan.values.training import DataKind

_PARTS: Final = frozenset(("train", "training", *HELD_OUT))  # folders of parts, with those of labels below
_OPENED: Final = 2000
"""Images that are opened, spread over all of them."""
# How files of each kind begin, as the formats' own specifications say.
_BEGIN: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"P")


def image_rows(place: Place, files: tuple[DataFile, ...], counts: Counts, problems: Problems) -> Iterator[Row]:
    """A row for each image: its file, and the label that its folder's name is."""
    step = max(1, len(files) // _OPENED)
    tops = {place.inside(file).split("/")[0].lower() for file in files if "/" in place.inside(file)}
    parts = int(tops <= _PARTS)
    for number, file in enumerate(files):
        counts.counted(1)
        inner = place.inside(file)
        folders = inner.split("/")[parts:-1]
        label = folders[0] if folders else ""
        if not label:
            told = "it lies in no folder that would be its label"
            problems.add(DataKind.LABEL, told, file.name)
            continue
        if number % step == 0:
            _look(file, problems)
            counts.saw({"image": "", "label": ""})
        yield Row(file.name, 1, {"image": inner, "label": label})


def _look(file: DataFile, problems: Problems) -> None:
    if file.size == 0:
        problems.add(DataKind.EMPTY_ROW, "the image has no bytes", file.name)
        return
    try:
        with file.open() as source:
            begin = source.read(12)
    except OSError as error:
        problems.add(DataKind.MISSING, f"the image can't be opened: {error.strerror or error}", file.name)
        return
    if not begin.startswith(_BEGIN):
        problems.add(DataKind.MALFORMED, "it is no image: its first bytes are of no format", file.name)
