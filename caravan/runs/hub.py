"""What a hub of models and data sets says of them: configs, counts of parameters, sizes of splits, over HTTP.

A handful of small requests, answers kept in the state directory for a week. No weights and no data are downloaded, and
what the answers mean is not known here. The token goes to the hub and its service of sizes alone, and is written
nowhere.
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from pydantic import ValidationError

from caravan.runs.files import make_folder, write_file
from caravan.values.base import Json
from caravan.values.datasets import DatasetAnswer, SplitSize
from caravan.values.proxies import is_direct, is_here
from caravan.values.shape import ModelAnswer, slim_config

if TYPE_CHECKING:
    import requests

ENDPOINT: Final = "https://huggingface.co"
SIZES: Final = "https://datasets-server.huggingface.co"
"""The service that knows the rows of the data sets on the hub at `ENDPOINT`."""
TIMEOUT_S: Final = 6.0
KEPT_S: Final = 7 * 24 * 3600
MOST_BYTES: Final = 1 << 20
_MOST_INDEX: Final = 8 << 20
_REDIRECTS: Final = 3
_MOST_SPLITS: Final = 200
_MODEL: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?")
_PARTS: Final = ("transformer", "unet")
"""Folders of a diffusion pipeline in which the network that is trained has its config."""
_WIDTHS: Final = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}


class _Answer(NamedTuple):
    status: int
    document: Json = None


class _NoAnswerError(Exception):
    """The hub can't be asked; the text says why."""


