"""Changes values in a copy of a config file. Runs inside the job, with the standard library alone.

    overlays.py VALUES SOURCE TARGET

VALUES is JSON: `text` replaces the whole file, `values` maps dotted keys to what they shall be. SOURCE is the file of
the code, TARGET the copy that is written; they may be one. YAML and TOML are changed in their text, so that comments,
anchors and the spelling of every other value stay; where that can't be done, YAML goes through PyYAML if it is there.
A change is read back where a parser is at hand, and a file that would say something else is not written.
"""

import json
import os
import re
import sys
from pathlib import Path

from yaml_lines import Unreadable, float_text, quoted, value_end, yaml_line_set, yaml_text

PLACES = re.compile(r"\$\{(NOMAD_ALLOC_DIR|NOMAD_TASK_DIR|NOMAD_META_caravan_run|CARAVAN_OUTPUT_DIR)\}")
"""What only the node knows, as the plan writes it."""


def main() -> int:
    """Write the copy; problems go to stderr as one line."""
    values, source, target = (Path(word) for word in sys.argv[1:4])
    overlay = json.loads(values.read_text(encoding="utf-8"))
    text = overlay.get("text")
    if text is None and not source.is_file():
        say(f"{source} is not in the code, so no key of it can be changed")
        return 66
    text = source.read_text(encoding="utf-8") if text is None else text
    wanted = {key: placed(value) for key, value in (overlay.get("values") or {}).items()}
    try:
        text = changed(text, source.suffix.lower(), wanted) if wanted else text
    except (Unreadable, ValueError, RecursionError) as error:
        say(f"{', '.join(wanted)} can't be changed in {source}: {error}")
        return 69
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    except OSError as error:
        say(f"the changed copy {target} can't be written: {error.strerror or error}")
        return 73
    return 0


def say(text: str) -> None:
    """One line for the job's log."""
    sys.stderr.write(f"caravan: {' '.join(str(text).split())}\n")


def placed(value):
    """The value with the places that only the node knows filled in."""
    if isinstance(value, str):
        return PLACES.sub(lambda m: os.environ.get(m[1], m[0]), value)
    return [placed(v) for v in value] if isinstance(value, list) else value


def changed(text: str, ending: str, values: dict) -> str:
    """The text with the dotted keys set. Raises Unreadable or ValueError where that can't be done."""
    if ending == ".json":
        return json.dumps(put_all(json.loads(text), values), indent=2, ensure_ascii=False) + "\n"
    if ending == ".toml":
        return changed_toml(text, values)
    if ending in (".yaml", ".yml"):
        return changed_yaml(text, values)
    raise Unreadable("only JSON, YAML and TOML are known")


def put_all(document, values: dict):
    """The document with every dotted key set, parents made where they are missing."""
    document = {} if document is None else document
    for path, value in values.items():
        put(document, path.split("."), value)
    return document


def put(here, keys: list, value) -> None:
    """One key set. A key that holds dots itself is found before its parts are."""
    if isinstance(here, list):
        index = int(keys[0])
        if len(keys) == 1:
            here[index] = value
        else:
            put(here[index], keys[1:], value)
        return
    if not isinstance(here, dict):
        raise Unreadable(f"{keys[0]} lies in something that has no keys")
    for n in range(len(keys), 0, -1):
        name = ".".join(keys[:n])
        if name in here and (n == len(keys) or isinstance(here[name], (dict, list))):
            break
    else:
        n, name = 1, keys[0]
    if n == len(keys):
        here[name] = value
    else:
        if here.get(name) is None:
            here[name] = {}
        put(here[name], keys[n:], value)


def same(a, b, followed=()) -> bool:
    """Whether two documents are one: types count, nan is nan.

    `followed` are pairs of a key and a value: where an alias stands for what was changed, it has the new value too.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        return all(
            (k in a and k in b and same(a[k], b[k], followed)) or (k in b and any(same((k, b[k]), p) for p in followed))
            for k in a.keys() | b.keys()
        )
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, b[i], followed) for i, x in enumerate(a))
    return type(a) is type(b) and (a == b or (a != a and b != b))


# ---- YAML


def changed_yaml(text: str, values: dict) -> str:
    """YAML with the keys set by its lines; by PyYAML's nodes where the lines don't allow it."""
    try:
        import yaml
    except ImportError:
        yaml = None
    try:
        found = text
        for path, value in values.items():
            found = yaml_line_set(found, path, value)
    except (Unreadable, RecursionError) as error:
        if yaml is None:
            raise Unreadable(f"{error}; with PyYAML in the environment it could be") from error
        return checked_yaml(yaml, text, yaml_nodes_set(yaml, text, values), values)
    if yaml is None:
        return found
    try:
        return checked_yaml(yaml, text, found, values)
    except Unreadable:
        return checked_yaml(yaml, text, yaml_nodes_set(yaml, text, values), values)


def checked_yaml(yaml, before: str, after: str, values: dict) -> str:
    """The new text, when it says what the old one said with these values. What can't be read at all isn't judged."""
    try:
        old = next(iter(yaml.safe_load_all(before)), None)
    except yaml.YAMLError:
        return after  # tags of the program's own
    try:
        new = next(iter(yaml.safe_load_all(after)), None)
    except yaml.YAMLError as error:
        raise Unreadable("it would not be YAML any more") from error
    followed = [(path.rpartition(".")[2], value) for path, value in values.items()]
    if not same(put_all(unshared(old), values), new, followed):
        raise Unreadable("it would say something else than was wanted")
    return after


def unshared(value):
    """The document with nothing in it that stands in two places, as aliases do."""
    if isinstance(value, dict):
        return {k: unshared(v) for k, v in value.items()}
    return [unshared(v) for v in value] if isinstance(value, list) else value


def yaml_nodes_set(yaml, text: str, values: dict) -> str:
    """The keys set in PyYAML's nodes: anchors and the spelling of plain values stay, comments go."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise Unreadable(" ".join(str(error).split())) from error
    for path, value in values.items():
        here = root
        *parents, last = path.split(".")
        for key in parents:
            here = node_below(yaml, here, key)
        new = yaml.compose(yaml_text(value), Loader=yaml.SafeLoader)
        if isinstance(here, yaml.SequenceNode):
            here.value[int(last)] = new
        elif isinstance(here, yaml.MappingNode):
            name = yaml.compose(yaml_text(last), Loader=yaml.SafeLoader)
            there = [i for i, (key, _) in enumerate(here.value) if key.value == last]
            for i in there:
                here.value[i] = (here.value[i][0], new)
            here.value += [] if there else [(name, new)]
        else:
            raise Unreadable(f"{path} lies in something that has no keys")
    return yaml.serialize(root, Dumper=yaml.SafeDumper)


