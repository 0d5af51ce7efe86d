"""Where a name that a module uses is defined: in it, or in another file of the repository that it imports it from.

Pure, over parsed modules. What stands in installed packages is not found; nothing is imported.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from posixpath import dirname
from typing import Final, NamedTuple

from caravan.analysis.findings import Import, Module
from caravan.analysis.python import value_of
from caravan.values.base import Json

_MAX_HOPS: Final = 6
"""Files through which a name is followed: packages that hand on what their parts define."""
Functions = ast.FunctionDef | ast.AsyncFunctionDef


class Definition(NamedTuple):
    """A class, a function or a constant's assignment, with the module in which it stands."""

    module: Module
    node: ast.ClassDef | Functions | ast.Assign | ast.AnnAssign


@dataclass(frozen=True, slots=True)
class Resolver:
    """Follows names through imports. `names`: dotted module name → file; `read` gives a file's parsed module."""

    names: Mapping[str, str]
    read: Callable[[str], Module]
    near: Callable[[str], tuple[Module, ...]] = lambda _: ()

    def find(self, module: Module, name: str) -> Definition | None:
        """What a (dotted) name stands for in that module, or None for what is not the repository's own."""
        return self._find(module, name, 0) if name else None

    def class_of(self, module: Module, name: str) -> tuple[Module, ast.ClassDef] | None:
        """The class of that name: as imported, else the only one of it among the modules near."""
        found = self.find(module, name)
        if found and isinstance(found.node, ast.ClassDef):
            return found.module, found.node
        last = name.rpartition(".")[2]
        return next(((m, m.classes[last]) for m in self.near(module.path) if last in m.classes), None)

    def function_of(self, module: Module, name: str) -> tuple[Module, Functions] | None:
        """The function of that name, as imported."""
        found = self.find(module, name)
        return (found.module, found.node) if found and isinstance(found.node, Functions) else None

    def constant_of(self, module: Module, name: str) -> tuple[Module, ast.expr] | None:
        """The expression that is assigned to that name at the top of its module."""
        found = self.find(module, name)
        if found and isinstance(found.node, ast.Assign | ast.AnnAssign) and found.node.value is not None:
            return found.module, found.node.value
        return None

    def value(self, module: Module, node: ast.expr | None) -> Json:
        """`value_of`, also of constants that stand in other modules."""
        value = value_of(node, module)
        if value is None and isinstance(node, ast.Name | ast.Attribute):
            found = self.constant_of(module, ast.unparse(node))
            value = value_of(found[1], found[0]) if found else None
        return value

    def _find(self, module: Module, name: str, hops: int) -> Definition | None:
        if hops > _MAX_HOPS:
            return None
        first, _, rest = name.partition(".")
        own = module.classes.get(first) or module.functions.get(first) or module.constants.get(first)
        if own is not None and not rest:
            return Definition(module, own)
        for item in module.imports:
            for path, remaining in self._targets(module, item, first, rest):
                found = self._find(self.read(path), remaining, hops + 1) if remaining else None
                if found is not None:
                    return found
        return None

    def _targets(self, module: Module, item: Import, first: str, rest: str) -> Iterator[tuple[str, str]]:
        """(file, name in it) that an import may mean by `first.rest`."""
        if not item.names:  # import a.b as c; import a.b
            alias = item.bound[0] if item.bound else ""
            if alias == first:
                whole = item.module if alias != item.module.split(".")[0] else first
                yield from self._split(module, f"{whole}.{rest}" if rest else "")
            return
        for original, bound in zip(item.names, item.bound, strict=False):
            if bound == first or original == "*":
                wanted = f"{first}.{rest}" if rest else first
                wanted = wanted if original == "*" else f"{original}.{rest}" if rest else original
                for base in self._bases(module, item):
                    if path := self.names.get(base):
                        yield path, wanted
                    submodule = self.names.get(f"{base}.{original}" if base else original)
                    if submodule and rest:
                        yield submodule, rest

    def _split(self, module: Module, dotted: str) -> Iterator[tuple[str, str]]:
        """A dotted name as (file of its longest part that is a module, the rest)."""
        parts = dotted.split(".")
        here = dirname(module.path).replace("/", ".")
        for i in range(len(parts) - 1, 0, -1):
            base = ".".join(parts[:i])
            for name in (f"{here}.{base}" if here else base, base):
                if path := self.names.get(name):
                    yield path, ".".join(parts[i:])

    def _bases(self, module: Module, item: Import) -> tuple[str, ...]:
        here = dirname(module.path).replace("/", ".")
        if not item.level:
            return (f"{here}.{item.module}", item.module) if here else (item.module,)
        parts = here.split(".") if here else []
        keep = parts[: len(parts) - item.level + 1]
        return (".".join([*keep, item.module] if item.module else keep),)
