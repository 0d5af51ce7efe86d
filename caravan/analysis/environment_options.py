"""What a program lets its caller say by environment variables: names, defaults and types, spelled `$NAME`. Pure.

Read are `os.environ.get("LR", …)`, `os.getenv`, `os.environ["LR"]`, functions of the repository that hand a name on to
one of these, python-decouple's `config`, the `Env` of environs and django-environ, and pydantic's `BaseSettings`.
Variables that a launcher, a library or the machine sets, and secrets, are no options of the program.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from caravan.analysis.bindings import last_line
from caravan.analysis.class_options import Fields, Spelling
from caravan.analysis.findings import Call, FoundOption, Module
from caravan.analysis.option_parts import make, parameters
from caravan.analysis.python import dotted, keyword, text_of, value_of
from caravan.analysis.resolve import Functions, Resolver
from caravan.values.base import Json
from caravan.values.masking import is_secret_name

_GETS: Final = frozenset({"os.environ.get", "environ.get", "os.getenv", "getenv"})
_ITEMS: Final = frozenset({"os.environ", "environ"})
_CASTS: Final = frozenset({"int", "float", "bool", "str"})
_ENV_MAKERS: Final = frozenset({"Env", "FileAwareEnv"})
_ENV_PACKAGES: Final = frozenset({"environs", "environ"})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,80}")
_WHOLE: Final = re.compile(r"-?\d{1,18}")
_NUMBER: Final = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
# Who sets these is a launcher, the machine or a library's user; a plan speaks to them in other ways.
_NOT_OURS: Final = re.compile(
    r"(?:CUDA|NVIDIA|NCCL|HF|HUGGINGFACE|HUGGING_FACE|TRANSFORMERS|DATASETS|TORCH|TORCHELASTIC|PYTORCH|XLA|TF|JAX|OMP|MKL"
    r"|TOKENIZERS|WANDB|MLFLOW|COMET|NEPTUNE|CLEARML|TENSORBOARD|LANGFUSE|SLURM|OMPI|PMI|PBS|LSB|SGE|RAY|KUBERNETES|NOMAD"
    r"|CARAVAN|AWS|AZURE|GOOGLE|GCP|GCS|SM|AZUREML|DEEPSPEED|ACCELERATE|FSDP|UCX|PYTHON\w*|PIP|CONDA|VIRTUAL|XDG|LC|LD"
    r"|GIT|GITHUB|CI|MASTER|LOCAL_RANK|VLLM|TRITON|BNB)_\w+"
    r"|(?:LOCAL_|GROUP_|NODE_|ROLE_)?RANK|(?:LOCAL_|GROUP_|ROLE_)?WORLD_SIZE|PYTHON\w*|HOME|USER|USERNAME|LOGNAME|PATH|PWD"
    r"|SHELL|LANG|TERM|DISPLAY|HOSTNAME|TMP|TEMP|TMPDIR|CI|DEBUG|VIRTUAL_ENV|COLUMNS|EDITOR|(?:HTTPS?|NO|ALL)_PROXY"
)
_MOST: Final = 200


class _Read(NamedTuple):
    """A place that reads a variable. `required`: without it the program ends."""

    node: ast.expr
    name: ast.expr
    default: ast.expr | None = None
    kind: str | None = None
    required: bool = False


class _Helper(NamedTuple):
    """A function that hands on a parameter as a variable's name: the positions of the name and of its default."""

    name: int
    default: int | None
    default_name: str
    kind: str | None


def environment_options(modules: Sequence[Module], resolver: Resolver) -> tuple[FoundOption, ...]:
    """The options of all modules, the first place of each name; flags are `$NAME`."""
    found: dict[str, FoundOption] = {}
    for module in modules:
        written = _written(module)
        for option in (*_read(module, resolver), *_settings(module, resolver)):
            name = option.option.flag[1:]
            if len(found) < _MOST and _is_option(name) and name not in written:
                found.setdefault(name, option)
    return tuple(found.values())