def node_below(yaml, here, key: str):
    """The node under a key, made where there is none."""
    if isinstance(here, yaml.SequenceNode):
        return here.value[int(key)]
    if not isinstance(here, yaml.MappingNode):
        raise Unreadable(f"{key} lies in something that has no keys")
    for name, value in reversed(here.value):
        if name.value == key:
            return value
    made = yaml.MappingNode("tag:yaml.org,2002:map", [])
    here.value.append((yaml.compose(yaml_text(key), Loader=yaml.SafeLoader), made))
    return made


# ---- TOML


def changed_toml(text: str, values: dict) -> str:
    """TOML with the keys set by its lines, read back where this Python can."""
    found = text
    for path, value in values.items():
        found = toml_line_set(found, path, value)
    try:
        import tomllib
    except ImportError:
        return found
    if not same(put_all(tomllib.loads(text), values), tomllib.loads(found)):
        raise Unreadable("it would say something else than was wanted")
    return found


def toml_line_set(text: str, path: str, value) -> str:
    """One key set: in its place, else as the last of its table, else in a table of its own at the end."""
    lines = text.splitlines()
    entries, tables = toml_lines(lines)
    if path in entries:
        row, start, last, end = entries[path]
        lines[row : last + 1] = [lines[row][:start] + toml_text(value) + lines[last][end:]]
        return "\n".join(lines) + "\n"
    keys = path.split(".")
    for n in range(len(keys) - 1, -1, -1):
        table = ".".join(keys[:n])
        if table in entries:
            raise Unreadable(f"{table} is no table of keys")
        if table in tables:
            line = f"{'.'.join(toml_key(k) for k in keys[n:])} = {toml_text(value)}"
            lines.insert(tables[table] + 1, line)
            return "\n".join(lines) + "\n"
    raise AssertionError("the root is always there")


def toml_lines(lines: list) -> tuple:
    """Dotted key → row, start, last row and end of its value; table → its last row."""
    entries, tables, table, row = {}, {"": -1}, "", 0
    counts: dict = {}
    while row < len(lines):
        line = lines[row]
        if not line.strip() or line.lstrip().startswith("#"):
            row += 1
            continue
        header = re.match(r"\s*(\[\[?)\s*(.+?)\s*(\]\]?)\s*(#.*)?$", line)
        if header:
            table = ".".join(toml_keys(header[2]))
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}.{counts[table]}"
            tables[table] = row
            row += 1
            continue
        name, start = toml_assignment(line)
        path = ".".join([table, *name] if table else name)
        first = line[start : start + 1]
        if first and first in "\"'[{":
            last, end = value_end(lines, row, start, toml=True)
        else:
            last, end = row, start + len(line[start:].partition("#")[0].rstrip())
        entries[path] = (row, start, last, end)
        tables[table] = last
        row = last + 1
    return entries, tables


TOML_KEY = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\]|\\.)*\"|'[^']*')"


def toml_assignment(line: str) -> tuple:
    """The keys that a line sets, and where its value begins."""
    match = re.match(rf"\s*({TOML_KEY}(?:\s*\.\s*{TOML_KEY})*)\s*=\s*", line)
    if match is None:
        raise Unreadable(f"a line is not understood: {line.strip()[:60]}")
    return toml_keys(match[1]), match.end()


def toml_keys(text: str) -> list:
    """The parts of a dotted key."""
    return [json.loads(k) if k[0] == '"' else k.strip("'") for k in re.findall(TOML_KEY, text)]


def toml_key(key: str) -> str:
    """A key as TOML spells it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quoted(key)


def toml_text(value) -> str:
    """A value as TOML spells it. Raises Unreadable for null, which TOML doesn't know."""
    if value is None:
        raise Unreadable("TOML knows no null")
    if isinstance(value, (bool, int)):
        return str(value).lower()
    if isinstance(value, float):
        return float_text(value, inf="inf", nan="nan")
    if isinstance(value, list):
        return f"[{', '.join(toml_text(v) for v in value)}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_key(str(k))} = {toml_text(v)}" for k, v in value.items()) + " }"
    return quoted(value)


if __name__ == "__main__":
    sys.exit(main())
