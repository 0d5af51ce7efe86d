"""Names of container images: read into their parts as docker reads them, and held against patterns. Pure text work."""

import fnmatch
import re
from typing import Final, NamedTuple

HUB: Final = "docker.io"
_HUB_NAMES: Final = frozenset({"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
# The grammar of image references (distribution/reference): lower-case path parts, a tag, a digest.
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG: Final = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class Image(NamedTuple):
    """An image by its registry, its name there, and its tag or digest (None: there is none)."""

    registry: str
    name: str
    tag: str | None
    digest: str | None

    def text(self) -> str:
        """The full reference."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def read_image(reference: str) -> Image | None:
    """The image that a reference means: `ubuntu` is `docker.io/library/ubuntu:latest`; None for what is none."""
    name, at, digest = reference.strip().removeprefix("https://").partition("@")
    name, tag = _without_tag(name)
    registry, name = _placed(name)
    good = _HOST.fullmatch(registry) and _PATH.fullmatch(name) and (tag is None or _TAG.fullmatch(tag))
    if not good or (at and not _DIGEST.fullmatch(digest)):
        return None
    return Image(registry, name, tag or (None if at else "latest"), digest or None)


def image_matches(image: Image, pattern: str) -> bool:
    """Whether a pattern, written like a reference with wildcards, allows the image.

    Its `*` in the registry stays there; in the name it crosses slashes. Without a tag it means `latest`, but for a name
    that ends with `*`, which means every tag and digest. A digest beats a tag where both are named, as it does for
    docker: then the pattern must allow the digest, or every tag.
    """
    if pattern.strip() == "*":
        return True
    name, at, digest = pattern.strip().partition("@")
    name, tag = _without_tag(name)
    registry, name = _placed(name)
    if not fnmatch.fnmatchcase(image.registry, registry) or not fnmatch.fnmatchcase(image.name, name):
        return False
    if at:
        return image.digest is not None and fnmatch.fnmatchcase(image.digest, digest)
    tag = tag or ("*" if name.endswith("*") else "latest")
    if image.digest is not None:
        return tag == "*"
    return fnmatch.fnmatchcase(image.tag or "", tag)


def image_under(image: Image, prefix: str) -> str | None:
    """What is left of the image's name, with tag and digest, below a prefix (`docker.io`, `docker.io/library`)."""
    host, slash, path = prefix.strip().rstrip("/").partition("/")
    host = HUB if host.lower() in _HUB_NAMES else host.lower()
    if image.registry != host or (slash and not image.name.startswith(f"{path}/")):
        return None
    rest = image.text().removeprefix(f"{image.registry}/")
    return rest.removeprefix(f"{path}/") if slash else rest


def _without_tag(name: str) -> tuple[str, str | None]:
    before, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    return f"{before}{slash}{last}", tag if colon else None


def _placed(name: str) -> tuple[str, str]:
    """Registry and name: the first part is a registry when it looks like a host, else docker's hub is meant."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first in ("localhost", "*")):
        host = first.lower()
        host = HUB if host in _HUB_NAMES else host.removesuffix(":443")
        return host, f"library/{rest}" if host == HUB and "/" not in rest else rest
    return HUB, name if slash else f"library/{name}"
