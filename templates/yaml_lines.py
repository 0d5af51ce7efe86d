"""Changes keys of a YAML document in its text, so that everything else stays as it is written.

It knows block mappings and sequences, which configs are made of, and says `Unreadable` of what it does not know. Runs
inside the job beside `overlays.py`, with the standard library alone.
"""

import json
import re


class Unreadable(Exception):
    """The text can't be changed by its lines."""


ODD = re.compile("[\\r\\x85\\u2028\\u2029]")
"""What ends a line to some YAML parsers and not to others."""


def split_lines(text: str) -> tuple:
    """The lines of a text, the last one empty where it ends in a line's end, and the line's end that it uses."""
    return re.split(r"\r?\n", text), "\r\n" if "\r\n" in text else "\n"


def value_end(lines: list, row: int, column: int, *, toml: bool) -> tuple:
    """Where a quoted or bracketed value that begins there ends: row, and the column after it."""
    depth, quote = 0, ""
    while row < len(lines):
        line = lines[row]
        while column < len(line):
            here = line[column]
            if quote:
                column, quote = quote_step(line, column, quote, toml=toml)
            elif here in "\"'" and (toml or not depth or quote_begins(line, column)):
                quote = here * 3 if toml and line.startswith(here * 3, column) else here
                column += len(quote)
                continue
            elif here == "#" and (toml or line[column - 1 : column] in ("", " ", "\t")):
                break
            else:
                depth += (here in "[{") - (here in "]}")
            column += 1
            if not depth and not quote and here in "\"']}":
                return row, column
        row, column = row + 1, 0
    raise Unreadable("a quote or a bracket is never closed")


def quote_begins(line: str, column: int) -> bool:
    """Whether a quote inside YAML's brackets begins a text, and is not a letter of a word. Raises Unreadable."""
    before = line[:column].rstrip(" \t")
    if not before or before[-1] in "[{," or (before[-1] == ":" and len(before) < column):
        return True
    if len(before) < column or before[-1] == ":":
        raise Unreadable("a quote in brackets is not understood")
    return False


def quote_step(line: str, column: int, quote: str, *, toml: bool) -> tuple:
    """One character inside a quoted text: the column of its last one, and the quote, empty once it is closed."""
    escaped = line[column] == "\\" and quote[0] == '"'
    doubled = quote == "'" and not toml and line.startswith("''", column)
    if escaped or doubled:
        return column + 1, quote
    return (column + len(quote) - 1, "") if line.startswith(quote, column) else (column, quote)


class Entry:
    """A key of a block mapping: its dotted path, its place, and the place of its value. `plain`: may be replaced."""

    def __init__(self, path: str, row: int, indent: int, start: int) -> None:
        self.path, self.row, self.indent = path, row, indent
        self.start, self.end, self.last = start, start, row
        self.empty, self.plain, self.children = False, True, False


