"""Packages that the code on an entry's path imports and no dependency file brings. Pure, over `Sources`.

What may be missing is left out: an import inside `try`, under `TYPE_CHECKING`, in a function of another module than the
entry's own. A name that nobody knows a distribution for is told, never guessed.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from posixpath import dirname
from typing import Final

from caravan.analysis.findings import Module
from caravan.analysis.sources import Sources
from caravan.values.distributions import BUILT, distribution, is_standard, normal, requirement_name
from caravan.values.environment import ImportNeed
from caravan.values.places import SourceLine

MAX_NEEDS: Final = 40
# What each brings by itself, as the index resolves it (2026-11); only what has been so for years, whatever the version.
# torch does not bring numpy: code that imports it beside a bare torch fails.
BRINGS: Final[dict[str, str]] = {
    "accelerate": "torch numpy psutil pyyaml safetensors huggingface-hub packaging",
    "datasets": "numpy pandas pyarrow dill multiprocess fsspec tqdm huggingface-hub xxhash packaging filelock pyyaml",
    "deepspeed": "torch numpy psutil tqdm einops ninja pydantic packaging py-cpuinfo msgpack",
    "diffusers": "numpy pillow regex safetensors huggingface-hub filelock requests importlib-metadata",
    "evaluate": "datasets numpy pandas tqdm requests fsspec huggingface-hub packaging",
    "flax": "jax jaxlib numpy optax msgpack rich pyyaml tensorstore orbax-checkpoint typing-extensions",
    "hydra-core": "omegaconf packaging",
    "jax": "jaxlib numpy scipy ml-dtypes opt-einsum",
    "lightning": "torch tqdm pyyaml fsspec torchmetrics packaging lightning-utilities typing-extensions",
    "matplotlib": "numpy pillow packaging python-dateutil",
    "omegaconf": "pyyaml",
    "optax": "jax jaxlib numpy absl-py",
    "pandas": "numpy python-dateutil",
    "peft": "torch transformers accelerate numpy psutil pyyaml safetensors tqdm huggingface-hub packaging",
    "pytorch-lightning": "torch tqdm pyyaml fsspec torchmetrics packaging lightning-utilities typing-extensions",
    "scikit-learn": "numpy scipy joblib threadpoolctl",
    "sentence-transformers": "transformers torch tqdm scikit-learn scipy numpy huggingface-hub",
    "tensorflow": "numpy h5py protobuf six absl-py keras wrapt termcolor grpcio requests",
    "timm": "torch torchvision pyyaml huggingface-hub safetensors",
    "torch": "filelock typing-extensions sympy networkx jinja2 fsspec",
    "torchaudio": "torch",
    "torchmetrics": "torch numpy packaging",
    "torchvision": "torch numpy pillow",
    "transformers": "numpy tokenizers safetensors huggingface-hub regex tqdm pyyaml packaging filelock",
    "trl": "torch accelerate datasets transformers numpy",
    "unsloth": "torch transformers trl peft datasets accelerate bitsandbytes numpy sentencepiece",
    "vllm": "torch transformers numpy ray sentencepiece psutil tqdm pillow",
    "wandb": "click protobuf pyyaml requests platformdirs",
}
"""Distribution → those that come with it, by their normal names."""
# The same package under several names: whoever has one of them has the module.
_SAME: Final = (
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    ("tensorflow", "tensorflow-gpu", "tensorflow-cpu", "tf-nightly", "intel-tensorflow"),
    ("faiss-cpu", "faiss-gpu", "faiss", "faiss-gpu-cu12", "faiss-gpu-cu11"),
    ("pillow", "pillow-simd"),
    ("jax", "jaxlib"),
    ("nvidia-ml-py", "pynvml", "nvidia-ml-py3"),
    ("psycopg2-binary", "psycopg2"),
    ("lightning", "pytorch-lightning"),
    ("protobuf", "googleapis-common-protos"),
    ("onnxruntime", "onnxruntime-gpu"),
    ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x"),
    ("pycryptodome", "pycryptodomex", "pycrypto"),
    ("torch", "pytorch", "torch-nightly"),
    ("attrs", "attr"),
)
_PLATFORM: Final = frozenset({"google", "pkg_resources", "setuptools", "pip", "distutils"})
"""Names that most interpreters have, or that many distributions share."""


def brought(names: Iterable[str]) -> frozenset[str]:
    """The normal names with all that comes with them."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        pending += BRINGS.get(name, "").split()
        pending += next((list(group) for group in _SAME if name in group), [])
    return frozenset(found)


