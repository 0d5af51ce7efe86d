"""Functions of job files, by what they give and how they refuse."""

import re

import pytest

from caravan.hcl import HclError, parse_hcl

JOB = 'job "x" {{\n  group "g" {{\n    task "t" {{\n      driver = "raw_exec"\n      user   = {}\n    }}\n  }}\n}}\n'


def value(expression: str) -> str:
    return str(parse_hcl(JOB.format(expression))["TaskGroups"][0]["Tasks"][0]["User"])


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ('cidrhost("10.1.0.0/16", 258)', "10.1.1.2"),
        ('cidrhost("10.1.0.0/16", -1)', "10.1.255.255"),
        ('cidrnetmask("172.16.0.0/12")', "255.240.0.0"),
        ('cidrsubnet("10.0.0.0/8", 8, 3)', "10.3.0.0/16"),
        ('join(" ", cidrsubnets("10.0.0.0/8", 8, 4))', "10.0.0.0/16 10.16.0.0/12"),
        ('csvdecode("a,b\\n1,2\\n3,4")[1].b', "4"),
        ('formatdate("YYYY-MM-DD hh:mm:ss ZZZ", "2024-03-09T07:05:01Z")', "2024-03-09 07:05:01 UTC"),
        ('formatdate("D MMM YY \'at\' h AA", "2024-03-09T17:05:01Z")', "9 Mar 24 at 17 PM"),
        ('timeadd("2024-02-28T23:30:00Z", "45m")', "2024-02-29T00:15:00Z"),
        ('join(",", formatlist("%s-%d", ["a", "b"], 7))', "a-7,b-7"),
        ('regex_replace("gpu-01", "(\\\\w+)-0(\\\\d)", "$2/$1")', "1/gpu"),
        ('join(",", setunion(["b", "a"], ["c", "a"]))', "a,b,c"),
        ('join(",", setintersection(["b", "a"], ["a", "c"]))', "a"),
        ('join(" ", [for p in setproduct(["a", "b"], ["x", "y"]) : join("", p)])', "ax ay bx by"),
        ("log(16, 2)", "4"),
        ("7 % 0", "7"),
        ('uuidv5("dns", "example.org")', "aad03681-8b63-5304-89e0-8ca8f49461b5"),
        ('yamldecode("a: [1, 2]").a[1]', "2"),
        ('yamldecode("1: a")["1"]', "a"),
        ('yamldecode("true: 2020-01-31")["true"]', "2020-01-31"),
        ('replace("gpu-01", "/[0-9]+$/", "x")', "gpu-x"),
        ('yamlencode({ b = [1, "x"], a = true })', '"a": true\n"b":\n- 1\n- "x"\n'),
    ],
)
def test_functions(expression: str, wanted: str) -> None:
    assert value(expression) == wanted


def test_a_random_id_is_another_one_each_time() -> None:
    one, other = value("uuidv4()"), value("uuidv4()")
    assert re.fullmatch(r"[0-9a-f-]{36}", one)
    assert one != other


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ('cidrhost("nonsense", 1)', "invalid CIDR address: nonsense"),
        ('cidrsubnet("10.0.0.0/31", 8, 0)', "insufficient address space"),
        ('timeadd("today", "1h")', "not a valid RFC3339 timestamp"),
        ('timeadd("2024-02-28T23:30:00Z", "1 hour")', "invalid duration"),
        ('replace("x", "/(/", "y")', "invalid regexp pattern"),
        ('jsondecode("[NaN]")[0]', "a JSON document is required"),
        ('yamldecode("[.nan]")[0]', "a number is required"),
        ('abs("Infinity")', "a number is required"),
        ('bcrypt("x")', "a Nomad server has it"),
        ('file("x")', "filesystem function disabled"),
    ],
)
def test_refusals(expression: str, words: str) -> None:
    with pytest.raises(HclError, match=re.escape(words)):
        value(expression)


@pytest.mark.parametrize("weight", ["1 / 0", '"Infinity"'])
def test_an_affinity_without_end_is_refused(weight: str) -> None:
    affinity = f'  affinity {{\n    attribute = "${{node.class}}"\n    weight = {weight}\n  }}\n'
    with pytest.raises(HclError, match=r"input\.hcl:4,14"):
        parse_hcl(f'job "x" {{\n{affinity}}}\n')


def test_dynamic_blocks() -> None:
    text = """
job "x" {
  dynamic "group" {
    for_each = ["a", "b"]
    labels   = ["g-${group.value}"]
    content {
      count = group.key + 1
      task "t" {
        driver = "raw_exec"
        dynamic "env" {
          for_each = [group.value]
          iterator = it
          content {
            NAME = "${it.value}-${NOMAD_ALLOC_ID}"
          }
        }
        dynamic "template" {
          for_each = { one = "1", two = "2" }
          content {
            destination = "local/${template.key}"
            data        = template.value
          }
        }
      }
    }
  }
}
"""
    groups = parse_hcl(text)["TaskGroups"]
    assert [(g["Name"], g["Count"]) for g in groups] == [("g-a", 1), ("g-b", 2)]
    assert groups[1]["Tasks"][0]["Env"] == {"NAME": "b-${NOMAD_ALLOC_ID}"}
    assert [t["DestPath"] for t in groups[0]["Tasks"][0]["Templates"]] == ["local/one", "local/two"]
    with pytest.raises(HclError, match="Cannot use a number value in for_each"):
        parse_hcl('job "x" {\n  dynamic "group" {\n    for_each = 3\n    content {\n    }\n  }\n}\n')
    with pytest.raises(HclError, match='The argument "for_each" is required'):
        parse_hcl('job "x" {\n  dynamic "group" {\n    content {\n    }\n  }\n}\n')
