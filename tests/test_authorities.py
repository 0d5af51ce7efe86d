"""A company's own authority, as other clients read it from the environment, is trusted by what asks hubs."""

from pathlib import Path

import pytest

from adapters import make_hub
from config import load_settings
from tests.fakes.nomad_http import Answer, NomadHttp

TLS = Path(__file__).parent / "data" / "tls"


@pytest.mark.parametrize(
    ("name", "file", "trusted"),
    [
        ("REQUESTS_CA_BUNDLE", "cert.pem", True),
        ("SSL_CERT_FILE", "cert.pem", True),
        ("SSL_CERT_FILE", "ca.pem", False),
        ("SSL_CERT_FILE", "missing.pem", False),
        ("", "", False),
    ],
)
def test_the_authority_of_the_environment_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, trusted: bool
) -> None:
    monkeypatch.setenv("CARAVAN_LOOK_UP", "1")
    for other in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(other, raising=False)
    if name:
        monkeypatch.setenv(name, str(TLS / file))
    server = NomadHttp(lambda _: Answer({}, 404), certificate=str(TLS / "cert.pem"), key=str(TLS / "key.pem"))
    try:
        hub = make_hub(load_settings(), tmp_path, endpoint=server.address)
        assert hub is not None
        answer = hub.model("team/model")
    finally:
        server.close()
    assert answer.absent is trusted, answer.text
