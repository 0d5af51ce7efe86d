"""The model that a repository's own code builds: sizes in options, configurations, config classes and their calls.

Pure, over an `Entry`; what the sizes mean together is not known here. Nothing is imported or run: a size that stands
nowhere as a literal is left out.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from posixpath import basename
from typing import Final

from caravan.analysis.entry import Entry
from caravan.analysis.findings import Call, Module
from caravan.analysis.python import value_of
from caravan.values.base import Json
from caravan.values.shape import ModelConfig, slim_config

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "hidden": ("n_embd", "hidden_size", "d_model", "n_embed", "embed_dim", "model_dim", "dim_model", "emb_dim", "dim"),
    "layers": ("n_layer", "num_hidden_layers", "n_layers", "num_layers", "depth", "num_blocks", "num_encoder_layers"),
    "heads": ("n_head", "num_attention_heads", "n_heads", "num_heads", "nhead", "heads"),
    "kv_heads": ("n_kv_head", "num_key_value_heads", "n_kv_heads", "num_kv_heads"),
    "inner": ("intermediate_size", "n_inner", "d_ff", "dim_feedforward", "ffn_dim", "mlp_dim", "ffn_hidden_size"),
    "ratio": ("mlp_ratio", "ffn_mult", "ff_mult"),
    "vocab": ("vocab_size", "padded_vocab_size", "n_vocab"),
    "positions": ("block_size", "max_position_embeddings", "n_positions", "n_ctx", "context_length", "max_seq_len"),
    "experts": ("num_experts", "num_local_experts", "n_experts", "n_routed_experts"),
    "per_token": ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_topk"),
    "multiple": ("multiple_of", "ffn_dim_multiplier"),
    "image": ("image_size", "img_size"),
    "patch": ("patch_size",),
    "head_dim": ("head_dim", "head_size"),
}
"""What a size means → its spellings."""
_NEEDED: Final = ("hidden", "layers", "heads")
_GROUP_OF: Final = {name: group for group, names in GROUPS.items() for name in names}
_SPELLED: Final = {
    "dim_model": "d_model",
    "emb_dim": "n_embd",
    "img_size": "image_size",
    "num_encoder_layers": "num_layers",
    "heads": "num_heads",
}
"""Spellings that a reader of configs does not know → ones that it does."""
_BUILDERS: Final = re.compile(r"(?:Config|Args|Params|Settings|Arguments|HParams|Transformer|GPT\w*|ViT|LM|Model)$")
_ARCHITECTURES: Final = ("arch", "architecture", "model_name", "model", "backbone", "model_type", "net")
_MOST_CONFIGS: Final = 6
_MOST_JSON: Final = 20
_LONGEST_JSON: Final = 200_000


def model_configs(entry: Entry) -> tuple[ModelConfig, ...]:
    """What the entry's code builds, the likeliest first, then the `config.json` files that describe a model."""
    found = [*_built(entry), *_named(entry)]
    return (*found[:_MOST_CONFIGS], *_described(entry))[: 2 * _MOST_CONFIGS]


def _built(entry: Entry) -> Iterator[ModelConfig]:
    """A config: defaults of a class, over them what calls of it give, over them what the entry is told."""
    told, where = _told(entry)
    classes = dict(_classes(entry.modules))
    calls = list(_calls(entry.modules))
    seen: list[dict[str, Json]] = []
    for name, sizes, file, line in calls:
        base = classes.get(name, ({}, file, line))[0]
        yield from _once(_config(name, [base, sizes, told], file, line, _model_type(name, entry)), seen)
    for name, (sizes, file, line) in classes.items():
        if name not in {c[0] for c in calls}:
            yield from _once(_config(name, [sizes, told], file, line, ""), seen)
    if where is not None:
        yield from _once(_config("", [told], where[0], where[1], ""), seen)


def _once(config: ModelConfig | None, seen: list[dict[str, Json]]) -> Iterator[ModelConfig]:
    if config is not None and config.values not in seen:
        seen.append(config.values)
        yield config


def _config(name: str, layers: list[dict[str, Json]], file: str, line: int, kind: str) -> ModelConfig | None:
    """The sizes laid over one another; None for what has too few of them to be a transformer."""
    merged: dict[str, tuple[str, Json]] = {}
    for sizes in layers:
        for key, value in sizes.items():
            merged[_GROUP_OF[key]] = (key, value)
    if not all(group in merged for group in _NEEDED):
        return None
    values = {_SPELLED.get(key, key): value for key, value in merged.values()}
    values |= {"model_type": kind} if kind else {}
    return ModelConfig(file=file, line=line, kind=name, values=slim_config(values))


def _told(entry: Entry) -> tuple[dict[str, Json], tuple[str, int] | None]:
    """The sizes that command, configurations and options say, and where the first of them stands."""
    told: dict[str, Json] = {}
    where: tuple[str, int] | None = None
    for names in GROUPS.values():
        found = next((f for f in entry.said(names) if _number(f.value) is not None), None)
        if found is None:
            continue
        key = next(
            (n for n in names if any(_number(f.value) == _number(found.value) for f in entry.said((n,)))), names[0]
        )
        told[key] = _number(found.value)
        if where is None and found.evidence:
            where = found.evidence[0].file, found.evidence[0].line
    return told, where


