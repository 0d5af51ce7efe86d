"""The digest of a list of files is what `sha256sum` would say of its own list."""

import hashlib

from caravan.values.registry import ModelFile, files_digest


def test_it_is_that_of_sha256sum_s_list_in_the_order_of_the_paths() -> None:
    a, b = "a" * 64, "b" * 64
    files = [ModelFile(path="model.safetensors", bytes=3, sha256=b), ModelFile(path="config.json", bytes=2, sha256=a)]
    listed = f"{a}  config.json\n{b}  model.safetensors\n"
    assert files_digest(files) == files_digest(reversed(files)) == hashlib.sha256(listed.encode()).hexdigest()
    assert files_digest([files[0].model_copy(update={"sha256": a}), files[1]]) != files_digest(files)
