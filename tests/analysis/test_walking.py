"""The fast walk finds what `ast.walk` finds, in its order."""

import ast
from pathlib import Path

import pytest

from caravan.analysis import walking

LEFT_OUT = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
SOURCES = sorted(Path(walking.__file__).parent.glob("*.py"))
ODD = """
async def f(*a: int, b=1, **c) -> None:
    global x
    async with y as z, w: await g(lambda q, /, *, r=2: (yield))
    match v:
        case {"a": [1, *rest], **more} | None as whole if whole: pass
        case C(d, e=-1): return f"{d!r:>{e}}"
    try: del s[1:2, ...], t.u
    except* (E, F) as e: raise e from None
    else: [i async for i in j if not i and i < 2 <= i]
    finally: k: list[int] = {**l, m: {n for n in o}}
"""


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_it_walks_as_the_standard_library_does(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert walking.walk(tree) == [node for node in ast.walk(tree) if not isinstance(node, LEFT_OUT)]


def test_it_walks_through_every_kind_of_node():
    tree = ast.parse(ODD)
    assert walking.walk(tree) == [node for node in ast.walk(tree) if not isinstance(node, LEFT_OUT)]
    made = ast.Module(body=tree.body, type_ignores=[])
    assert len(walking.walk(made)) == len(walking.walk(tree))


def test_no_depth_is_too_much():
    tree: ast.AST = ast.Constant(1)
    for _ in range(20_000):
        tree = ast.UnaryOp(op=ast.USub(), operand=tree)
    assert len(walking.walk(tree)) == 20_001