def missing_packages(modules: Sequence[Module], declared: frozenset[str], sources: Sources) -> tuple[ImportNeed, ...]:
    """What the modules import and neither `declared` (normal names) nor the repository brings; the entry's come first.

    `declared` are distributions; an import counts as brought by one of its own name too.
    """
    have = brought(declared)
    found: dict[str, ImportNeed] = {}
    for place, module in enumerate(modules):
        candidates = {
            name: item.line
            for item in module.imports
            if not item.level and (name := item.module.partition(".")[0]) and name not in found
        }
        candidates = {n: line for n, line in candidates.items() if _is_foreign(n, module, sources, have)}
        if not candidates:
            continue
        sure = certain_imports(sources.text(module.path) or "", inside=place == 0)
        for name, number in sure.items():
            if name in candidates:
                found.setdefault(name, _need(name, module.at(number)))
    return tuple(_without_the_brought(list(found.values())[:MAX_NEEDS]))


def _without_the_brought(needs: Sequence[ImportNeed]) -> Iterator[ImportNeed]:
    """Without what another one that is added brings anyway, and without a second one of the same distribution."""
    names = [requirement_name(n.requirement) if n.requirement else None for n in needs]
    told: set[str] = set()
    for need, name in zip(needs, names, strict=True):
        others = brought(n for n in names if n and n != name) - {n for n in names if n and name in brought([n])}
        if name is None or (name not in told and name not in others):
            yield need
        told |= {name} if name else set()


def _need(module: str, where: SourceLine) -> ImportNeed:
    known = distribution(module)
    return ImportNeed(module=module, requirement=BUILT.get(module, known), where=where)


def _is_foreign(name: str, module: Module, sources: Sources, have: frozenset[str]) -> bool:
    if name in sys.stdlib_module_names or is_standard(name) or name in _PLATFORM or name.startswith("_"):
        return False
    known = requirement_name(distribution(name) or "")
    # `open_clip` of `open_clip_torch`: where no distribution is known for it, one that is named after it has it.
    named = known is None and any(h.startswith(f"{normal(name)}-") for h in have)
    if known in have or normal(name) in have or named:
        return False
    return not _is_own(name, module, sources, known=known is not None)


def _is_own(name: str, module: Module, sources: Sources, *, known: bool) -> bool:
    """Whether the repository has the module itself. A well-known name counts only where Python would find it."""
    here = dirname(module.path)
    tops = {"", "src", here, *(here[:i] for i, c in enumerate(here) if c == "/"), *sources_roots(sources)}
    for top in tops:
        base = f"{top}/{name}" if top else name
        if f"{base}.py" in sources.paths or f"{base}/__init__.py" in sources.paths:
            return True
        if not known and base in sources.folders:  # an installed package goes before a directory without __init__
            return True
    if known:
        return False
    return any(p.endswith((f"/{name}.py", f"/{name}/__init__.py")) for p in sources.paths) or any(
        f.endswith(f"/{name}") for f in sources.folders
    )


def sources_roots(sources: Sources) -> frozenset[str]:
    """Directories that an install puts on the path: those of setup files, and `src` beside them."""
    setups = ("setup.py", "pyproject.toml", "setup.cfg")
    roots = {dirname(p) for p in sources.paths if p.rpartition("/")[2] in setups}
    return frozenset(r for root in roots for r in (root, f"{root}/src" if root else "src"))


def certain_imports(text: str, *, inside: bool) -> dict[str, int]:
    """Top-level name → line of the imports that are made whenever the file runs. `inside`: those in functions count.

    A file that does not parse has none.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found: dict[str, int] = {}
    pending: list[ast.stmt] = list(reversed(tree.body))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.setdefault(alias.name.partition(".")[0], node.lineno)
        elif isinstance(node, ast.ImportFrom):
            if not node.level and node.module:
                found.setdefault(node.module.partition(".")[0], node.lineno)
        else:
            pending += reversed(list(_followed(node, inside=inside)))
    return found


def _followed(node: ast.stmt, *, inside: bool) -> Iterator[ast.stmt]:
    """The statements in it that run for certain, or nearly so."""
    if isinstance(node, ast.If):
        if _is_main(node):  # whoever asks for anything else first may not need what is imported then
            yield from node.body
    elif isinstance(node, ast.With):
        yield from node.body
    elif isinstance(node, ast.ClassDef):
        yield from (s for s in node.body if not isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef))
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and inside:
        yield from node.body
    elif isinstance(node, ast.Try) and not _excuses(node):
        yield from (*node.body, *node.finalbody)


def _is_main(node: ast.If) -> bool:
    return "__name__" in ast.unparse(node.test)


def _excuses(node: ast.Try) -> bool:
    """Whether a failing import is caught."""
    caught = " ".join(ast.unparse(h.type) if h.type else "Exception" for h in node.handlers)
    return bool(re.search(r"Import|ModuleNotFound|Exception|OSError|AttributeError|RuntimeError", caught))
