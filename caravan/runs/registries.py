"""Whether a registry has an image: one HEAD of its manifest by the registry's HTTP API, with its token where it asks.

Nothing is pulled or pushed, and no credentials are sent: what needs some is said to. It reads no settings.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from caravan.values.environment import ImageAnswer, ImageState
from caravan.values.proxies import is_direct, is_here
from caravan.values.references import Image, read_image

if TYPE_CHECKING:
    import requests

TIMEOUT_S: Final = 6.0
_AT_ONCE: Final = 6
_HUB_API: Final = "registry-1.docker.io"
_ACCEPT: Final = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')
_MOST_BYTES: Final = 1 << 17  # of an answer with a token


class Registries:
    """The port ImageRegistry. `proxies`: scheme → proxy, but for the hosts in `no_proxy`.

    `verify`: True or a file of authorities. One on the loopback is asked without TLS. Answers are kept as long as it
    lives.
    """

    def __init__(
        self,
        *,
        proxies: Mapping[str, str] | None = None,
        no_proxy: str = "",
        verify: bool | str = True,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._proxies, self._no_proxy = dict(proxies or {}), no_proxy
        self._verify, self._timeout_s = verify, timeout_s
        self._known: dict[str, ImageAnswer] = {}
        self._silent: dict[str, str] = {}

    def look(self, image: str) -> ImageAnswer:
        """What the image's registry says of it. Never raises."""
        if image not in self._known:
            self._known[image] = self._asked(image)
        return self._known[image]

    def look_at(self, images: Sequence[str]) -> tuple[ImageAnswer, ...]:
        """Several at once, in their order."""
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            return tuple(pool.map(self.look, images))

    def _asked(self, image: str) -> ImageAnswer:
        import requests

        found = read_image(image)
        if found is None:
            return ImageAnswer(image=image, state=ImageState.ABSENT, text="it is no name of an image")
        if found.registry in self._silent:
            return _unknown(image, self._silent[found.registry])
        until = time.monotonic() + self._timeout_s
        try:
            with requests.Session() as session:
                session.trust_env, session.verify = False, self._verify
                session.proxies = {} if self._is_direct(found.registry) else self._proxies
                return self._with(session, image, found, until)
        except requests.exceptions.SSLError:
            text = f"the certificate of {found.registry} is not trusted"
        except (requests.RequestException, ValueError, OSError) as error:
            text = f"{found.registry} does not answer ({_reason(error)})"
        self._silent[found.registry] = text  # it is not waited for again
        return _unknown(image, text)

    def _is_direct(self, registry: str) -> bool:
        split = urlsplit(_address(registry))
        return is_direct(split.hostname or "", split.port or (443 if split.scheme == "https" else 80), self._no_proxy)

    def _with(self, session: "requests.Session", image: str, found: Image, until: float) -> ImageAnswer:
        base = _address(found.registry)
        url = f"{base}/v2/{found.name}/manifests/{found.digest or found.tag}"
        answer = self._head(session, url, {}, until)
        if answer.status_code == 401:
            token = self._token(session, answer.headers.get("WWW-Authenticate", ""), found, until)
            if token is None:
                return ImageAnswer(image=image, state=ImageState.DENIED, text=f"{found.registry} asks for a login")
            answer = self._head(session, url, {"Authorization": f"Bearer {token}"}, until)
        digest = answer.headers.get("Docker-Content-Digest")
        if answer.status_code == 200:
            known = digest if digest and re.fullmatch(r"sha256:[0-9a-f]{64}", digest) else None
            return ImageAnswer(image=image, state=ImageState.THERE, text="it is there", digest=known)
        if answer.status_code == 404:
            return ImageAnswer(image=image, state=ImageState.ABSENT, text=f"{found.registry} has no such image")
        if answer.status_code in (401, 403):
            said = f"{found.registry} shows it to nobody without a login, or has none of that name"
            return ImageAnswer(image=image, state=ImageState.DENIED, text=said)
        return _unknown(image, f"{found.registry} answered {answer.status_code}")

    def _head(self, session: "requests.Session", url: str, headers: dict[str, str], until: float) -> Any:
        return session.head(url, headers={"Accept": _ACCEPT, **headers}, timeout=_left(until), allow_redirects=True)

    def _token(self, session: "requests.Session", challenge: str, found: Image, until: float) -> str | None:
        """An anonymous token by the registry's challenge; None where it gives none."""
        scheme, _, rest = challenge.partition(" ")
        told = dict(_PARAMETER.findall(rest))
        realm = urlsplit(told.get("realm", ""))
        safe = realm.scheme == "https" or (realm.scheme == "http" and is_here(realm.hostname or ""))
        if scheme.lower() != "bearer" or not safe:
            return None
        query = {"scope": told.get("scope") or f"repository:{found.name}:pull"}
        query |= {"service": told["service"]} if "service" in told else {}
        with session.get(told["realm"], params=query, timeout=_left(until), stream=True) as answer:
            document = _small_json(answer, until) if answer.status_code == 200 else {}
        token = document.get("token") or document.get("access_token")
        return token if isinstance(token, str) else None


def _small_json(answer: "requests.Response", until: float) -> dict[str, Any]:
    """The document; nothing for one that is none, is too long or comes too slowly. Raises RequestException."""
    body = bytearray()
    for piece in answer.iter_content(1 << 14):
        body += piece
        if len(body) > _MOST_BYTES or time.monotonic() > until:
            return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _left(until: float) -> float:
    return max(0.1, until - time.monotonic())


def _address(registry: str) -> str:
    host = _HUB_API if registry == "docker.io" else registry
    return f"{'http' if is_here(urlsplit(f'//{host}').hostname or '') else 'https'}://{host}"


def _unknown(image: str, text: str) -> ImageAnswer:
    return ImageAnswer(image=image, state=ImageState.UNKNOWN, text=text)


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.Timeout):
        return "in time"
    if isinstance(error, requests.exceptions.ProxyError):
        return "through the proxy"
    return "no connection" if isinstance(error, requests.ConnectionError) else "no answer that can be read"
