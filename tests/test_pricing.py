"""Price lists: which one is in force, and what is said of one that is none."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from caravan.values.errors import UsageError
from caravan.values.handover import Carried
from caravan.values.prices import PriceList, Prices
from caravan.values.target import ClusterProfile, Site
from config import Settings
from pricing import find_prices, read_prices

GOOD = """\
currency = "USD"
usd_per_gpu_hour = 2
usd_per_hour = 0.3

[gpus]
"NVIDIA L4" = 0.5

[node_classes.fast]
usd_per_gpu_hour = 4.5

[node_pools.old.gpus]
V100 = 0.4
"""


def _site(path: Path | None) -> Site:
    return Site(name="prod", profile=ClusterProfile(address="http://n:4646", prices_file=str(path) if path else None))


def test_a_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(GOOD, encoding="utf-8")
    found = read_prices(path)
    assert (found.usd_per_gpu_hour, found.usd_per_hour, found.gpus) == (2, 0.3, {"NVIDIA L4": 0.5})
    assert found.node_classes["fast"].usd_per_gpu_hour == 4.5
    assert found.node_pools["old"].gpus == {"V100": 0.4}


def test_the_manuals_list_is_one_and_stands_in_it() -> None:
    docs = Path(__file__).resolve().parents[1] / "docs"
    path = docs / "examples" / "prices.toml"
    assert read_prices(path).node_pools["workstations"].gpus
    assert path.read_text(encoding="utf-8") in (docs / "estimate.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("usd_per_gpu_hour = -1", 1, "usd_per_gpu_hour"),
        ("\nusd_per_gpu_hour = nan", 2, "usd_per_gpu_hour"),
        ("usd_per_gpu_hour = inf", 1, "usd_per_gpu_hour"),
        ("usd_per_gpu_hour = 1e9", 1, "usd_per_gpu_hour"),
        ('usd_per_gpu_hour = "2.50"', 1, "usd_per_gpu_hour"),
        ("usd_per_gpu_hour = true", 1, "usd_per_gpu_hour"),
        ('currency = "EUR"', 1, "currency"),
        ("# what we pay\nusd_per_gpu = 2", 2, "usd_per_gpu"),
        ('[gpus]\nL4 = 1\n"NVIDIA L40S" = -2', 3, "gpus.NVIDIA L40S"),
        ("[node_classes.fast]\nusd_per_gpu_hour = 1\nprice = 2", 3, "node_classes.fast.price"),
        ("[gpus]\nL4 = 1\n[node_pools.a.gpus]\nL4 = 'dear'", 4, "node_pools.a.gpus.L4"),
        ("gpus = 3", 1, "gpus"),
    ],
)
def test_what_is_no_price_is_said_with_its_line(tmp_path: Path, text: str, line: int, key: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_prices(path)
    assert f"{path}, line {line}: {key}: " in caught.value.line()


@pytest.mark.parametrize("content", [b"[gpus", b"\xff\xfe", b"a = 1\na = 2", b"x" * ((1 << 20) + 1)])
def test_what_is_no_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prices.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"prices\.toml"):
        read_prices(path)


def test_a_list_that_is_not_there_is_said(tmp_path: Path) -> None:
    named = Settings(CARAVAN_HOME=tmp_path, CARAVAN_PRICES=tmp_path / "none.toml")
    with pytest.raises(UsageError, match=r"none\.toml"):
        find_prices(named, None, user=tmp_path, system=tmp_path)


def test_which_list_is_in_force(tmp_path: Path) -> None:
    home, user, system = (tmp_path / name for name in ("home", "user", "system"))
    for number, folder in enumerate((home, user, system), start=1):
        folder.mkdir()
        (folder / "prices.toml").write_text(f"usd_per_gpu_hour = {number}", encoding="utf-8")
    own = tmp_path / "own.toml"
    own.write_text("usd_per_gpu_hour = 4", encoding="utf-8")
    plain = Settings(CARAVAN_HOME=home)

    def price(settings: Settings, site: Site | None = None) -> float | None:
        found = find_prices(settings, site, user=user, system=system)
        return found.listed.usd_per_gpu_hour if found.listed else found.usd_per_gpu_hour

    assert price(plain) == 1
    assert price(plain, _site(own)) == 4
    assert price(plain, _site(None)) == 1
    assert price(Settings(CARAVAN_HOME=home, CARAVAN_PRICES=system / "prices.toml"), _site(own)) == 3
    assert price(Settings(CARAVAN_HOME=home, CARAVAN_USD_PER_GPU_HOUR=9.0), _site(own)) == 9
    (home / "prices.toml").unlink()
    assert price(plain) == 2
    (user / "prices.toml").unlink()
    assert price(plain) == 3
    (system / "prices.toml").unlink()
    assert price(plain) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200) | st.from_regex(r"(usd_per_gpu_hour|gpus\.x|\[gpus\]\n\"a\") = .{1,20}"))
@example("gpus = {'' = 0}")
def test_any_text_is_a_list_or_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with suppress(UsageError):
        read_prices(path)


def test_a_list_goes_with_a_run_and_one_that_is_there_stands_over_it(tmp_path: Path) -> None:
    sent = Carried(prices=Prices(listed=PriceList.model_validate({"gpus": {"L4": 2}}), where="theirs"))
    came = Carried.model_validate_json(sent.model_dump_json()).prices
    here = Settings(CARAVAN_HOME=tmp_path)
    assert find_prices(here, None, user=tmp_path, system=tmp_path, came=came) == sent.prices
    assert find_prices(here, None, user=tmp_path, system=tmp_path).listed is None
    (tmp_path / "prices.toml").write_text("usd_per_gpu_hour = 3", encoding="utf-8")
    found = find_prices(here, None, user=tmp_path, system=tmp_path, came=came)
    assert found.listed is not None
    assert found.listed.usd_per_gpu_hour == 3
