"""Lines of packages: what pip would take for something else than a requirement is none."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from caravan.values.errors import PlanError
from caravan.values.packages import Package, read_package
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes

PLAN = TrainingPlan(goal="g", command=("train.py",))


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("peft", Package("peft")),
        ("x[a,b]>=1,<2; python_version<'4'", Package("x")),
        ("torch@https://a.example/t.whl", Package("torch", "https://a.example/t.whl")),
        ("t @ git+https://a.example/t.git@main", Package("t", "git+https://a.example/t.git@main")),
        (".", Package(".", own=True)),
        (".[train,dev]", Package(".[train,dev]", own=True)),
        ("./libs/own", Package("./libs/own", own=True)),
    ],
)
def test_packages(line: str, package: Package) -> None:
    assert read_package(line) == package


@pytest.mark.parametrize(
    "line",
    [
        *(
            "-ihttps://evil.example/simple",
            "-i https://evil.example",
            "-f https://evil.example",
            "-rhttps://evil.example/r",
        ),
        *("--index-u=https://evil.example", "--pypi-url=https://evil.example", "-chttps://evil.example/c", "--proxy=x"),
        *(
            "-e git+https://evil.example/x.git",
            "git+https://evil.example/x.git",
            "https://evil.example/x.whl",
            "/etc/x",
        ),
        *("x -i https://evil.example", "x --hash=sha256:1", "../x", "./a/../../x", ". -i x", "", "x\n-i y"),
    ],
)
def test_what_is_no_package(line: str) -> None:
    with pytest.raises(ValueError, match="is no requirement"):
        read_package(line)
    with pytest.raises(PlanError, match=r"setup\.pip.*requirements file"):
        apply_changes(PLAN, [PlanChange(path="setup.pip", value=[line], by=Author.USER)])


@given(st.text(max_size=40))
@example("0\r")
def test_any_line_is_a_package_or_refused(line: str) -> None:
    try:
        package = read_package(line)
    except ValueError:
        return
    assert package.own or Requirement(line.strip()).name == package.name
    assert not line.strip().startswith("-")
