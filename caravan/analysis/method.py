"""How a run trains: all weights (`full`), an adapter (`lora`, `qlora`), from nothing (`pretrain`), by preference.

Order of trust: the sentence; the command's and its configurations' switches; options and code. Pure, over an `Entry`.
"""

import ast
import re
from posixpath import dirname
from typing import Final

from caravan.analysis import training
from caravan.analysis.entry import Entry, last, pairs
from caravan.analysis.findings import Found, Module
from caravan.analysis.python import keyword
from caravan.analysis.subjects import from_nothing, tunes
from caravan.analysis.vocabulary import plain
from caravan.analysis.walking import walk
from caravan.values.base import Json
from caravan.values.repo import SourceLine

_KINDS: Final = ("dpo", "grpo", "ppo", "orpo", "kto", "reinforce", "rloo", "reward")
_SWITCH: Final = re.compile(r"(?i)^(?:(?:use|enable|with)_?\w*(?:lora|peft)|lora_?enable\w*|(?:use_)?peft|lora)$")
_RANK: Final = re.compile(r"(?i)^(?:lora|network|adapter|peft)_?\w*?_?(?:r|rank|dim)$")
_FOUR_BIT: Final = re.compile(r"(?i)^(?:load_in_4_?bit|q_?lora|use_q_?lora|use_4bit|quantization_bit|bits|use_bnb\w*)$")
_ADAPTER: Final = ("adapter", "finetuning_type", "train_type", "tuner_type", "peft_type", "peft_method", "method")
_MAKES: Final = ("LoraConfig", "get_peft_model", "LoraModel", "AdaLoraConfig", "prepare_model_for_kbit_training")
_SAYS_ADAPTER: Final = re.compile(r"(?i)lora|peft|adapter")
_LORA: Final = re.compile(r"(?i)q?-?lora\b|\bpeft\b")
_UNSUPPORTED: Final = 0.3
"""How sure a method is that the sentence names and nothing in the repository knows."""
_OF_ALL: Final = frozenset({"full", "pretrain"})
_KNOWN_BY: Final = {"lora": r"(?i)lora|peft", "qlora": r"(?i)lora|peft|bitsandbytes"}
_YES: Final = frozenset(("true", "1", "yes", "on"))


def method(entry: Entry, model: Found) -> Found:
    """lora, qlora, full, pretrain, or the preference method, as far as sentence, command and code say."""
    adapter = _switched(entry)
    asked = entry.wishes.method
    if asked and not (
        asked == "lora" and not _LORA.search(entry.sentence) and adapter is None and not _has(entry, asked)
    ):
        evidence = adapter.evidence if adapter and adapter.value not in _OF_ALL else ()
        return Found(asked, 0.9 if adapter or _has(entry, asked) else _UNSUPPORTED, evidence)
    if adapter:
        return adapter
    name = " ".join(
        [
            *(m.path for m in entry.modules[:1]),
            *((entry.documented.command.target, entry.documented.command.heading) if entry.documented else ()),
        ]
    )
    for kind in _KINDS:
        if re.search(rf"(?i)(?:^|[^a-z]){kind}(?:[^a-z]|$)", name):
            return Found(kind, 0.7)
    if from_nothing(entry.sentence):
        return Found("pretrain", 0.8)
    if tunes(entry.sentence) or model.value:
        return Found("full", 0.7, model.evidence)
    return Found("pretrain", 0.5)


def _has(entry: Entry, asked: str) -> bool:
    """Whether command, options, configurations, packages or code know the way to train that the sentence names."""
    if asked in _OF_ALL:
        return True
    known = re.compile(
        _KNOWN_BY.get(
            asked, rf"(?i)(?<![a-z]){re.escape(asked).replace('-', '[-_ ]?')}(?![a-z])|(?-i:{asked.upper()}[A-Z])"
        )
    )
    texts = [*entry.packages, *(m.path for m in entry.modules), *(f for o in entry.options for f in o.flags)]
    texts += [entry.documented.words] if entry.documented else []
    texts += [f"{path} {key} {value}" for path, values in entry.configs.items() for key, value in values.items()]
    return any(known.search(t) for t in texts) or any(known.search("\n".join(m.lines)) for m in entry.modules)