class HttpHub:
    """The port ModelHub. `proxies`: scheme → proxy, but for the hosts in `no_proxy`; `sizes`: where rows are asked for.

    A hub that does not answer is not asked again as long as this lives.
    """

    def __init__(
        self,
        folder: Path,
        *,
        endpoint: str = ENDPOINT,
        sizes: str | None = None,
        token: str | None = None,
        proxies: Mapping[str, str] | None = None,
        no_proxy: str = "",
        verify: bool | str = True,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._sizes = sizes or (SIZES if self._endpoint == ENDPOINT else None)
        self._proxies, self._no_proxy = dict(proxies or {}), no_proxy
        self._verify, self._timeout_s = verify, timeout_s
        self._folder, self._token = folder, token
        self._known: dict[str, ModelAnswer | DatasetAnswer] = {}
        self._silent: dict[str, str] = {}

    def model(self, name: str, revision: str | None = None) -> ModelAnswer:
        """The model's config and the number of its parameters. Never raises."""
        if not _MODEL.fullmatch(name):
            return ModelAnswer(model=name, text="it is no name of a model on a hub")
        key = self._key("model", name, revision)
        known = self._known.get(key) or self._kept(key, ModelAnswer)
        if isinstance(known, ModelAnswer):
            return known
        try:
            found = self._ask_model(name, revision)
        except _NoAnswerError as error:
            found = ModelAnswer(model=name, text=str(error))
        except ValidationError:
            found = ModelAnswer(model=name, text="the hub's answer can't be read")
        self._known[key] = found
        if found.config is not None or found.params is not None:
            self._keep(key, found)
        return found

    def dataset(self, name: str) -> DatasetAnswer:
        """The rows and bytes of the data set's splits. Never raises."""
        if not _MODEL.fullmatch(name):
            return DatasetAnswer(dataset=name, text="it is no name of a data set on a hub")
        key = self._key("dataset", name, None)
        known = self._known.get(key) or self._kept(key, DatasetAnswer)
        if isinstance(known, DatasetAnswer):
            return known
        try:
            found = self._ask_dataset(name)
        except _NoAnswerError as error:
            found = DatasetAnswer(dataset=name, text=str(error))
        except ValidationError:
            found = DatasetAnswer(dataset=name, text="the hub's answer can't be read")
        self._known[key] = found
        if found.splits:
            self._keep(key, found)
        return found

    def _ask_model(self, name: str, revision: str | None) -> ModelAnswer:
        until = time.monotonic() + self._timeout_s
        at = quote(revision or "main", safe="")
        answer = self._get(f"{self._endpoint}/api/models/{name}/revision/{at}?expand[]=safetensors", until)
        if answer.status in (401, 403, 404):
            return ModelAnswer(model=name, text=self._refused(answer.status), absent=answer.status == 404)
        told = answer.document if isinstance(answer.document, dict) else {}
        params = _params(told.get("safetensors"))
        config = self._config(name, at, until)
        if params is None and isinstance(config.document, dict):
            params = self._indexed(name, at, config.document, until)
        text = "" if isinstance(config.document, dict) else self._refused(config.status)
        return ModelAnswer(model=name, config=slim_config(config.document) or None, params=params, text=text)

    def _config(self, name: str, at: str, until: float) -> _Answer:
        """config.json, or that of the network in a diffusion pipeline."""
        base = f"{self._endpoint}/{name}/resolve/{at}"
        first = self._get(f"{base}/config.json", until)
        if first.status != 404:
            return first
        for part in _PARTS:
            answer = self._get(f"{base}/{part}/config.json", until)
            if answer.status == 200:
                return answer
        return first

    def _indexed(self, name: str, at: str, config: Mapping[str, Json], until: float) -> int | None:
        """Parameters by the bytes that the index of the weights tells, where their type is one for all."""
        width = _WIDTHS.get(str(config.get("torch_dtype") or config.get("dtype")).removeprefix("torch."))
        if width is None or isinstance(config.get("quantization_config"), dict):
            return None
        url = f"{self._endpoint}/{name}/resolve/{at}/model.safetensors.index.json"
        answer = self._get(url, until, most=_MOST_INDEX)
        metadata = answer.document.get("metadata") if isinstance(answer.document, dict) else None
        size = metadata.get("total_size") if isinstance(metadata, dict) else None
        return _count(size // width) if isinstance(size, int) and not isinstance(size, bool) else None

    def _ask_dataset(self, name: str) -> DatasetAnswer:
        until = time.monotonic() + self._timeout_s
        if self._sizes:
            answer = self._get(f"{self._sizes}/size?dataset={quote(name, safe='')}", until)
            found = _sizes(name, answer.document)
            if found is not None:
                return found
        answer = self._get(f"{self._endpoint}/api/datasets/{name}?expand[]=cardData", until)
        found = _card(name, answer.document) if answer.status == 200 else None
        text = self._refused(answer.status) if answer.status != 200 else "the hub tells no sizes of it"
        return found or DatasetAnswer(dataset=name, text=text, absent=answer.status == 404)

    def _refused(self, status: int) -> str:
        host = _host(self._endpoint)
        if status in (401, 403):
            return f"{host} shows it to nobody without a token that may see it (HF_TOKEN), or has none of that name"
        return f"{host} has no such file" if status == 404 else f"{host} answered {status}"

    def _get(self, url: str, until: float, *, most: int = MOST_BYTES) -> _Answer:
        """A JSON document of at most `most` bytes. Raises _NoAnswerError."""
        import requests

        host = _host(url)
        if host in self._silent:
            raise _NoAnswerError(self._silent[host])
        try:
            with requests.Session() as session:
                session.trust_env, session.verify = False, self._verify
                return self._followed(session, url, until, most)
        except requests.exceptions.SSLError:
            text = f"the certificate of {host} is not trusted"
        except (requests.RequestException, ValueError, OSError) as error:
            text = f"{host} does not answer ({type(error).__name__})"
        self._silent[host] = text
        raise _NoAnswerError(text)

    def _followed(self, session: "requests.Session", url: str, until: float, most: int) -> _Answer:
        """The answer behind at most a few redirects. The token stays with the hub's own host."""
        for _ in range(_REDIRECTS + 1):
            session.proxies = {} if self._is_direct(url) else self._proxies
            headers = {"Accept": "application/json"}
            if self._token and _origin(url) in (_origin(self._endpoint), _origin(self._sizes or "")) and _safe(url):
                headers["Authorization"] = f"Bearer {self._token}"
            wait = max(0.1, until - time.monotonic())
            with session.get(url, headers=headers, timeout=wait, allow_redirects=False, stream=True) as answer:
                if answer.status_code not in (301, 302, 303, 307, 308):
                    return _Answer(answer.status_code, _document(answer, most, until))
                url = urljoin(url, answer.headers.get("Location", ""))
                if not (_safe(url) or _origin(url) == _origin(self._endpoint)):
                    return _Answer(502)
        return _Answer(508)

    def _is_direct(self, url: str) -> bool:
        split = urlsplit(url)
        return is_direct(split.hostname or "", split.port or (443 if split.scheme == "https" else 80), self._no_proxy)

    def _key(self, kind: str, name: str, revision: str | None) -> str:
        return hashlib.sha256(json.dumps([self._endpoint, kind, name, revision]).encode()).hexdigest()

    def _kept(self, key: str, kind: type[ModelAnswer] | type[DatasetAnswer]) -> ModelAnswer | DatasetAnswer | None:
        try:
            document = json.loads((self._folder / f"{key}.json").read_bytes())
            if not 0 <= time.time() - float(document.pop("at")) <= KEPT_S:
                return None
            return kind.model_validate(document)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def _keep(self, key: str, found: ModelAnswer | DatasetAnswer) -> None:
        try:
            make_folder(self._folder)
            document = {**found.model_dump(mode="json"), "at": time.time()}
            write_file(self._folder / f"{key}.json", json.dumps(document).encode(), durable=False)
        except (OSError, RecursionError):
            return  # it is asked again


def _document(answer: "requests.Response", most: int, until: float) -> Json:
    """The body as JSON; None for an answer that is no document, is too long or comes too slowly."""
    body = bytearray()
    if answer.status_code != 200:
        return None
    for piece in answer.iter_content(1 << 16):
        body += piece
        if len(body) > most or time.monotonic() > until:
            return None
    try:
        return json.loads(body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def _params(told: Json) -> int | None:
    """The parameters that the weights' headers count; None where the numbers are packed (quantised)."""
    if not isinstance(told, dict):
        return None
    by_type = told.get("parameters")
    if isinstance(by_type, dict) and {"I32", "U8", "I8"} & by_type.keys():
        return None
    return _count(told.get("total"))


def _count(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 60 else None


def _rows(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60 else None


def _sizes(name: str, document: Json) -> DatasetAnswer | None:
    """What the service of sizes answers."""
    size = document.get("size") if isinstance(document, dict) else None
    if not isinstance(size, dict) or not isinstance(size.get("splits"), list):
        return None
    splits = [
        SplitSize(
            config=str(s.get("config")),
            split=str(s.get("split")),
            rows=_rows(s.get("estimated_num_rows")) or _rows(s.get("num_rows")),
            bytes=_rows(s.get("num_bytes_memory")),
        )
        for s in size["splits"][:_MOST_SPLITS]
        if isinstance(s, dict)
    ]
    whole = size.get("dataset")
    original = _rows(whole.get("num_bytes_original_files")) if isinstance(whole, dict) else None
    return DatasetAnswer(dataset=name, splits=tuple(splits), bytes=original) if splits else None


def _card(name: str, document: Json) -> DatasetAnswer | None:
    """What a data set's own card says of its splits."""
    card = document.get("cardData") if isinstance(document, dict) else None
    told = card.get("dataset_info") if isinstance(card, dict) else None
    splits = [
        SplitSize(
            config=str(info.get("config_name") or "default"),
            split=str(s.get("name")),
            rows=_rows(s.get("num_examples")),
            bytes=_rows(s.get("num_bytes")),
        )
        for info in (told if isinstance(told, list) else [told])[:_MOST_SPLITS]
        if isinstance(info, dict) and isinstance(info.get("splits"), list)
        for s in info["splits"][:_MOST_SPLITS]
        if isinstance(s, dict)
    ]
    return DatasetAnswer(dataset=name, splits=tuple(splits[:_MOST_SPLITS])) if splits else None


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return url


def _origin(url: str) -> tuple[str, str]:
    split = urlsplit(url)
    return split.scheme, split.netloc


def _safe(url: str) -> bool:
    """Whether an address may be asked: by TLS, or on the loopback."""
    split = urlsplit(url)
    return split.scheme == "https" or (split.scheme == "http" and is_here(split.hostname or ""))
