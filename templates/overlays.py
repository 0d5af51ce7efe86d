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

from yaml_lines import Unreadable, float_text, quoted, split_lines, value_end, yaml_line_set, yaml_text

PLACES = re.compile(r"\$\{(NOMAD_ALLOC_DIR|NOMAD_TASK_DIR|NOMAD_META_caravan_run|CARAVAN_OUTPUT_DIR)\}")
"""What only the node knows, as the plan writes it."""


def main() -> int:
    """Write the copy; problems go to stderr as one line."""
    values, source, target = (Path(word) for word in sys.argv[1:4])
    overlay = json.loads(values.read_text(encoding="utf-8"))
    text, mark = overlay.get("text"), ""
    wanted = {key: placed(value) for key, value in (overlay.get("values") or {}).items()}
    if text is None and not source.is_file():
        say(f"{source} is not in the code, so no key of it can be changed")
        return 66
    try:
        if text is None:
            mark, text = read(source)
        text = changed(text, source.suffix.lower(), wanted) if wanted else text
        data = (mark + text).encode("utf-8")
    except (Unreadable, ValueError, RecursionError, OSError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        say(f"{', '.join(wanted) or 'nothing'} can't be changed in {source}: {why}")
        return 69
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        say(f"the changed copy {target} can't be written: {error.strerror or error}")
        return 73
    return 0


def read(source: Path) -> tuple:
    """The byte order mark that the file may begin with, and its text with the line ends that it has."""
    text = source.read_bytes().decode("utf-8")
    return ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)


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
        index = item_of(here, keys[0])
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


def item_of(items: list, key: str) -> int:
    """The number of an item that is there."""
    if not re.fullmatch("[0-9]{1,9}", key) or int(key) >= len(items):
        raise Unreadable(f"a list has no item {key}")
    return int(key)


def same(a, b) -> bool:
    """Whether two documents are one: types count, nan is nan."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, b[i]) for i, x in enumerate(a))
    return type(a) is type(b) and (a == b or (a != a and b != b))


# ---- YAML


def changed_yaml(text: str, values: dict) -> str:
    """YAML with the keys set by its lines; by PyYAML's nodes where the lines don't allow it."""
    try:
        import yaml
    except ImportError:
        yaml = None
    found, why = text, None
    try:
        for path, value in values.items():
            found = yaml_line_set(found, path, value)
    except (Unreadable, ValueError, RecursionError) as error:
        why = error
    if yaml is None:
        if why:
            raise Unreadable(f"{why}; with PyYAML in the environment it could be") from why
        return found
    try:
        wanted = nodes_set(yaml, text, values)
        if why is None and says(yaml, found, wanted):
            return found
        found = yaml.serialize_all(wanted, Dumper=yaml.SafeDumper, allow_unicode=True, explicit_start=len(wanted) > 1)
    except yaml.YAMLError as error:
        raise Unreadable(" ".join(str(error).split())) from error
    if not says(yaml, found, wanted):
        raise Unreadable("it would say something else than was wanted")
    return found


# ---- YAML's nodes

MAP, NULL, MERGE = (f"tag:yaml.org,2002:{name}" for name in ("map", "null", "merge"))


def nodes_set(yaml, text: str, values: dict) -> list:
    """The documents of the text as PyYAML's nodes, with the keys of the first one set; comments are not in them.

    Where an alias or a merge brings a part to a second place, a change there is that place's alone. A change where the
    part is written, at its anchor, goes to all places, as it does for who edits the file.
    """
    documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader)) or [yaml.MappingNode(MAP, [])]
    for path, value in values.items():
        if documents[0].tag == NULL:
            documents[0] = yaml.MappingNode(MAP, [])
        new = yaml.compose(yaml_text(value), Loader=yaml.SafeLoader)
        put_node(yaml, documents[0], path.split("."), new, holders(yaml, documents[0], {}))
    return documents


def holders(yaml, node, found: dict) -> dict:
    """Node by its id → the place that it is written at: what holds it, and where. Elsewhere an alias brings it."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else [(n,) for n in node.value]
    for at, pair in enumerate(pairs):
        for child in pair:
            if id(child) not in found:
                found[id(child)] = (id(node), at)
                if isinstance(child, yaml.CollectionNode):
                    holders(yaml, child, found)
    return found


