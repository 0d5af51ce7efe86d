"""What environment variables ask for: GPUs, package indexes, other places for results. Claims, as `claims` has them.

Variables come as pairs, because a template may set one that the job sets too: each of them is judged. Of a value that
is only known on the node no rule with a pattern allows anything.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from caravan.planning.claim import NEVER, Claim

Pair = tuple[str, str]
"""A variable's name and value."""

UNKNOWN: Final = "\0"
"""What a template prints in a place that is only known on the node. No variable and no value can hold it."""
DEFAULT_INDEX: Final = "https://pypi.org/simple"
"""Where pip and uv look when nobody tells them."""
_INSTEAD: Final = frozenset({"PIP_INDEX_URL", "PIP_PYPI_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"})
# Variables that name indexes, as URLs. pip lower-cases what follows `PIP_`, so names are compared in one case.
_INDEXES: Final = _INSTEAD | {
    *("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS")
}
# Those of pip and uv that say nothing about where packages come from. Every other one may.
_ELSEWISE: Final = frozenset(
    f"PIP_{name}"
    for name in (
        *("CACHE_DIR", "NO_CACHE_DIR", "DEFAULT_TIMEOUT", "TIMEOUT", "RETRIES", "DISABLE_PIP_VERSION_CHECK"),
        *("NO_INPUT", "PROGRESS_BAR", "QUIET", "VERBOSE", "NO_COLOR", "ROOT_USER_ACTION", "NO_BUILD_ISOLATION"),
        *("PREFER_BINARY", "ONLY_BINARY", "NO_BINARY", "PRE", "BREAK_SYSTEM_PACKAGES", "NO_WARN_SCRIPT_LOCATION"),
        *("NO_COMPILE", "COMPILE", "REQUIRE_HASHES", "NO_DEPS", "UPGRADE", "USER", "NO_INDEX", "RESUME_RETRIES"),
    )
) | frozenset(
    f"UV_{name}"
    for name in (
        *("CACHE_DIR", "NO_CACHE", "HTTP_TIMEOUT", "REQUEST_TIMEOUT", "HTTP_RETRIES", "LINK_MODE", "NO_PROGRESS"),
        *("OFFLINE", "PYTHON", "SYSTEM_PYTHON", "COMPILE_BYTECODE", "CONCURRENT_DOWNLOADS", "CONCURRENT_BUILDS"),
        *("CONCURRENT_INSTALLS", "PRERELEASE", "RESOLUTION", "NO_CONFIG", "BREAK_SYSTEM_PACKAGES", "NO_BUILD"),
        *("NO_BINARY", "NO_BUILD_ISOLATION", "PYTHON_PREFERENCE", "PYTHON_DOWNLOADS", "REQUIRE_HASHES", "NO_INDEX"),
    )
)
_INDEX_OPTION: Final = re.compile(
    r"(?:--index-url|--extra-index-url|--find-links|--default-index)(?:\s+|=)['\"]?([^\s'\"]+)"
)
# Where libraries of stores send what is meant for a bucket, beside the names with ENDPOINT_URL in them.
_STORES: Final = frozenset({"AWS_CONFIG_FILE", "STORAGE_EMULATOR_HOST"})
_HARMLESS_STORES: Final = frozenset({"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"})


def pairs_in(text: str) -> Iterator[Pair]:
    """The variables that a template with `env` sets, read as Nomad reads them; what isn't known holds `UNKNOWN`."""
    for line in text.split("\n"):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = re.sub(r"^export\s+", "", line).partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        if equals or UNKNOWN in line:
            yield name.strip(), value


def environment_claims(pairs: Iterable[Pair], field: str) -> Iterator[Claim]:
    """Claims of all variables together; `field` names where they stand."""
    for name, value in pairs:
        if UNKNOWN in name:
            yield Claim(NEVER, field, "a variable whose name is only known on the node")
            continue
        shown, where = value.replace(UNKNOWN, "${…}"), f"{field}.{name}"
        yield from _gpus(name, shown, where)
        yield from _indexes(name, shown, where)
        yield from _stores(name, shown, where)


def _gpus(name: str, value: str, field: str) -> Iterator[Claim]:
    """A claim on GPUs beside those that Nomad hands out: the container runtime gives what this variable names."""
    if name == "NVIDIA_VISIBLE_DEVICES" and value not in ("", "void", "none"):
        yield Claim("privileges.options", field, name)


def _indexes(name: str, value: str, field: str) -> Iterator[Claim]:
    name = name.upper()
    if name in _INDEXES:
        for url in value.replace(",", " ").split() if name == "UV_FIND_LINKS" else value.split():
            # `name=URL` is uv's way to name an index; a URL's own query has its `=` behind the `://`.
            url = url.partition("=")[2] if name == "UV_INDEX" and "=" in url.partition("://")[0] else url
            yield Claim("sources.package_indexes", field, url)
    elif name.startswith(("PIP_", "UV_")) and name not in _ELSEWISE:
        yield Claim("sources.package_indexes", field, name)


def _stores(name: str, value: str, field: str) -> Iterator[Claim]:
    """Claims on places for results that are not those which `outputs` names: an endpoint serves any bucket."""
    name = name.upper()
    elsewhere = "ENDPOINT_URL" in name or name.startswith("FSSPEC_") or name in _STORES
    if elsewhere and name not in _HARMLESS_STORES and value:
        yield Claim("sources.outputs", field, value)


def names_an_index(pairs: Iterable[Pair]) -> bool:
    """Whether a variable says where packages come from instead of the default."""
    return any(name.upper() in _INSTEAD and value for name, value in pairs)


def option_claims(texts: Iterable[str], field: str) -> Iterator[Claim]:
    """Claims on package indexes that options in shell texts name, written out. Shorter forms can't be told there."""
    for text in texts:
        for url in _INDEX_OPTION.findall(text):
            yield Claim("sources.package_indexes", field, url)
