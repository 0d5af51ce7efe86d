"""The reasoner's tools: bounded, masked, inside the repository, and usable as LangChain tools."""

import pytest

from caravan.analysis import open_source
from caravan.ports import Toolbox
from caravan.values.errors import UsageError
from tools import MAX_ANSWER, RepositoryToolbox, langchain_tools

SECRET = "hunter2-hunter2"


@pytest.fixture
def toolbox(tmp_path) -> RepositoryToolbox:
    root = tmp_path / "repository"
    (root / "src").mkdir(parents=True)
    (root / "README.md").write_text("one\ntwo\nAPI_KEY=abcdef123456\n" + SECRET + "\n")
    (root / "src" / "train.py").write_text("import torch\nLoss = 1\n")
    (root / "long.txt").write_text(("y" * 5000 + "\n") * 1000)
    (root / "data.bin").write_bytes(b"\0loss")
    (root / ".env").write_text(f"LOSS={SECRET}")
    return RepositoryToolbox(open_source(str(root), cache=tmp_path / "cache"), secrets=(SECRET,))


def test_it_is_the_port(toolbox):
    port: Toolbox = toolbox
    assert port.list_directory() == ("README.md", "data.bin", "long.txt", "src/")


def test_reading_is_numbered_masked_and_bounded(toolbox):
    assert toolbox.read_file("README.md", start=2, lines=2) == "2: two\n3: API_KEY=[masked]\n… 2 more lines"
    assert SECRET not in toolbox.read_file("./README.md")
    assert len(toolbox.read_file("long.txt", lines=10**9)) <= MAX_ANSWER
    assert toolbox.read_file("src/train.py", start=99) == ""
    assert toolbox.read_file("src/train.py", start=-5, lines=-1).startswith("1: import torch")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", ".env", "data.bin", "nowhere", "src", "src/../../x", ""])
def test_what_may_not_be_read(toolbox, path):
    with pytest.raises(UsageError):
        toolbox.read_file(path)


def test_directories(toolbox):
    assert toolbox.list_directory("src/") == ("train.py",)
    for path in ("nowhere", "..", "/", "src/train.py"):
        with pytest.raises(UsageError):
            toolbox.list_directory(path)


def test_search(toolbox):
    assert toolbox.search("LOSS") == ("src/train.py:2: Loss = 1",)
    assert toolbox.search(SECRET) == ()
    assert len(toolbox.search("y", limit=3)) == 3
    with pytest.raises(UsageError):
        toolbox.search("  ")


def test_find_names_files_and_directories_by_the_end_of_their_path(toolbox):
    assert toolbox.find("train.py") == ("src/train.py",)
    assert toolbox.find("/elsewhere/../src/train.py") == ()
    assert toolbox.find("./src/train.py") == ("src/train.py",)
    assert toolbox.find("src") == ("src/",)
    assert toolbox.find("rain.py") == ()
    assert toolbox.find(".env") == ()
    with pytest.raises(UsageError):
        toolbox.find("/")


def test_langchain_tools_answer_errors_as_text(toolbox):
    tools = {t.name: t for t in langchain_tools(toolbox)}
    assert set(tools) == {"list_directory", "read_file", "search_codebase"}
    assert tools["list_directory"].invoke({}) == "README.md\ndata.bin\nlong.txt\nsrc/"
    assert tools["read_file"].invoke({"path": "src/train.py", "lines": 1}).startswith("1: import torch")
    assert tools["read_file"].invoke({"path": "../x"}).startswith("error: ../x is outside")
    assert tools["search_codebase"].invoke({"text": "torch"}) == "src/train.py:1: import torch"
    assert tools["search_codebase"].invoke({"text": "nothing like it"}) == "nothing found"
    assert all(t.description for t in tools.values())