class YamlLines:
    """What the lines of a YAML document hold, as far as block mappings and sequences go."""

    def __init__(self, lines: list) -> None:
        self.lines = lines
        self.entries: list = []
        self.root_indent = 0
        self.root = "nothing"
        self.last = -1
        self.stop = 0  # the row after the document
        self.open_end = False  # whether the text ends inside a block scalar, without a line's end
        self._frames: list = []  # of the open collections: [indent, "map" or "seq", path, number or last entry]
        self._read()

    def _read(self) -> None:
        row, deeper, begun, marked = 0, None, False, False
        while row < len(self.lines):
            line = self.lines[row]
            words = line.strip(" \t")
            if not words or words.startswith("#"):
                self._even(row)
                row += 1
                continue
            if re.match(r"(---|\.\.\.)([ \t]|$)", line):
                if begun:
                    break
                if marked or not re.fullmatch(r"---([ \t]+#.*)?", words):
                    raise Unreadable("how the document begins is not understood")
                row, marked = row + 1, True
                continue
            if line.startswith("%") and not begun and not marked:
                row += 1
                continue
            begun = True
            indent = len(line) - len(line.lstrip(" "))
            if deeper is not None and indent > deeper:
                self._even(row)
                self._mark(row)  # a scalar goes on
                if self._frames and self._frames[-1][1] == "map":
                    self._frames[-1][3].plain = False
                row += 1
                continue
            if line[indent] == "\t":
                raise Unreadable("a line is indented by a tab")
            row, deeper = self._content(row, indent)
        self.stop = row
        self.last = max((e.last for e in self.entries), default=-1)

    def _even(self, row: int, start: int = 0, end=None) -> None:
        """Raise for a part of a line that parsers don't agree on where it ends."""
        if ODD.search(self.lines[row][start:end]):
            raise Unreadable(f"line {row + 1} has an odd line's end in it")

    def _content(self, row: int, column: int) -> tuple:
        """Read a line's content from that column on. The next row, and the indent below which a scalar goes on."""
        line = self.lines[row]
        dash = None
        while re.match(r"-([ \t]|$)", line[column:]):
            self._item(column, fresh=dash is not None)
            self._mark(row)
            dash = column
            rest = line[column + 1 :]
            column += 1 + len(rest) - len(rest.lstrip(" "))
            if not rest.strip(" \t") or rest.lstrip(" \t").startswith("#"):
                self._even(row)
                return row + 1, None
        key = yaml_key(line[column:])
        if key is None:
            self._close(column if dash is None else dash + 1)
            if not self._frames:
                raise Unreadable("it is no mapping")
            if dash is None:  # the value of a key, below it
                top = self._frames[-1]
                if line[column] not in "\"'[{" or top[1] != "map" or not top[3].empty or top[3].children:
                    raise Unreadable(f"line {row + 1} is not understood")
                top[3].children = True
            end = self._scalar(row, column, dash if dash is not None else column - 1)
            self._mark(end[2] - 1)
            return end[2:]
        name, width = key
        entry = self._entry(name, row, column, column + width, fresh=dash is not None)
        end = self._scalar(row, column + width, column)
        entry.start, entry.end = end[0], end[1]
        entry.empty = entry.start == entry.end
        first = line[entry.start : entry.start + 1]
        entry.plain = first not in ("&", "!", "|", ">") and end[2] == row + 1
        if first in ("&", "!") and len(line[entry.start : entry.end].split()) == 1:
            entry.empty = True  # an anchor or a tag of what follows
        self._mark(end[2] - 1)
        return end[2], None if entry.empty else end[3]

    def _scalar(self, row: int, column: int, indent: int) -> tuple:
        """The value that begins there: start, end, the next row, and the indent below which it goes on (or None)."""
        line = self.lines[row]
        start = column + len(line[column:]) - len(line[column:].lstrip(" \t"))
        if line[start:] and line[start] in "\"'[{":
            last, end = value_end(self.lines, row, start, toml=False)
            rest = self.lines[last][end:].strip(" \t")
            if rest and not rest.startswith("#"):
                raise Unreadable(f"line {last + 1} is not understood")
            self._even(row, 0, start)
            self._even(last, end)
            return start, end, last + 1, None
        self._even(row)
        comment = re.search(r"(^|[ \t])#", line[start:]) if line[start : start + 1] != "#" else None
        stop = start if line[start : start + 1] == "#" else start + comment.start() if comment else len(line)
        end = start + len(line[start:stop].rstrip(" \t"))
        if start == end:
            return column, column, row + 1, None
        block = re.fullmatch(r"(?:[&!]\S*[ \t]+)*[|>]([-+0-9]*)", line[start:end])
        return (start, end, self._block(row, indent, block[1]), None) if block else (start, end, row + 1, indent)

    def _block(self, row: int, indent: int, header: str) -> int:
        """The row after a block scalar: what is deeper belongs to it, be it like a comment; empty lines where kept."""
        after = row = row + 1
        while row < len(self.lines):
            line = self.lines[row].strip(" ")
            if line and len(self.lines[row]) - len(self.lines[row].lstrip(" ")) <= indent:
                break
            self._even(row)
            row += 1
            after = row if line else after
        if "+" in header:
            after = row
        if after == len(self.lines):
            self.open_end = True
        return after

    def _close(self, column: int) -> None:
        while self._frames and self._frames[-1][0] >= column:
            self._frames.pop()

    def _item(self, column: int, *, fresh: bool) -> None:
        """A dash at that column: the next item of a sequence, or a sequence that begins."""
        while self._frames and (
            self._frames[-1][0] > column or (self._frames[-1][0] == column and self._frames[-1][1] == "map" and fresh)
        ):
            self._frames.pop()
        top = self._frames[-1] if self._frames else None
        if top and top[0] == column and top[1] == "seq":
            top[3] += 1
            return
        if top and top[1] == "map" and not top[3].empty:
            raise Unreadable("a sequence has no key")
        if top and top[1] == "map":
            top[3].children = True
        self.root = "seq" if top is None else self.root
        self._frames.append([column, "seq", self._below(), 0])

    def _entry(self, name: str, row: int, column: int, start: int, *, fresh: bool) -> Entry:
        """A key at that column: of the open mapping there, or of one that begins."""
        while self._frames and (
            self._frames[-1][0] > column or (self._frames[-1][0] == column and self._frames[-1][1] == "seq")
        ):
            self._frames.pop()
        top = self._frames[-1] if self._frames else None
        if not (top and top[0] == column and top[1] == "map" and not fresh):
            if top and top[1] == "map" and (not top[3].empty or top[0] >= column):
                raise Unreadable(f"line {row + 1} is not understood")
            if top is None and self.root != "nothing":
                raise Unreadable(f"line {row + 1} is not understood")
            if top and top[1] == "map":
                top[3].children = True
            self.root, self.root_indent = ("map", column) if top is None else (self.root, self.root_indent)
            self._frames.append([column, "map", self._below(), None])
        frame = self._frames[-1]
        entry = Entry(f"{frame[2]}.{name}" if frame[2] else name, row, column, start)
        self.entries.append(entry)
        frame[3] = entry
        return entry

    def _below(self) -> str:
        """The path of what begins now inside the innermost open collection."""
        if not self._frames:
            return ""
        _, kind, path, last = self._frames[-1]
        return last.path if kind == "map" else f"{path}.{last}" if path else str(last)

    def _mark(self, row: int) -> None:
        """The line belongs to every open key."""
        for frame in self._frames:
            if frame[1] == "map" and frame[3] is not None:
                frame[3].last = max(frame[3].last, row)