def _is_option(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not _NOT_OURS.fullmatch(name.upper()) and not is_secret_name(name)


def _written(module: Module) -> frozenset[str]:
    """Variables that the module sets by itself, whatever the caller says."""
    stored = (s for s in module.subscripts if isinstance(s.ctx, ast.Store) and dotted(s.value) in _ITEMS)
    return frozenset(name for s in stored if (name := text_of(s.slice)))


def _read(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    reads = sorted((*_plain(module), *_of_packages(module), *_helped(module, resolver)), key=lambda r: r.node.lineno)
    casts = _casts(module)
    for read in reads:
        name = text_of(read.name, module)
        if not name:
            continue
        kind, instead = casts.get(id(read.node), (None, None))
        default = resolver.value(module, read.default if read.default is not None else instead)
        said = _typed(default, kind or read.kind)
        named = kind or read.kind or (type(said).__name__ if said is not None else None)
        required = read.required and instead is None
        yield make(module, read.node, (f"${name}",), default=said, type=named, required=required)


def _plain(module: Module) -> Iterator[_Read]:
    for call in module.calls:
        if call.name in _GETS and call.node.args:
            yield _Read(call.node, call.node.args[0], _second(call, "default"))
    for item in module.subscripts:
        if isinstance(item.ctx, ast.Load) and dotted(item.value) in _ITEMS:
            yield _Read(item, item.slice, required=True)


def _second(call: Call, *names: str) -> ast.expr | None:
    """The default: the second argument, or the one that is named so."""
    return call.node.args[1] if len(call.node.args) > 1 else keyword(call.node, *names)


def _of_packages(module: Module) -> Iterator[_Read]:
    """`config("LR", default=…, cast=float)` of decouple; `env.float("LR", 0.1)` of environs and django-environ."""
    packages = {i.module.partition(".")[0] for i in module.imports}
    made = {name for name, s in module.constants.items() if packages & _ENV_PACKAGES and _makes_env(s.value)}
    for call in module.calls if made or "decouple" in packages else ():
        first, _, last = call.name.rpartition(".")
        decoupled = "decouple" in packages and call.name in ("config", "decouple.config")
        typed = first in made and last in _CASTS
        if not call.node.args or not (decoupled or typed or call.name in made):
            continue
        default = _second(call, "default")
        cast = keyword(call.node, "cast")
        kind = last if typed else dotted(cast) if cast is not None else None
        yield _Read(call.node, call.node.args[0], default, kind if kind in _CASTS else None, default is None)


def _makes_env(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in _ENV_MAKERS


def _casts(module: Module) -> dict[int, tuple[str | None, ast.expr | None]]:
    """Node → (type, value instead) for what `float(…)` makes of it, and for `… or VALUE`."""
    found: dict[int, tuple[str | None, ast.expr | None]] = {}
    for statement in module.constants.values():
        if isinstance(statement.value, ast.BoolOp):
            node, instead = _peeled(statement.value)
            found[id(node)] = None, instead
    for call in reversed(module.calls):  # of `int(float(x))` the outer one, which stands first, counts
        if call.name in ("int", "float", "bool") and len(call.node.args) == 1:
            node, instead = _peeled(call.node.args[0])
            found[id(node)] = call.name, instead
    return found


def _peeled(node: ast.expr) -> tuple[ast.expr, ast.expr | None]:
    """What is inside casts and before `or`, and what stands after it."""
    instead: ast.expr | None = None
    for _ in range(4):
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            instead = node.values[-1]
            node = node.values[0]
        elif isinstance(node, ast.Call) and dotted(node.func) in ("int", "float") and len(node.args) == 1:
            node = node.args[0]
        else:
            break
    return node, instead


def _typed(value: Json, kind: str | None) -> Json:
    """A default as the program has it: a variable's text is the number that it is cast to, or that it spells."""
    if not isinstance(value, str):
        return value if isinstance(value, bool | int | float) else None
    text = value.strip()
    if kind == "bool" or kind == "str":
        return value if kind == "str" else text.casefold() in ("1", "true", "yes", "on")
    if _WHOLE.fullmatch(text):
        return float(text) if kind == "float" else int(text)
    if _NUMBER.fullmatch(text):
        number = float(text)
        return int(number) if kind == "int" and number == int(number) else number
    return value if value and kind is None else None


def _helped(module: Module, resolver: Resolver) -> Iterator[_Read]:
    """Calls of the repository's own functions that read the variable which they are told the name of."""
    known: dict[str, _Helper | None] = {}
    for call in module.calls:
        if call.name in _GETS or not call.node.args or not isinstance(call.node.args[0], ast.Constant):
            continue
        if not isinstance(call.node.args[0].value, str) or not _NAME.fullmatch(call.node.args[0].value):
            continue
        if call.name not in known:
            function = resolver.function_of(module, call.name)
            known[call.name] = _helper(*function) if function else None
        helper = known[call.name]
        if helper is None or len(call.node.args) <= helper.name:
            continue
        place = helper.default
        given = call.node.args[place] if place is not None and len(call.node.args) > place else None
        default = given if given is not None else keyword(call.node, helper.default_name)
        yield _Read(call.node, call.node.args[helper.name], default, helper.kind)


def _helper(module: Module, function: Functions) -> _Helper | None:
    """The function as one that hands on a name, or None."""
    names = [a.arg for a, _ in parameters(function)]
    for read in _plain(module):
        inside = function.lineno <= read.node.lineno <= last_line(function)
        if not inside or not isinstance(read.name, ast.Name) or read.name.id not in names:
            continue
        default = read.default.id if isinstance(read.default, ast.Name) else ""
        default = default or next((n for n in names if n in ("default", "fallback")), "")
        kind = _casts(module).get(id(read.node), (None, None))[0]
        returns = dotted(function.returns) if function.returns is not None else ""
        place = names.index(default) if default in names else None
        return _Helper(
            names.index(read.name.id), place, default or "default", kind or (returns if returns in _CASTS else None)
        )
    return None


def _settings(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """The fields of the module's classes over pydantic's `BaseSettings`."""
    for node in module.classes.values():
        if not any(dotted(b).rpartition(".")[2] == "BaseSettings" for b in node.bases):
            continue
        prefix, delimiter, cased = _spelled(node, module)
        fields = Fields(resolver, Spelling(before="$"))
        for found in fields.of_class(module, node.name):
            path = found.option.flag[1:]
            if "." in path and not delimiter:
                continue  # one variable holds the whole part as JSON
            name = found.option.aliases[0][1:] if found.option.aliases else prefix + path.replace(".", delimiter)
            flag = f"${name if cased else name.upper()}"
            option = found.option.model_copy(update={"flag": flag, "aliases": ()})
            yield replace(found, option=option, flags=(flag,))


def _spelled(node: ast.ClassDef, module: Module) -> tuple[str, str, bool]:
    """(prefix, delimiter of nested fields, whether case counts) of a class: `model_config`, or an inner `Config`."""
    told: dict[str, Json] = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            if any(isinstance(t, ast.Name) and t.id == "model_config" for t in statement.targets):
                told |= {k.arg: value_of(k.value, module) for k in statement.value.keywords if k.arg}
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            value = value_of(statement.value, module)
            named = any(isinstance(t, ast.Name) and t.id == "model_config" for t in statement.targets)
            told |= value if named and isinstance(value, dict) else {}
        elif isinstance(statement, ast.ClassDef) and statement.name == "Config":
            for line in statement.body:
                if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                    told[line.targets[0].id] = value_of(line.value, module)
    return (
        str(told.get("env_prefix") or ""),
        str(told.get("env_nested_delimiter") or ""),
        told.get("case_sensitive") is True,
    )
