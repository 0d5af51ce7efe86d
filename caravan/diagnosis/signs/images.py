"""Signs in what registries, docker, containerd and podman say of an image. Only data."""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_SAID: Final = (Origin.EVENT, Origin.LOG)

_NAME: Final = r"[\w.-]+(?::\d+)?(?:/[\w.-]+)*(?:[:@][\w.:-]*\w)?"
_PULL: Final = rf"(?:[Ff]ailed to pull `(?P<image>{_NAME})`.*)?"

IMAGE_SIGNS: Final[tuple[Sign, ...]] = (
    row(rf"manifest for (?P<image>{_NAME}) not found", _SAID, _F.IMAGE_NOT_FOUND, 0.97),
    row(r"[Ff]ailed to pull `(?P<image>[^`]+)`.*manifest unknown", _SAID, _F.IMAGE_NOT_FOUND, 0.97),
    row(rf"(?:docker://|reference \"|image \")(?P<image>{_NAME}).*manifest unknown", _SAID, _F.IMAGE_NOT_FOUND, 0.97),
    row(r"\b(?i:manifest[ _]unknown)\b", _SAID, _F.IMAGE_NOT_FOUND, 0.95),
    row(rf"[Ff]ailed to resolve reference \"(?P<image>{_NAME})\".*: not found", _SAID, _F.IMAGE_NOT_FOUND, 0.97),
    row(rf"(?i:no such image): (?P<image>{_NAME})", _SAID, _F.IMAGE_NOT_FOUND, 0.95),
    row(
        r"[Ff]ailed to pull `(?P<image>[^`]+)`.*(?:\bnot found\b|\bdoes not exist in the registry\b|\b404\b)",
        _SAID,
        _F.IMAGE_NOT_FOUND,
        0.95,
    ),
    row(
        rf"{_PULL}(?:\b(?i:name[ _]unknown)\b|[Rr]epository with name '[^']*' does not exist in the registry"
        r"|imageId \{.*does not exist within the registry|\bartifact \S+ not found|unknown: repository \S+ not found)",
        _SAID,
        _F.IMAGE_NOT_FOUND,
        0.95,
    ),
    row(rf"short-name \"(?P<image>{_NAME})\" did not resolve", _SAID, _F.IMAGE_NOT_FOUND, 0.9),
    row(r"could not open image (?P<image>\S+): .*no such file", _SAID, _F.IMAGE_NOT_FOUND, 0.85),
    row(r"invalid reference format", _SAID, _F.IMAGE_NOT_FOUND, 0.75),
    # A registry that tells nobody whether a private repository exists says "denied" for both.
    row(
        r"pull access denied|requested access to the resource is denied|no basic auth credentials"
        r"|(?:pull|manifests|resolve|registry|/v2/).*(?:\b401\b|\b403\b|[Uu]nauthorized|denied)",
        (Origin.EVENT, Origin.LOG),
        _F.REGISTRY_AUTH_DENIED,
        0.95,
        _F.IMAGE_NOT_FOUND,
    ),
)
