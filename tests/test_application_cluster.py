"""The cluster that the application hands out: whoever asks for it, its words hold no secret that Caravan knows."""

from contextlib import closing
from pathlib import Path

import pytest

from caravan.cluster.addresses import parse_address
from caravan.values.errors import ClusterError
from caravan.values.masking import MASK
from caravan.values.run import RunRequest
from main import Application
from tests.fakes.nomad_http import Answer, NomadHttp, Request

TOKENS = {"NOMAD_TOKEN": "8b1f1acc-77aa-4c3d-9e21-000000000001", "PROD_TOKEN": "8b1f1acc-77aa-4c3d-9e21-000000000002"}


def echo(request: Request) -> Answer:
    """An answer that says the headers again, as gateways do, and every token there is."""
    return Answer(body=f"denied: {sorted(TOKENS.values())} {request.headers}".encode(), status=403)


@pytest.mark.parametrize("profile", ["", "prod"])
def test_whoever_asks_for_the_cluster_gets_masked_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CARAVAN_HOME", str(tmp_path / "home"))
    with closing(NomadHttp(echo)) as server:
        monkeypatch.setenv("NOMAD_ADDR", server.address)
        config = tmp_path / "caravan.toml"
        config.write_text(f'[clusters.prod]\naddress = "{server.address}"\ntoken_env = "PROD_TOKEN"\n')
        config.chmod(0o644)
        application = Application()
        application.config = config
        address = parse_address(server.address).shown
        request = RunRequest(prompt="x", source="x", cluster=address, profile=profile)
        with closing(application.cluster(request)) as cluster, pytest.raises(ClusterError) as raised:
            cluster.snapshot("a-job")
    said = f"{raised.value.message} {raised.value.hint}"
    assert MASK in said
    assert not [value for value in TOKENS.values() if value in said]
