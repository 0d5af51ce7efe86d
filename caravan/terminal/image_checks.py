"""What registries' answers about the settings' images mean for a person: findings. Asks nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from caravan.values.checkup import Area, Finding, Level
from caravan.values.environment import ImageState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from caravan.values.environment import ImageAnswer

_SHOWN: Final = 4
_HINT: Final = {
    ImageState.ABSENT: "Correct CARAVAN_IMAGE or CARAVAN_BASE_IMAGES, or image and base_images of the profile.",
    ImageState.DENIED: "The nodes need a login for it, or it has another name.",
    ImageState.UNKNOWN: "The nodes, which pull it, may still get it; a profile's registry_mirrors name mirrors.",
}


def image_findings(answers: Sequence[ImageAnswer]) -> Iterator[Finding]:
    """One finding for each kind of answer. What is not there is a warning: only jobs that are given it would fail."""
    there = [a for a in answers if a.state is ImageState.THERE]
    if there:
        text = f"{len(there)} of {len(answers)} that the settings name are in their registries."
        yield Finding(area=Area.SERVICE, name="images", level=Level.OK, text=text)
    for state in (ImageState.ABSENT, ImageState.DENIED, ImageState.UNKNOWN):
        found = [a for a in answers if a.state is state]
        if found:
            names = ", ".join(a.image for a in found[:_SHOWN])
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            text = f"{names}{more}: {found[0].text}."
            yield Finding(area=Area.SERVICE, name="images", level=Level.WARNING, text=text, hint=_HINT[state])