def _classes(modules: tuple[Module, ...]) -> Iterator[tuple[str, tuple[dict[str, Json], str, int]]]:
    """Classes whose fields or whose constructor's defaults are sizes: name → sizes, file, line."""
    for module in modules:
        for name, node in module.classes.items():
            if not _BUILDERS.search(name):
                continue
            sizes = {**_fields(node, module), **_defaults(node, module)}
            if sizes:
                yield name, (sizes, module.path, node.lineno)


def _fields(node: ast.ClassDef, module: Module) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for statement in node.body:
        target: ast.expr | None = statement.target if isinstance(statement, ast.AnnAssign) else None
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        if (
            isinstance(target, ast.Name)
            and target.id in _GROUP_OF
            and isinstance(statement, ast.AnnAssign | ast.Assign)
        ):
            number = _number(value_of(statement.value, module)) if statement.value is not None else None
            if number is not None:
                found[target.id] = number
    return found


def _defaults(node: ast.ClassDef, module: Module) -> dict[str, Json]:
    starts = [s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"]
    found: dict[str, Json] = {}
    for start in starts[:1]:
        plain = (*start.args.posonlyargs, *start.args.args)
        given = zip(plain[len(plain) - len(start.args.defaults) :], start.args.defaults, strict=True)
        keyed = ((a, d) for a, d in zip(start.args.kwonlyargs, start.args.kw_defaults, strict=True) if d is not None)
        for argument, default in (*given, *keyed):
            number = _number(value_of(default, module)) if argument.arg in _GROUP_OF else None
            if number is not None:
                found[argument.arg] = number
    return found


def _calls(modules: tuple[Module, ...]) -> Iterator[tuple[str, dict[str, Json], str, int]]:
    """Calls that give sizes by name (`GPTConfig(n_layer=6)`), those with the most first."""
    found = []
    for module in modules:
        for call in module.calls:
            if not (call.last[:1].isupper() and _BUILDERS.search(call.last)):
                continue
            sizes = _keywords(call, module)
            if len(sizes) >= 2:
                found.append((call.last, sizes, module.path, call.line))
    yield from sorted(found, key=lambda c: -len(c[1]))[:_MOST_CONFIGS]


def _keywords(call: Call, module: Module) -> dict[str, Json]:
    given = ((k.arg, _number(value_of(k.value, module))) for k in call.node.keywords if k.arg in _GROUP_OF)
    return {name: number for name, number in given if name is not None and number is not None}


def _model_type(name: str, entry: Entry) -> str:
    """The kind of a config class that transformers has: `GPT2Config` is `gpt2`."""
    theirs = any(i.module.split(".")[0] == "transformers" and name in i.names for m in entry.modules for i in m.imports)
    if not theirs or not name.endswith("Config"):
        return ""
    plain = name.removesuffix("Config")
    return {"GPTNeoX": "gpt_neox", "GPTNeo": "gpt_neo", "GPTJ": "gptj", "XLMRoberta": "xlm-roberta"}.get(
        plain, re.sub(r"(?<=[a-z\d])(?=Moe$|VL)", "_", plain).lower()
    )


def _named(entry: Entry) -> Iterator[ModelConfig]:
    """Architectures of timm and torchvision that the code builds by their name."""
    for module in entry.modules:
        libraries = {i.module.split(".")[0] for i in module.imports}
        for call in module.calls:
            name = None
            if call.name in ("timm.create_model", "create_model") and "timm" in libraries:
                name = _first_text(call, module) or _architecture(entry)
            elif "torchvision" in libraries and re.fullmatch(
                r"(?:torchvision\.)?models(?:\.\w+)*\.[a-z]\w+", call.name
            ):
                name = call.last if call.last not in ("get_model", "__dict__") else _first_text(call, module)
            if name and len(name) < 80:
                yield ModelConfig(file=module.path, line=call.line, kind="architecture", values={"architecture": name})


def _first_text(call: Call, module: Module) -> str | None:
    first = (
        call.node.args[0]
        if call.node.args
        else next((k.value for k in call.node.keywords if k.arg == "model_name"), None)
    )
    value = value_of(first, module) if first is not None else None
    return value if isinstance(value, str) else None


def _architecture(entry: Entry) -> str | None:
    return next((f.value for f in entry.said(_ARCHITECTURES) if isinstance(f.value, str)), None)


def _described(entry: Entry) -> Iterator[ModelConfig]:
    """The `config.json` files of the repository that describe a model."""
    paths = sorted(p for p in entry.paths if basename(p) == "config.json" and entry.sources is not None)
    for path in paths[:_MOST_JSON]:
        text = entry.sources.text(path) if entry.sources else None
        if text is None or len(text) > _LONGEST_JSON:
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if (
            isinstance(values, dict)
            and ({"model_type", "text_config", "architectures"} | set(_GROUP_OF)) & values.keys()
        ):
            yield ModelConfig(file=path, kind="config.json", values=slim_config(values))


def _number(value: Json) -> int | float | None:
    """A size; also one that a shell or a configuration spells as text."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value):
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
        return value
    return None