def put_node(yaml, here, keys: list, new, written: dict) -> None:
    """One key set in a node that may be changed. A key that holds dots itself is found before its parts are."""
    if isinstance(here, yaml.SequenceNode):
        at, n = item_of(here.value, keys[0]), 1
        if len(keys) == 1:
            here.value[at] = new
            return
        here.value[at] = child = opened(yaml, here.value[at], (id(here), at), written)
    elif isinstance(here, yaml.MappingNode):
        at, n = own_key(yaml, here, keys)
        if at is None:
            brought = brought_by_merge(yaml, here, keys[0]) if len(keys) > 1 else None
            at, n = len(here.value), 1
            here.value.append((yaml.compose(yaml_text(keys[0]), Loader=yaml.SafeLoader), brought or null(yaml)))
        if n == len(keys):
            here.value[at] = (here.value[at][0], new)
            return
        child = opened(yaml, here.value[at][1], (id(here), at), written)
        here.value[at] = (here.value[at][0], child)
    else:
        raise Unreadable(f"{keys[0]} lies in something that has no keys")
    put_node(yaml, child, keys[n:], new, written)


def null(yaml):
    """Nothing, which becomes a mapping once it gets a key."""
    return yaml.ScalarNode(NULL, "null")


def opened(yaml, child, place: tuple, written: dict):
    """The node at a place as one that may be changed: itself where it is written, elsewhere a copy of it."""
    if child.tag == NULL:
        return yaml.MappingNode(MAP, [])
    if written.get(id(child)) == place or not isinstance(child, yaml.CollectionNode):
        return child
    return type(child)(child.tag, list(child.value), flow_style=child.flow_style)


def own_key(yaml, here, keys: list) -> tuple:
    """Where in a mapping's pairs the first keys are, and how many of them; the last of several counts."""
    names = {key.value: at for at, (key, _) in enumerate(here.value) if isinstance(key, yaml.ScalarNode)}
    for n in range(len(keys), 0, -1):
        at = names.get(".".join(keys[:n]))
        if at is not None and (n in (1, len(keys)) or isinstance(here.value[at][1], yaml.CollectionNode)):
            return at, n
    return None, 1


def brought_by_merge(yaml, here, key: str):
    """The value that `<<` brings to a mapping under a key, None where it brings none."""
    for name, value in here.value if isinstance(here, yaml.MappingNode) else ():
        for one in (value.value if isinstance(value, yaml.SequenceNode) else [value]) if name.tag == MERGE else ():
            at = own_key(yaml, one, [key])[0] if isinstance(one, yaml.MappingNode) else None
            found = one.value[at][1] if at is not None else brought_by_merge(yaml, one, key)
            if found is not None:
                return found
    return None


def says(yaml, text: str, wanted: list) -> bool:
    """Whether the text has these documents."""
    try:
        found = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError:
        return False
    return len(found) == len(wanted) and all(same_nodes(yaml, a, wanted[i], set()) for i, a in enumerate(found))


def same_nodes(yaml, a, b, met: set) -> bool:
    """Whether two nodes say the same. Each pair is looked at once: aliases may repeat it, or come back to it."""
    if (id(a), id(b)) in met:
        return True
    met.add((id(a), id(b)))
    if type(a) is not type(b) or a.tag != b.tag:
        return False
    if isinstance(a, yaml.ScalarNode):
        return a.value == b.value
    if isinstance(a, yaml.SequenceNode):
        return len(a.value) == len(b.value) and all(same_nodes(yaml, x, b.value[i], met) for i, x in enumerate(a.value))
    (ours, others), (theirs, rest) = (keyed(yaml, n) for n in (a, b))
    return (
        ours.keys() == theirs.keys()
        and all(same_nodes(yaml, ours[k], theirs[k], met) for k in ours)
        and len(others) == len(rest)
        and all(same_nodes(yaml, x, rest[i][n], met) for i, pair in enumerate(others) for n, x in enumerate(pair))
    )


def keyed(yaml, node) -> tuple:
    """A mapping's values by their plain keys, the last of several alone, and the other pairs: merges, other keys."""
    plain, others = {}, []
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
            plain[key.tag, key.value] = value
        else:
            others.append((key, value))
    return plain, others


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
    lines, end_of_line = split_lines(text)
    entries, tables = toml_lines(lines)
    if path in entries:
        row, start, last, end = entries[path]
        lines[row : last + 1] = [lines[row][:start] + toml_text(value) + lines[last][end:]]
        return end_of_line.join(lines)
    keys = path.split(".")
    for n in range(len(keys) - 1, -1, -1):
        table = ".".join(keys[:n])
        if table in entries:
            raise Unreadable(f"{table} is no table of keys")
        if table in tables:
            line = f"{'.'.join(toml_key(k) for k in keys[n:])} = {toml_text(value)}"
            lines.insert(tables[table] + 1, line)
            return end_of_line.join(lines)
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
