"""Bytes, seconds and money in words: the one place where a person's figures are made of them, in every room.

Standard library only: a help page loads it too.
"""

from typing import Final

_SIZES: Final = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_ROUGHLY: Final = 90  # seconds from which on a guess is told in minutes
_LONG: Final = 48 * _HOUR  # from which on hours are told in days


def size_text(amount: float) -> str:
    """Bytes as `619 bytes`, `12.6 kB`, `539 MB`, `5.4 GB`: powers of 1000, three digits."""
    for unit, least in _SIZES:
        if amount >= least * 0.9995:
            return f"{amount / least:.0f} {unit}" if amount >= least * 999.5 else f"{amount / least:.3g} {unit}"
    return f"{amount:.0f} byte{'' if round(amount) == 1 else 's'}"


def part_text(part: float, whole: float) -> str:
    """How many bytes of how many, in the unit of the whole: `0.8 of 12.6 kB`."""
    unit, least = next(((unit, least) for unit, least in _SIZES if whole >= least * 0.9995), ("bytes", 1.0))
    return f"{part / least:.3g} of {whole / least:.3g} {unit}" if least > 1 else f"{part:.0f} of {whole:.0f} bytes"


def duration(seconds: float | None, *, exact: bool = False) -> str:
    """Seconds as `5.2 s`, `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`; `not known` for None.

    `exact`: what was measured or is a limit keeps its seconds below an hour (`1 min 15 s`); a guess does not.
    """
    if seconds is None:
        return "not known"
    if seconds < 9.5:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "0 s"
    if (round(seconds) < _MINUTE) if exact else (seconds < _ROUGHLY):
        return f"{seconds:.0f} s"
    if exact and round(seconds) < _HOUR:
        return _two(round(seconds), _MINUTE, "min", "s")
    minutes = round(seconds / _MINUTE)
    if minutes < 60:
        return f"{minutes} min"
    if minutes * _MINUTE < _LONG:
        return _two(minutes, 60, "h", "min")
    return _two(round(seconds / _HOUR), 24, "d", "h", wide=1)


def _two(amount: int, step: int, large: str, small: str, *, wide: int = 2) -> str:
    whole, rest = divmod(amount, step)
    return f"{whole} {large} {rest:0{wide}d} {small}" if rest else f"{whole} {large}"


def money(usd: float | None) -> str:
    """US dollars with cents; `not known` for None."""
    return "not known" if usd is None else f"{usd:.2f} USD"
