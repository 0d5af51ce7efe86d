"""The base model: its configuration, tokenizer and weights; nothing is fetched but what was asked for."""

import argparse
import json
import math
import os
import struct
import warnings
from pathlib import Path
from typing import Any

from shared.refusals import Refused

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}
"""Variables that keep libraries from reporting home and from drawing bars into logs."""


def be_quiet() -> None:
    """To be called before transformers is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore", FutureWarning)  # for who changes this code, not for who runs it
    import transformers

    transformers.utils.logging.disable_progress_bar()


def loaded_from(args: argparse.Namespace) -> dict[str, Any]:
    """What each `from_pretrained` is told of where the model is."""
    return {"revision": args.revision, "trust_remote_code": args.trust_remote_code}


def find_config(args: argparse.Namespace) -> Any:
    """The model's configuration. Raises Refused where there is no such model."""
    from transformers import AutoConfig

    folder = Path(args.model)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise Refused("model_missing", "the folder holds no model: it has no config.json", args.model)
    if not folder.exists() and (args.model.startswith((".", "/", "~")) or args.model.count("/") > 1):
        raise Refused("model_missing", "there is no such folder", args.model)
    try:
        return AutoConfig.from_pretrained(args.model, **loaded_from(args))
    except (OSError, ValueError) as error:
        raise refused_model(error, args) from error


def find_tokenizer(args: argparse.Namespace) -> Any:
    """The model's tokenizer. Raises Refused where it has none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(args.model, **loaded_from(args))
    except (OSError, ValueError) as error:
        raise refused_model(error, args) from error


def refused_model(error: Exception, args: argparse.Namespace) -> Exception:
    """The refusal for a model that is not there; else the error as it is (access and network have their own words)."""
    from huggingface_hub import constants, errors

    unreached = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, errors.GatedRepoError):
            return error
        if isinstance(link, errors.RepositoryNotFoundError | errors.HFValidationError):
            return Refused("model_missing", f"there is no model {args.model!r}, neither a folder nor on the hub")
        if isinstance(link, errors.RevisionNotFoundError):
            return Refused("model_missing", f"the model {args.model!r} has no revision {args.revision!r}")
        if isinstance(link, unreached) and constants.HF_HUB_OFFLINE:
            text = (
                f"there is no folder {args.model!r}, and the hub must not be asked for a model of that name (offline)"
            )
            return Refused("model_missing", text)
        if isinstance(link, unreached):
            return error  # the hub may answer another time
        link = link.__cause__ or link.__context__
    if Path(args.model).is_dir() or "is not a local folder" in str(error):
        return Refused("model_missing", f"{args.model!r} can't be loaded: {str(error).splitlines()[0][:200]}")
    return error


def parameters_on_disk(folder: str) -> int | None:
    """How many parameters the safetensors files of a folder hold, by their headers alone. None: that can't be told."""
    shapes = _shapes(folder)
    return sum(map(math.prod, shapes)) or None


def adapter_parameters(folder: str, rank: int) -> int | None:
    """How many an adapter of that rank has at most: for each matrix in the folder's files, inputs and outputs times
    the rank (Hu et al. 2021, arXiv 2106.09685). None: that can't be told.
    """
    return sum(rank * sum(shape) for shape in _shapes(folder) if len(shape) == 2) or None


def _shapes(folder: str) -> list[list[int]]:
    """The shapes of the tensors in the safetensors files of a folder; none where one of the files is damaged."""
    found = []
    try:
        for path in Path(folder).glob("*.safetensors"):
            with path.open("rb") as stream:
                length = struct.unpack("<Q", stream.read(8))[0]
                header = json.loads(stream.read(length))
            found += [list(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, struct.error):  # what is damaged shows when it is loaded
        return []
    return found
