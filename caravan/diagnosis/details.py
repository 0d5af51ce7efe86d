"""What lines of evidence name, in one form: sizes in GiB and MB, options as `--name`, choices with commas.

Which names there are stands in `NAMES`; pure functions on texts, without knowledge of any cause.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

PROGRESS: Final = r"\b\d{1,3}%\||\bstep[ =:]*\d+|\bepoch[ =:]*\d|\bsaving\b|\bcheckpoint|tokeniz|\bevaluat|\bMap:"
"""A line that shows that a training, or what comes before it, goes on."""
NAMES: Final = frozenset(
    {
        *("where", "limit_mb", "tried_gib", "total_gib", "free_gib", "module", "package", "kind", "option", "value"),
        *("choices", "style", "program", "path", "image", "metric", "step", "dimension", "asked", "largest"),
        "job",  # a job's id
        "when",  # "loading" where the GPU's memory ran out while the model came to it
        *(
            "needed",
            "needed_s",
            "allowed",
        ),  # the time of the whole training, in words and seconds, and what was approved
        "standing",  # "never" where no node could take the job, were it empty
        "index",  # the address of a package index
        "usage",  # the options that the program's usage lines show
        *("want", "have"),  # what was asked for and what there is: GPUs, versions of CUDA, values
        *("capability", "gpu", "xid", "dtype", "library", "symbol"),  # of the GPU, and of what is built for it
        *("host", "port", "rank", "op", "seq", "timeout_s", "variable"),  # of processes that work together
        *("signal", "size", "exception", "file", "line", "function"),  # of a process that ended by its own fault
        *("field", "address", "object", "id", "target", "attribute", "operator", "driver", "volume", "plugin"),  # Nomad
        *("container", "image_arch", "node_arch", "url", "secret"),  # of containers, and what a job brings along
        *("versions", "conflicts", "column", "repo"),  # of packages, data and hubs
        *("best", "of", "unit", "still"),  # where a held-out loss was best; `still` getting better
        "fault",  # what one of our own training scripts says of its input
    }
)
"""The names that details may have."""

_LONGEST: Final = 300  # characters of a value
_SIZE: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?)(?:i?B|bytes?)?", re.IGNORECASE)
_GIB: Final = {"": 2.0**-30, "K": 2.0**-20, "M": 2.0**-10, "G": 1.0, "T": 2.0**10}


def normal(named: Mapping[str, str]) -> dict[str, str]:
    """Named groups of a pattern as details: empty ones left out, each in its one form.

    A `flag` is an option that the program names without its dashes, `timeout_ms` a time in milliseconds. A pattern
    can't use a name twice: where several ways to say a thing name it, `port2` is a `port` as well.
    """
    told: dict[str, str] = {}
    for group, said in named.items():
        name, text = ("option", f"--{said}") if group == "flag" else (group.rstrip("0123456789"), said)
        if name == "timeout_ms":
            name, text = "timeout_s", f"{int(said) / 1000:g}"
        value = _FORMS.get(name, _plain)(text)
        if value:
            told[name] = value[:_LONGEST]
    return told


def _plain(text: str) -> str:
    return text.strip().strip("'\"`‘’“”").strip()


def gib(text: str) -> str:
    """A size with its unit (`20.00 MiB`, `10000000000 bytes`) in GiB with at most two decimals; empty for no size."""
    match = _SIZE.match(text.strip())
    if match is None:
        return ""
    return f"{round(float(match['number']) * _GIB[match['unit'].upper()], 2):g}"


def options(text: str) -> str:
    """Options out of a program's list of them, each by its longest name, separated by blanks.

    `--a=1 b --c` gives `--a --c`; `--data, -m/--model` gives `--data --model`; `['--a', 'True']` gives `--a`. Where no
    word begins with a dash (`data, model`), all words are names.
    """
    words = [word for word in re.split(r"[\s,\[\]'\"]+", text) if word]
    dashed = [word for word in words if re.match(r"-{1,2}[A-Za-z]", word)]
    named = [max(word.partition("=")[0].split("/"), key=len).rstrip(".:") for word in dashed or words]
    return " ".join(dict.fromkeys(name for name in named if name))


def usage(lines: Sequence[str]) -> str:
    """The options that a program's usage lines show, separated by blanks; empty where there are none."""
    shown: list[str] = []
    inside = False
    for line in lines:
        inside = (inside and line[:1].isspace()) or bool(_USAGE.match(line))
        if inside:
            shown += _OPTION.findall(line)
    return " ".join(dict.fromkeys(name for name in shown if name not in ("-h", "--help")))


_USAGE: Final = re.compile(r"\s*usage:", re.IGNORECASE)
_OPTION: Final = re.compile(r"(?<![\w-])-{1,2}[A-Za-z][\w-]{0,60}")


def choices(text: str) -> str:
    """A program's list of what it takes, separated by commas; what a cut line holds half is left out."""
    cut = text.endswith("…")
    quoted = re.findall(r"'([^']*)'", text)
    words = quoted or [word.strip() for word in text.rstrip("…").split(",")]
    if cut and not quoted:
        words = words[:-1]
    return ",".join(word.strip().rstrip(".") for word in words if word.strip())


_FORMS: Final = {
    "tried_gib": gib,
    "total_gib": gib,
    "free_gib": gib,
    "option": options,
    "choices": choices,
}
