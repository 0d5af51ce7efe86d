"""`secrets`: names are listed, values are typed unseen or piped in, and stand nowhere but on the cluster."""

import io
import json
from pathlib import Path

import pytest

from caravan.terminal.app import run
from caravan.terminal.streams import Terminal
from tests.fakes.wiring import FakeWiring, nobody, person, printed

VALUE = "hf_plain value=1"


def piped(text: str) -> Terminal:
    return Terminal(io.StringIO(text), io.StringIO(), io.StringIO())


@pytest.mark.parametrize("terminal", [piped(f"{VALUE}\n"), piped(f"{VALUE}\r\n"), piped(VALUE), person(VALUE)])
def test_a_value_is_piped_in_or_typed(tmp_path: Path, terminal: Terminal) -> None:
    wiring = FakeWiring(tmp_path)
    wiring.nomad.variables["default", "nomad/jobs"] = {"OTHER": "stays"}
    assert run(wiring, ["secrets", "put", "HF_TOKEN", "--cluster", "local"], terminal) == 0
    assert wiring.clusters == ["local"]
    assert wiring.nomad.variables["default", "nomad/jobs"] == {"OTHER": "stays", "HF_TOKEN": VALUE}
    out, err = printed(terminal)
    assert "HF_TOKEN" in out
    assert VALUE not in out + err


def test_names_are_listed_and_values_are_not(tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path), nobody()
    wiring.nomad.variables["team", "nomad/jobs/x"] = {"B": VALUE, "A": VALUE}
    where = ["--path", "nomad/jobs/x", "--namespace", "team"]
    assert run(wiring, ["secrets", "list", *where, "--json"], terminal) == 0
    out, _ = printed(terminal)
    assert json.loads(out) == {"path": "nomad/jobs/x", "namespace": "team", "names": ["A", "B"]}
    none = nobody()
    assert run(wiring, ["secrets", "list"], none) == 0
    assert "secrets put NAME" in printed(none)[0]


@pytest.mark.parametrize("text", ["", "\n", "a\rb", "x" * 40_000])
def test_no_value_and_one_that_no_job_could_get_are_refused(tmp_path: Path, text: str) -> None:
    wiring, terminal = FakeWiring(tmp_path), piped(text)
    assert run(wiring, ["secrets", "put", "HF_TOKEN"], terminal) == 2
    assert wiring.nomad.variables == {}
    assert "HF_TOKEN" in printed(terminal)[1]


def test_a_value_beside_the_name_is_refused_and_not_repeated(tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path), piped(VALUE)
    assert run(wiring, ["secrets", "put", "HF_TOKEN=abcdefgh12345678"], terminal) == 2
    out, err = printed(terminal)
    assert "abcdefgh12345678" not in out + err
    assert wiring.nomad.variables == {}


def test_removing_asks_first(tmp_path: Path) -> None:
    wiring = FakeWiring(tmp_path)
    wiring.nomad.variables["default", "nomad/jobs"] = {"HF_TOKEN": VALUE}
    assert run(wiring, ["secrets", "remove"], nobody()) == 3
    assert run(wiring, ["secrets", "remove"], person("n")) == 3
    assert wiring.nomad.variables
    assert run(wiring, ["secrets", "remove"], person("y")) == 0
    assert not wiring.nomad.variables
    assert run(wiring, ["secrets", "remove", "--yes"], nobody()) == 0