def yaml_key(text: str):
    """The key that a line begins with, and how many characters it takes with its colon; None when there is none."""
    if text[0] in "\"'":
        match = re.match(r'("(?:[^"\\]|\\.)*"|\'(?:[^\']|\'\')*\')\s*:(?=\s|$)', text)
        if match is None:
            return None
        inner = match[1][1:-1]
        if text[0] == '"' and "\\" in inner:
            inner = json.loads(match[1])
        return inner.replace("''", "'") if text[0] == "'" else inner, match.end()
    match = re.match(r"((?:[^\s#:]|:(?=\S)|(?<=\S)#|[ \t]+(?![\s#]))+?)\s*:(?=\s|$)", text)
    if match is None or text[0] in "[{":
        return None
    if re.match(r"[&*!|>%@`]|\?\s", text) or len(match[1]) > 200:
        raise Unreadable("a key is no plain word")
    return match[1], match.end()


def yaml_line_set(text: str, path: str, value) -> str:
    """One key set in the text of the first document."""
    lines, end_of_line = split_lines(text)
    read = YamlLines(lines)
    keys = path.split(".")
    paths = [".".join(keys[:n]) for n in range(1, len(keys) + 1)]
    if any(sum(e.path == p for e in read.entries) > 1 for p in paths):
        raise Unreadable(f"{path} is there more than once")
    entry = next((e for e in read.entries if e.path == path), None)
    if entry is not None:
        if entry.children or not entry.plain:
            raise Unreadable(f"{path} is no plain value")
        line = lines[entry.row]
        gap = " " if line[entry.start - 1] == ":" else ""
        lines[entry.row] = line[: entry.start] + gap + yaml_text(value) + line[entry.end :]
    else:
        insert_yaml(lines, read, path, value)
    return end_of_line.join(lines)


def insert_yaml(lines: list, read: YamlLines, path: str, value) -> None:
    """A key that is not there yet, as the last one of its parent."""
    keys = path.split(".")
    for n in range(len(keys) - 1, 0, -1):
        parent = next((e for e in read.entries if e.path == ".".join(keys[:n])), None)
        if parent is None:
            continue
        below = [e for e in read.entries if e.path.startswith(f"{parent.path}.") and e.row > parent.row]
        if not parent.empty or (parent.children and not below):
            raise Unreadable(f"{parent.path} is no block of keys")
        if parent.children and not any(e.path.count(".") == parent.path.count(".") + 1 for e in below):
            raise Unreadable(f"{parent.path} is a sequence")
        if not parent.children and not parent.plain:
            raise Unreadable(f"{parent.path} has an anchor or a tag")
        indent = min((e.indent for e in below), default=parent.indent + 2)
        row, rest = parent.last + 1, keys[n:]
        break
    else:
        if read.root == "seq":
            raise Unreadable("it is a sequence")
        indent, rest = read.root_indent, keys
        row = read.last + 1 if read.entries else len(lines) - (lines[-1] == "")
    merging = ".".join([*keys[: -len(rest)], "<<"])
    if len(rest) > 1 and any(e.path == merging for e in read.entries) and any(rest[0] in line for line in lines):
        raise Unreadable(f"{path} may lie in what is merged")
    if read.open_end and row == len(lines):
        raise Unreadable("its last text has no end of line")
    new = [f"{' ' * (indent + 2 * i)}{yaml_text(key)}:" for i, key in enumerate(rest)]
    new[-1] += f" {yaml_text(value)}"
    lines[row:row] = new


WORD = re.compile(r"[A-Za-z_./][\w./@+-]*(?: [\w./@+-]+)*")
RESERVED = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null|none|~|[-+]?\.(inf|nan)|\.+|[-+.]?[\d_.,:]+(e[-+]?\d+)?")


def yaml_text(value) -> str:
    """A value as YAML 1.1 and 1.2 both read it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value, inf=".inf", nan=".nan")
    if isinstance(value, list):
        return f"[{', '.join(yaml_text(v) for v in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{yaml_text(str(k))}: {yaml_text(v)}" for k, v in value.items()) + "}"
    if WORD.fullmatch(value) and not RESERVED.fullmatch(value):
        return value
    return quoted(value)


def float_text(value: float, *, inf: str, nan: str) -> str:
    """A number that stays a number with a point: YAML 1.1 takes `1e-05` for a text."""
    if value != value:
        return nan
    if value in (float("inf"), float("-inf")):
        return inf if value > 0 else f"-{inf}"
    text = repr(value)
    return re.sub(r"^(-?\d+)e", r"\1.0e", text)


def quoted(value: str) -> str:
    """A text in double quotes, as JSON, YAML and TOML read it."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\u2028\u2029\ufeff]", lambda m: f"\\u{ord(m[0]):04x}", text)
