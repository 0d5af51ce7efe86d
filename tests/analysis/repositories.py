"""Little repositories, written by the tests."""

from collections.abc import Mapping
from pathlib import Path

from caravan.analysis import SourceTree, analyze, open_source
from caravan.values.repo import RepoProfile

LOOP = """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for batch in batches:
        loss = model(batch)
        loss.backward()
        optimizer.step()
        print(f"loss {loss}")
"""


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
    return root


def opened(root: Path, files: Mapping[str, str | bytes] | None = None) -> SourceTree:
    return open_source(str(write(root, files or {})), cache=root.parent / "cache")


def profile_of(tmp_path: Path, files: Mapping[str, str | bytes], prompt: str = "") -> RepoProfile:
    root = tmp_path / "repository"
    root.mkdir(exist_ok=True)
    return analyze(opened(root, files), prompt)


def script(parser: str, main: str = "", imports: str = "import torch") -> str:
    return f"{imports}\n\n{parser}\n\ndef main(model, batches):{LOOP}\n{main}\nif __name__ == '__main__':\n    main()\n"
