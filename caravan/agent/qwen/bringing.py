"""What a change of code brings in that no correction of an error needs: programs, addresses, files, uploads, names of
other repositories, or ways to hide such. Pure; `patch` asks it. What a person reads is held to it too.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

_OUT: Final = frozenset(
    {
        # modules that start programs, open addresses, load what they are given, or hide what they do
        *("subprocess", "socket", "socketserver", "urllib", "http", "requests", "httpx", "aiohttp", "ftplib"),
        *("smtplib", "telnetlib", "paramiko", "ctypes", "pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"),
        *("base64", "codecs", "binascii", "importlib", "runpy", "pty", "shutil", "multiprocessing", "asyncio"),
        *("webbrowser", "zlib", "builtins", "code", "signal", "pip", "huggingface_hub", "fsspec", "boto3", "inspect"),
        # their functions, and those that need no module
        *("eval", "exec", "compile", "system", "popen", "Popen", "execv", "execve", "execvp", "spawnl", "spawnv"),
        *("fork", "environ", "getenv", "putenv", "kill", "startfile", "open", "getattr", "setattr", "delattr"),
        *("globals", "locals", "vars", "breakpoint", "import_module", "exec_module", "attrgetter"),
        *("_os", "_sys", "model_zoo", "load_url"),
        *("load_library", "load_inline", "cpp_extension", "hub", "load_state_dict_from_url", "download_url_to_file"),
        # files and the rights to them
        *("remove", "unlink", "rmtree", "rmdir", "removedirs", "chmod", "chown", "symlink", "symlink_to", "rename"),
        *("renames", "hardlink_to", "truncate", "write_text", "write_bytes", "read_text", "read_bytes", "tofile"),
        *("savetxt", "to_pickle", "read_pickle", "extractall", "touch", "fdopen", "read_csv", "read_json"),
        # what is uploaded, downloaded or trusted
        *("push_to_hub", "push_to_hub_model_id", "hub_model_id", "hub_token", "hub_strategy", "use_auth_token"),
        *("upload_folder", "upload_file", "upload_large_folder", "create_repo", "create_commit", "HfApi", "login"),
        *("hf_hub_download", "snapshot_download", "trust_remote_code", "allow_pickle", "report_to", "endpoint"),
        *("proxies", "force_download", "log_artifact", "use_artifact", "save_to_disk"),
    }
)
_IMPORTS: Final = frozenset(
    {
        *("__future__", "collections", "contextlib", "copy", "dataclasses", "functools", "gc", "itertools", "json"),
        *("logging", "math", "random", "re", "time", "typing", "warnings", "numpy", "torch", "transformers"),
        *("datasets", "accelerate", "peft"),
    }
)
"""Modules that a correction may bring in, beside those that the file imports already."""
_DUNDERS: Final = frozenset(
    {
        *("__init__", "__name__", "__file__", "__version__", "__len__", "__getitem__", "__iter__", "__next__"),
        *("__call__", "__enter__", "__exit__", "__post_init__", "__future__", "__main__"),
    }
)
_OF_MODULES: Final[dict[str, frozenset[str]]] = {
    "os": frozenset({"path", "makedirs", "cpu_count", "getcwd", "sep", "listdir"}),
    "sys": frozenset({"argv", "exit", "stdout", "stderr", "maxsize", "version_info", "platform"}),
    "builtins": frozenset[str](),
}
"""Of these modules only so much, and never the module itself under another name."""
_DOTTED: Final = frozenset({"torch.load", "torch.ops", "torch.classes", "torch.package"})
_PLACE: Final = re.compile(r"\S*/\S*")  # `owner/name`, a path, an address, or an end of one


def brings_in(before: str, after: str) -> str:
    """What no correction needs and the changed code has more often than before, in words; empty: nothing."""
    had, has = _parsed(before), _parsed(after)
    if has is None:
        return "code that can't be read"
    if had is None:  # old code that does not parse: every word of it counts as known
        known = Counter(re.findall(r"\w+", before))
        texts = set(re.findall(r"[\"']([^\"'\n]*)[\"']", before))
        own = {m[1] for m in re.finditer(r"^\s*(?:import|from)\s+(\w+)", before, re.MULTILINE)}
    else:
        known, own, texts = Counter(_names(had)), set(_modules(had)), set(_texts(had))
    more = Counter(_names(has)) - known
    found = next((name for name in sorted(more) if _outward(name)), None)
    module = next((m for m in sorted(set(_modules(has))) if m not in own and m not in _IMPORTS), None)
    place = next((t for t in sorted(set(_texts(has)) - texts) if _PLACE.fullmatch(t.strip())), None)
    if found is not None or module is not None:
        return found or module or ""
    return f"the place {place[:60]!r}" if place is not None else ""


def _outward(name: str) -> bool:
    if name.startswith("__") and name.endswith("__") and len(name) > 4:
        return name not in _DUNDERS
    module, _, part = name.partition(".")
    return name in _OUT or name in _DOTTED or (bool(part) and part not in _OF_MODULES.get(module, (part,)))


def _names(tree: ast.Module) -> Iterator[str]:
    """Every name that the code says, however it gets at it; with its module where that is known."""
    modules = dict(_bound(tree))
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
            if node.id in modules and id(node) not in inner:
                yield f"{modules[node.id]}.itself"
        elif isinstance(node, ast.Attribute):
            yield f"{node.attr}.itself" if node.attr in _OF_MODULES else node.attr
            if isinstance(node.value, ast.Name) and node.value.id in modules:
                yield f"{modules[node.value.id]}.{node.attr}"
        elif isinstance(node, ast.Call):
            yield from _called(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.arg):
            yield node.arg if isinstance(node, ast.arg) else node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "_" in node.value:
            yield node.value.strip()  # a name by which something is looked up
        elif isinstance(node, ast.ImportFrom | ast.Import):
            yield from _imported(node)


def _called(node: ast.Call) -> Iterator[str]:
    """The keywords of a call, but for what they switch off; `path.replace(other)` moves a file."""
    for keyword in node.keywords:
        value = keyword.value.value if isinstance(keyword.value, ast.Constant) else ...
        if keyword.arg == "weights_only" and value is not True:
            yield "allow_pickle"
        elif keyword.arg and not (keyword.arg in _OUT and value in (False, None, "none")):
            yield keyword.arg
    if isinstance(node.func, ast.Attribute) and node.func.attr == "replace" and len(node.args) == 1:
        yield "rename"


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    of = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    yield from of.split(".") if of else ()
    for alias in node.names:
        yield from alias.name.split(".")
        if of:
            yield f"{of}.{alias.name}"
            yield f"{alias.name}.itself"
        if alias.name == "*":
            yield "globals"


def _bound(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names under which modules are known, with the modules."""
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import) else ():
            top = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (top, top)


def _modules(tree: ast.Module) -> Iterator[str]:
    """The packages that the code imports; one of the file's own package as `.`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else (node.module or "").partition(".")[0]


def _texts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str | bytes):
            yield value if isinstance(value, str) else value.decode("utf-8", "replace")


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