def _switched(entry: Entry) -> Found | None:
    """An adapter that the command, a configuration, a default or the code turns on; `full` for one turned off."""
    rows = _rows(entry)
    four = next((where for key, value, where in rows if _FOUR_BIT.match(key) and _four(key, value)), None)
    for key, value, where in rows:
        text = str(value).lower()
        if key in _ADAPTER and text in ("lora", "qlora", "full"):
            return Found("qlora" if text == "lora" and four else text, 0.85, (where,))
        if key == "network_module" and "lora" in text:
            return Found("lora", 0.85, (where,))
        if _SWITCH.match(key):
            return _lora(four, where) if text in _YES or value is True else Found("full", 0.7, (where,))
    signs = _signs(entry)
    rank = next((row for row in rows if _RANK.match(row[0])), None)
    if rank and "lora" not in signs and (str(rank[1]) in ("0", "None", "") or not _chosen(entry, rank[0], rank[2])):
        return None
    if rank or "lora" in signs:
        return _lora(four or signs.get("4bit"), signs.get("lora") or (rank[2] if rank else None))
    return None


def _chosen(entry: Entry, name: str, where: SourceLine) -> bool:
    """Whether command, configuration or the file that has the option choose an adapter, and not a parser's default."""
    given = pairs(entry.documented.command) if entry.documented else []
    keys = {last(key) for key, _ in given} | {last(key) for values in entry.configs.values() for key in values}
    return name in keys or "lora" in where.file.lower()


def _lora(four: SourceLine | None, where: SourceLine | None) -> Found:
    places = tuple(filter(None, (where, four)))
    return Found("qlora" if four else "lora", 0.85, places)


def _four(key: str, value: Json) -> bool:
    return (
        str(value).lower() in ("4", *_YES)
        if key.lower() in ("bits", "quantization_bit")
        else str(value).lower() in _YES
    )


def _rows(entry: Entry) -> list[tuple[str, Json, SourceLine]]:
    """(name, value, where) of everything that is set, the strongest first; a name counts once."""
    rows: dict[str, tuple[Json, SourceLine]] = {}
    if entry.documented:
        where = entry.documented.command.where
        for key, value in pairs(entry.documented.command):
            rows.setdefault(last(key), (value, where))
        for word in entry.documented.command.args:
            if word.startswith("--"):
                rows.setdefault(last(word.partition("=")[0]), (True, where))
    for path, values in entry.configs.items():
        for key, value in values.items():
            rows.setdefault(last(key), (value, SourceLine(file=path, line=0)))
    for option in entry.options:
        rows.setdefault(plain(option.option.flag).lower(), (option.option.default, option.where))
    return [(key, value, where) for key, (value, where) in rows.items()]


def _only_if(module: Module) -> set[int]:
    """The lines below a test of a switch or a rank of adapters (`if lora_r > 0:`), which something has to turn on."""
    lines: set[int] = set()
    for function in module.functions.values():
        for node in walk(function):
            if isinstance(node, ast.If) and _SAYS_ADAPTER.search(ast.unparse(node.test)[:500]):
                lines |= {n for s in node.body for n in range(s.lineno, (s.end_lineno or s.lineno) + 1)}
    return lines


def _signs(entry: Entry) -> dict[str, SourceLine]:
    found: dict[str, SourceLine] = {}
    own = entry.modules[0].path if entry.modules else ""
    near = dirname(own)
    for module in entry.modules:
        # A library's own adapters say nothing of this entry, nor do classes of adapters that another may use.
        named = module.path == own or "lora" in own.lower()
        if module.path.startswith(near):
            made = {c.line for c in module.calls if c.last in _MAKES or keyword(c.node, "load_in_4bit")}
            made -= set() if named else _only_if(module)
            for kind, where in training.adapters(module):
                if named or where.line in made:
                    found.setdefault(kind, where)
    return found
