"""`prices.toml`: which price list is in force, read and checked; and what of settings and profile counts beside it.

It knows no cluster and no plan: which of the prices counts for a node is the planning's to say.
"""

import tomllib
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from caravan.values.errors import UsageError
from caravan.values.masking import mask
from caravan.values.prices import PriceList, Prices, Rate
from caravan.values.target import Site
from config import Settings
from config_files import line_of
from profiles import prices_by_model

NAME: Final = "prices.toml"
_LARGEST: Final = 1 << 20  # bytes of a file that is read


def find_prices(
    settings: Settings, site: Site | None, *, user: Path, system: Path, came: Prices | None = None
) -> Prices:
    """What is paid: a price for every GPU that the environment names stands for all, else the list and the profile.

    `user` and `system` are the configuration directories; `came` is what came with the run and holds where there is no
    list here. Raises UsageError naming file, line and key.
    """
    settings = settings.beside(site.profile if site else None)
    if settings.usd_per_gpu_hour is not None:
        return Prices(usd_per_gpu_hour=settings.usd_per_gpu_hour)
    path = price_file(settings, site, user=user, system=system)
    if path is None and came is not None:
        return came
    listed = None if path is None else read_prices(path)
    return Prices(by_model=prices_by_model(settings, site), listed=listed, where="" if path is None else str(path))


def price_file(settings: Settings, site: Site | None, *, user: Path, system: Path) -> Path | None:
    """The list that is in force: named by the environment, the profile, else the first that there is. Never mixed."""
    settings = settings.beside(site.profile if site else None)
    if settings.prices is not None:
        return settings.prices.expanduser().absolute()
    if site is not None and site.profile.prices_file:
        return Path(site.profile.prices_file)
    return next((p for folder in (settings.home, user, system) if (p := folder / NAME).is_file()), None)


def read_prices(path: Path) -> PriceList:
    """The list in the file. Raises UsageError naming file, line and key for whatever is no list of prices."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such name"
        raise UsageError(
            f"The prices in {path} can't be read ({reason}).", hint="Check CARAVAN_PRICES or prices_file."
        ) from error
    if len(data) > _LARGEST:
        raise UsageError(f"{path} is too large for a list of prices.")
    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        said = mask(str(error).rstrip("."))[:200]
        raise UsageError(f"{path}: {said}.", hint="It must be TOML (see docs/estimate.md).") from error
    try:
        return PriceList.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        keys = [str(part) for part in first["loc"]]
        where = f"{path}, line {line_of(text, keys)}: {'.'.join(keys)}"
        if first["type"] == "extra_forbidden":
            known = ", ".join(Rate.model_fields if len(keys) > 1 else PriceList.model_fields)
            raise UsageError(f"{where}: there is no such key.", hint=f"Keys: {known}.") from error
        said = mask(first["msg"].removeprefix("Value error, ").rstrip("."))[:200]
        raise UsageError(f"{where}: {said}.", hint="A price is a number of US dollars an hour.") from error
