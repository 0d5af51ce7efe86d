"""What `doctor` says of the road to a cluster: files of settings, prices, and stores, registry, notices, git.

The looks themselves are the wiring's. Here they are held in bounded time, all at once.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from caravan.values.checkup import Area, Finding, Level
from caravan.values.errors import CaravanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from caravan.terminal.wiring import Wiring
    from caravan.values.run import RunRequest

_PATIENCE_S: Final = 20.0  # for all looks together
THREAD: Final = "caravan-doctor"
"""Name of the threads whose answer may never come."""


def config_findings(wiring: Wiring) -> Iterator[Finding]:
    """Which files of settings are in force; one that is not trusted is a warning."""
    try:
        places = [place for place in wiring.config_control.places() if place.in_force]
    except CaravanError as error:
        yield Finding(area=Area.SETTINGS, name="config files", level=Level.FAILURE, text=error.message, hint=error.hint)
        return
    named = ", ".join(place.path for place in places if place.trusted)
    text = f"In force: {named}." if named else "None is in force: `main.py config set NAME VALUE` begins one."
    yield Finding(area=Area.SETTINGS, name="config files", level=Level.OK, text=text)
    for place in places:
        if not place.trusted:
            said = f"{place.path} is not trusted: only what lowers limits is taken from it."
            hint = "Read it, then `main.py config trust`; or leave it."
            yield Finding(area=Area.SETTINGS, name="config files", level=Level.WARNING, text=said, hint=hint)


def price_finding(wiring: Wiring, request: RunRequest) -> Finding:
    """Which prices count on the request's cluster."""
    try:
        prices = wiring.prices(request)
    except CaravanError as error:
        return Finding(area=Area.SETTINGS, name="prices", level=Level.FAILURE, text=error.message, hint=error.hint)
    text = "The catalogue's, which are those of public clouds (docs/estimate.md says how to set your own)."
    if prices.usd_per_gpu_hour is not None:
        text = f"{prices.usd_per_gpu_hour:g} US dollars for an hour of any GPU."
    elif prices.listed is not None:
        text = f"From {prices.where}."
    elif prices.by_model:
        text = f"The profile's, for {', '.join(sorted(prices.by_model))}."
    return Finding(area=Area.SETTINGS, name="prices", level=Level.OK, text=text)


def road_findings(wiring: Wiring, request: RunRequest) -> Iterator[Finding]:
    """Stores, registry, notices, git: each looked at beside the others; one that does not answer in time has failed."""
    try:
        looks = wiring.surroundings(request)
    except CaravanError as error:
        yield Finding(area=Area.SETTINGS, name="stores", level=Level.FAILURE, text=error.message, hint=error.hint)
        return
    said: list[Finding | None] = [None] * len(looks)

    def work(number: int, look: Callable[[], Finding]) -> None:
        said[number] = look()

    threads = [
        threading.Thread(target=work, args=(n, look), daemon=True, name=THREAD) for n, (_, look) in enumerate(looks)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _PATIENCE_S
    for thread, (name, _), number in zip(threads, looks, range(len(looks)), strict=True):
        thread.join(max(0.0, end - time.monotonic()))
        found = said[number]
        text = f"No answer within {_PATIENCE_S:.0f} s."
        yield found or Finding(area=Area.SERVICE, name=name, level=Level.FAILURE, text=text)
