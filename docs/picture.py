"""Records a picture of a terminal: runs a command in one of its own and writes what a person then sees as SVG.

    python docs/picture.py --out docs/pictures/repair.svg --until "Attempt 2 of 3.*loss" --hide /home/me= -- main.py ...

The command is a Python program with its arguments. The picture is taken when `--until` (a regular expression over the
whole screen) is found and `--more` further seconds have passed, else when the command ends; then the command is ended.
`--hide OLD=NEW` replaces texts that belong to one machine; a picture that holds the home directory, the host's name
or this checkout's path is refused. Needs the packages of requirements-dev.txt and no network, as the SVG does.
"""

import argparse
import os
import platform
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_THEMES = ("dark", "light")


def main() -> int:
    """Record, check, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the SVG")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rows", type=int, default=26)
    parser.add_argument("--until", default="", help="regular expression; without it the command's end")
    parser.add_argument("--more", type=float, default=0.0, help="seconds to go on after that")
    parser.add_argument("--title", default="")
    parser.add_argument("--theme", choices=_THEMES, default="dark")
    parser.add_argument("--hide", action="append", default=[], metavar="OLD=NEW")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        parser.error("name a command after --")

    screen = record(command, args.columns, args.rows, args.until, args.more, os.environ)
    hidden = [tuple(text.partition("=")[::2]) for text in args.hide]
    text, svg = picture(screen, args.title or f"$ python {' '.join(command)}", args.theme, hidden)
    found = [word for word in own_words() if word in text]
    if found:
        print(f"The picture shows {', '.join(found)}: hide it with --hide.", file=sys.stderr)
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    part = args.out.with_name(f".{args.out.name}.part")
    part.write_text(svg, encoding="utf-8")
    part.replace(args.out)
    print(text)
    return 0


def record(command, columns, rows, until, more, environment):
    """The screen (tests.fakes.screens.Screen) at the moment that is wanted."""
    from tests.fakes.ptys import Sitting

    sitting = Sitting(command, cwd=ROOT, environment=environment, columns=columns, rows=rows)
    try:
        if not until:
            sitting.end()
            return sitting.screen
        wanted = re.compile(until, re.DOTALL)
        sitting.until(lambda s: wanted.search("\n".join(s.screen.rows())) is not None)
        end = time.monotonic() + more
        sitting.until(lambda _: time.monotonic() >= end)
        return sitting.screen
    finally:
        sitting.close()


def picture(screen, title, theme, hidden):
    """The screen as text and as SVG, with what is to be hidden replaced."""
    import io

    from rich.console import Console
    from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME

    columns = screen.screen.columns
    console = Console(
        file=io.StringIO(), record=True, width=columns, force_terminal=True, color_system="standard", highlight=False
    )
    lines = [replaced(line_text(screen, number), hidden) for number in range(len(screen.rows()))]
    while len(lines) > 1 and not lines[-1].plain.strip():
        lines.pop()
    for line in lines:
        line.no_wrap = True
        console.print(line, soft_wrap=True)
    colours = SVG_EXPORT_THEME if theme == "dark" else DEFAULT_TERMINAL_THEME
    svg = console.export_svg(title=title, theme=colours, code_format=without_fonts())
    return "\n".join(line.plain.rstrip() for line in lines), svg


def line_text(screen, number):
    """A line of the screen with its colours, as rich Text."""
    from rich.text import Text

    row = screen.screen.buffer[number]
    text = Text()
    for column in range(screen.screen.columns):
        cell = row[column]
        words = ["bold"] * cell.bold + [cell.fg] * (cell.fg != "default")
        text.append(cell.data, " ".join(words))
    text.rstrip()
    return text


def replaced(text, hidden):
    """A line in which texts are replaced; where that happens, it has no colours."""
    from rich.text import Text

    plain = text.plain
    for old, new in hidden:
        plain = plain.replace(old, new)
    return text if plain == text.plain else Text(plain)


def without_fonts():
    """rich's SVG without the addresses of font files: whoever looks at it has a monospaced font."""
    from rich._export_format import CONSOLE_SVG_FORMAT

    return re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def own_words():
    """What tells of this machine."""
    return [word for word in (str(Path.home()), str(ROOT), platform.node()) if len(word) > 2]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
