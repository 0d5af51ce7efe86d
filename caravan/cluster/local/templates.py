"""Templates as Nomad's client renders them, as far as the jobs here use them.

Pure. What is not understood is refused rather than guessed: a training with half an environment is worse than none.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from caravan.cluster.local import gotemplate
from caravan.cluster.local.goeval import CallFailed
from caravan.cluster.local.gofunctions import plain

ItemsOf = Callable[[str], Mapping[str, str] | None]
"""The items of the variable at a path, or None where there is none. May raise TemplateRefused."""

Services = Callable[[], Sequence[Mapping[str, Any]]]
"""The services that are registered, as templates see them: Name, Address, Port, Tags, JobID, AllocID, …"""

_ELSEWHERE: Final = ("key", "keyExists", "ls", "secret", "secrets", "service", "services", "tree")  # Consul, Vault


class TemplateRefused(Exception):
    """A template that can't be rendered, with the reason. `ends`: Nomad kills the task for it while rendering."""

    def __init__(self, text: str, *, ends: bool = False) -> None:
        super().__init__(text)
        self.ends = ends


class TemplateWaits(Exception):
    """A template that can't be rendered yet: the variables at `paths` are not there."""

    def __init__(self, paths: Collection[str]) -> None:
        super().__init__(", ".join(sorted(paths)))
        self.paths = frozenset(paths)


def no_variables(path: str) -> Mapping[str, str] | None:
    """A cluster without variables."""
    del path
    return None


def no_services() -> Sequence[Mapping[str, Any]]:
    """A cluster without services."""
    return ()


def render(
    text: str,
    environment: Mapping[str, str],
    left: str = "{{",
    right: str = "}}",
    *,
    items_of: ItemsOf = no_variables,
    services: Services = no_services,
    strict: bool = False,
    source: str = "dynamic",
) -> str:
    """A template's text; `source` is the file that it is from, for errors.

    `strict`: an item that is not there is an error, as `error_on_missing_key` has it. Go's template language with the
    functions of `gofunctions` and `_asking`; others are refused with TemplateRefused. Raises TemplateWaits for a
    variable that is not there.
    """
    seen = _Seen(items_of)
    functions = {**plain(), **_asking(environment, seen, services), **{name: _elsewhere(name) for name in _ELSEWHERE}}
    try:
        parsed = gotemplate.Template(text, [*functions, "and", "or"], left, right)
    except gotemplate.Wrong as wrong:
        raise TemplateRefused(f"Template failed: ({source}): parse: {wrong}", ends=True) from wrong
    try:
        if strict:  # the client's first look finds no variable at all, and an error of that look counts
            seen.blind = True
            parsed.render(functions, strict=strict)
            seen.blind = False
        made = parsed.render(functions, strict=strict)
    except gotemplate.Wrong as wrong:
        if wrong.parsing:
            line = parsed.place(wrong.at).partition(":")[0]
            raise TemplateRefused(
                f"Template failed: ({source}): parse: template: :{line}: {wrong}", ends=True
            ) from wrong
        place = f'template: :{parsed.place(wrong.at)}: executing "" at <{wrong.said}>: {wrong}'
        text = f"Template failed: ({source}): execute: {seen.without_secrets(place)}"
        raise TemplateRefused(text, ends=True) from wrong
    if seen.missing:
        raise TemplateWaits(seen.missing)
    return made


class _Seen:
    """The variables that a template has looked at. `blind`: none is there yet."""

    def __init__(self, items_of: ItemsOf) -> None:
        self._items_of = items_of
        self._found: dict[str, Mapping[str, str]] = {}
        self.missing: set[str] = set()
        self.blind = False

    def variable(self, path: str) -> Mapping[str, str]:
        """A variable's items; none where it is not there."""
        found = None if self.blind or not path else self._items_of(path)
        if found is None:
            self.missing |= {path} if path and not self.blind else set()
            return {}
        self._found[path] = found
        return found

    def exists(self, path: str) -> bool:
        """Whether a variable is there; one that is not is no hindrance."""
        return not self.blind and self._items_of(path) is not None

    def without_secrets(self, text: str) -> str:
        """A text without the values of the variables that were looked at."""
        for value in sorted({v for items in self._found.values() for v in items.values() if v}, key=len, reverse=True):
            text = text.replace(value, "[redacted]")
        return text


def _elsewhere(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise TemplateRefused(f"template: the built-in cluster has no Consul and no Vault for {name!r}")

    return refuse


def _asking(environment: Mapping[str, str], seen: _Seen, services: Services) -> dict[str, Callable[..., Any]]:
    """The functions that look at the cluster or the environment."""

    def required(name: str) -> str:
        if not environment.get(name):
            raise CallFailed(f"required environment variable {name} is empty")
        return environment[name]

    def service(*given: Any) -> list[Mapping[str, Any]]:
        """`nomadService "name"`, or with a number and a key the same few for that key."""
        name = str(given[-1]).partition("@")[0]
        found = sorted(
            (s for s in services() if s["Name"] == name), key=lambda s: (s["Address"], s["Port"], s["AllocID"])
        )
        return found[: int(given[0])] if len(given) > 2 else found

    def all_services() -> list[Mapping[str, Any]]:
        tags: dict[str, set[str]] = {}
        for one in services():
            tags.setdefault(one["Name"], set()).update(one["Tags"])
        return [{"Name": name, "Tags": sorted(tags[name])} for name in sorted(tags)]

    return {
        "env": lambda name: environment.get(name, ""),
        "envOrDefault": lambda name, otherwise: str(environment.get(name, otherwise)),
        "mustEnv": required,
        "nomadVar": seen.variable,
        "nomadVarExists": seen.exists,
        "nomadService": service,
        "nomadServices": all_services,
    }
