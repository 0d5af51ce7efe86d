"""Writes the two texts of this example: the same seed, the same characters. Standard library only.

`base.txt` holds weather notes, `railway.txt` the day book of a mountain railway; both follow a small grammar of ours.
"""

import random
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIZES = {"base.txt": 4_000, "railway.txt": 186_000}  # characters

STATIONS = ("Alder Bridge", "Cold Spring", "Upper Mill", "Foxhollow", "Saint Orla", "Larch Pass", "Tarn", "Old Quarry")
PEOPLE = ("the guard", "the driver", "a signalman", "the station master", "a porter", "the fireman", "the clerk")
GOODS = ("timber", "milk", "slate", "mail", "apples", "coal", "wool", "barley", "lamp oil", "seed potatoes")
WEATHER = ("clear", "wet", "foggy", "windy", "very cold", "mild", "stormy", "dull", "bright after rain")
TROUBLES = (
    "the points were frozen",
    "a larch lay across the line",
    "the water crane ran dry",
    "sheep stood in the cutting",
    "the bell wire had snapped",
    "snow had drifted into the tunnel",
)
CURES = ("shovels", "a hand lamp and patience", "two horses", "hot ash", "a spare wire", "the help of the village")


def weather_note(rng):
    """A note on one day's weather."""
    low = rng.randint(-9, 14)
    return (
        f"Morning {rng.choice(WEATHER)}, {low} degrees; evening {rng.choice(WEATHER)}, {low + rng.randint(1, 9)}. "
        f"Wind from the {rng.choice(('north', 'east', 'south', 'west'))}, force {rng.randint(0, 9)}.\n"
    )


def railway_day(rng):
    """One entry of the day book: a date, two to four trains, and how the day ended."""
    lines = [f"Day {rng.randint(1, 365)}. The morning was {rng.choice(WEATHER)}."]
    for _ in range(rng.randint(2, 4)):
        start, end = rng.sample(STATIONS, 2)
        train = f"Train {rng.randint(2, 48)} left {start} at {rng.randint(5, 21)}.{rng.randint(0, 59):02d}"
        load = f"with {rng.randint(2, 60)} tons of {rng.choice(GOODS)}"
        if rng.random() < 0.4:
            late = f"{rng.choice(TROUBLES)}, and {rng.choice(PEOPLE)} cleared the way with {rng.choice(CURES)}"
            lines.append(f"{train} {load} and came to {end} {rng.randint(4, 90)} minutes late: {late}.")
        else:
            lines.append(f"{train} {load} and came to {end} in time.")
    lines.append(f"In the evening {rng.choice(PEOPLE)} wound the clock at {rng.choice(STATIONS)}.")
    return "\n".join(lines) + "\n\n"


def text(part, size, seed):
    """Parts of the grammar until there are `size` characters."""
    rng, found = random.Random(seed), ""
    while len(found) < size:
        found += part(rng)
    return found[:size].rsplit("\n", 1)[0] + "\n"


if __name__ == "__main__":
    for name, part in (("base.txt", weather_note), ("railway.txt", railway_day)):
        (HERE / name).write_text(text(part, SIZES[name], seed=name), encoding="utf-8")
