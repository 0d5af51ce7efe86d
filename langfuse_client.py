"""A small client of LangFuse: the published endpoints that are used, and nothing of what they mean here.

It goes to no other host than the one that is named, follows no redirects, takes nothing from the environment, and holds
every answer to a time and a size. LangFuse's own library is not used for this: see the architecture page.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode, urlsplit

from pydantic import Field, ValidationError

from caravan.values.base import Json, Value
from caravan.values.errors import UsageError
from caravan.values.masking import mask
from langfuse_access import CONNECT_S, LangfuseAccess, LangfuseError, LangfuseFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import requests

MOST_BYTES: Final = 4 << 20
"""Bytes of an answer that are read."""
_PIECE: Final = 1 << 16
_PAGE: Final = 100
_MOST_PAGES: Final = 100
_SAID: Final = 200  # characters of a server's own words that are told


class Answer(Value):
    """An answer: its status, what it says, and headers by their lower-case names."""

    status: int
    body: bytes
    headers: dict[str, str] = Field(default_factory=dict)

    def document(self) -> Json:
        """The answer as JSON. Raises LangfuseError for what is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise LangfuseError(
                "LangFuse's answer is no JSON.", fault=LangfuseFault.GARBLED, hint="Is LANGFUSE_BASE_URL LangFuse's?"
            ) from error


class RemotePrompt(Value):
    """A version of a prompt in LangFuse. `content`: a text, or messages each with `role` and `content`."""

    name: str = Field(min_length=1)
    number: int = Field(ge=1)
    content: str | tuple[dict[str, Json], ...]
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    config: Json = None
    message: str = ""


class RemoteName(Value):
    """A prompt's name in LangFuse with the numbers of its versions and all their labels."""

    name: str
    numbers: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()


class LangfuseClient:
    """Requests to one LangFuse, one after the other over the same connection. Every method may raise LangfuseError.

    Making one opens nothing. `close` lets go of the connection; the next request opens it again.
    """

    def __init__(self, access: LangfuseAccess) -> None:
        self.access = access
        self._session: requests.Session | None = None

    def close(self) -> None:
        """Let go of the connection."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        document: Json = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        most: int = MOST_BYTES,
    ) -> Answer:
        """The answer to a request to `path` under the address, `document` sent as JSON or `data` as it stands.

        Statuses from 200 to 299 come back; all others, and no answer within `timeout_s`, raise.
        """
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        url = f"{self.access.url}{path}" + (f"?{urlencode(asked)}" if asked else "")
        sent = {"Authorization": self.access.authorization(), "Accept-Encoding": "identity", "User-Agent": "caravan"}
        if document is not None:
            data = json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
            sent["Content-Type"] = "application/json"
        answer = self._sent(method, url, data, sent | dict(headers or {}), timeout_s or self.access.timeout_s, most)
        if not 200 <= answer.status < 300:
            raise self._refusal(answer)
        return answer

    def _sent(
        self, method: str, url: str, data: bytes | None, headers: dict[str, str], timeout_s: float, most: int
    ) -> Answer:
        import requests
        from urllib3.exceptions import HTTPError

        host = self.access.host
        try:
            session = self._session or self._opened()
            wait = (min(CONNECT_S, timeout_s), timeout_s)
            with session.request(
                method, url, data=data, headers=headers, timeout=wait, allow_redirects=False, stream=True
            ) as answer:
                body = _read(answer, most)
                told = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(status=answer.status_code, body=body, headers=told)
        except requests.exceptions.SSLError as error:
            raise LangfuseError(
                f"LangFuse's certificate at {host} is not trusted.",
                fault=LangfuseFault.UNTRUSTED,
                hint="Set CARAVAN_LANGFUSE_CACERT to its authority's certificate.",
            ) from error
        except (requests.Timeout, TimeoutError) as error:
            raise self._late(timeout_s) from error
        except (requests.RequestException, HTTPError, ValueError, OSError) as error:
            if "timed out" in str(error).lower():  # while an answer is read, the reason is wrapped
                raise self._late(timeout_s) from error
            raise LangfuseError(
                f"LangFuse at {host} can't be reached.",
                fault=LangfuseFault.UNREACHABLE,
                hint="Is it up, and LANGFUSE_BASE_URL right?",
            ) from error

    def _late(self, timeout_s: float) -> LangfuseError:
        return LangfuseError(
            f"LangFuse at {self.access.host} did not answer within {timeout_s:g} s.",
            fault=LangfuseFault.TIMED_OUT,
            hint="Is it up, and LANGFUSE_BASE_URL right?",
        )

    def _opened(self) -> requests.Session:
        """A session that holds whole answers to their time, as those to a cluster do."""
        from caravan.cluster.addresses import Address
        from caravan.cluster.transports import make_session, tls_context

        access = self.access
        try:
            tls = tls_context(str(access.ca) if access.ca else True, None) if _wants_tls(access) else None
        except UsageError as error:
            raise UsageError(error.message, hint="Correct CARAVAN_LANGFUSE_CACERT.") from error
        address = Address(shown=access.url, base=access.url)
        made: requests.Session = make_session(address, tls, server_name=None, whole=True)
        self._session = made
        if access.proxy is not None:
            made.proxies = dict.fromkeys(("http", "https"), access.proxy.get_secret_value())
        return made

    def _refusal(self, answer: Answer) -> LangfuseError:
        """What a status outside 200 to 299 means."""
        host, said = self.access.host, _words(answer.body)
        if 300 <= answer.status < 400:
            to = urlsplit(answer.headers.get("location", "")).netloc.rpartition("@")[2][:_SAID]
            return LangfuseError(
                f"LangFuse at {host} sends requests on{f' to {mask(to)}' if to else ''}; keys are not sent after them.",
                fault=LangfuseFault.REDIRECTED,
                hint="Set LANGFUSE_BASE_URL to where it really is.",
            )
        if answer.status == 401:
            return LangfuseError(
                f"LangFuse at {host} does not know these keys.",
                fault=LangfuseFault.DENIED,
                hint="Set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY to a pair of that server's project.",
            )
        if answer.status == 403:
            return LangfuseError(
                f"LangFuse at {host} does not allow these keys to do that{said}.",
                fault=LangfuseFault.FORBIDDEN,
                hint="Use a pair of keys of the project, not of the organisation.",
            )
        if answer.status == 404 and not _is_document(answer.body):
            return LangfuseError(
                f"What answers at {host} is not LangFuse: it knows none of its paths.",
                fault=LangfuseFault.GARBLED,
                hint="Is LANGFUSE_BASE_URL right, with the path under which LangFuse is served?",
            )
        if answer.status == 404:
            return LangfuseError(
                f"LangFuse at {host} has no such thing{said}.",
                fault=LangfuseFault.MISSING,
                hint="Is it new enough, and LANGFUSE_BASE_URL right?",
            )
        if answer.status == 429:
            return LangfuseError(
                f"LangFuse at {host} wants fewer requests.",
                fault=LangfuseFault.TOO_MANY,
                hint="Try again later.",
                retry_after_s=_retry_after(answer.headers.get("retry-after", "")),
            )
        if answer.status == 413:
            return LangfuseError(
                f"LangFuse at {host} takes no request of that size{said}.",
                fault=LangfuseFault.TOO_LARGE,
                hint="A proxy before it may bound what is sent.",
            )
        fault = LangfuseFault.SERVER_ERROR if answer.status >= 500 else LangfuseFault.REFUSED
        return LangfuseError(f"LangFuse at {host} answered {answer.status}{said}.", fault=fault)

    # What it is and who asks

    def health(self, *, timeout_s: float | None = None) -> str:
        """The server's version."""
        told = self.request("GET", "/api/public/health", timeout_s=timeout_s).document()
        return str(told.get("version") or "") if isinstance(told, dict) else ""

    def clock(self, *, timeout_s: float | None = None) -> datetime | None:
        """What time it is there, to the second; None where it does not say."""
        told = self.request("GET", "/api/public/health", timeout_s=timeout_s).headers.get("date", "")
        try:
            said = parsedate_to_datetime(told)
        except ValueError:
            return None
        return said if said.tzinfo else said.replace(tzinfo=UTC)

    def projects(self, *, timeout_s: float | None = None) -> tuple[tuple[str, str], ...]:
        """Id and name of the project that the keys belong to."""
        told = self.request("GET", "/api/public/projects", timeout_s=timeout_s).document()
        return tuple((str(row.get("id") or ""), str(row.get("name") or "")) for row in _rows(told))

    # Prompts

    def prompt(
        self, name: str, *, label: str | None = None, number: int | None = None, timeout_s: float | None = None
    ) -> RemotePrompt | None:
        """The version of a prompt that has the label or the number; None where there is none."""
        try:
            told = self.request(
                "GET", _at("v2/prompts", name), query={"label": label, "version": number}, timeout_s=timeout_s
            )
        except LangfuseError as error:
            if error.fault is LangfuseFault.MISSING:
                return None
            raise
        return _prompt(told.document())

    def prompts(self, label: str | None = None) -> tuple[RemoteName, ...]:
        """All names, with their versions' numbers and labels; those that have a version with the label alone."""
        found = []
        for row in self.pages("/api/public/v2/prompts", {"label": label} if label else None):
            try:
                found.append(
                    RemoteName(
                        name=row["name"],
                        numbers=tuple(sorted(row.get("versions") or ())),
                        labels=tuple(row.get("labels") or ()),
                    )
                )
            except (KeyError, TypeError, ValidationError) as error:
                raise _garbled("a list of prompts") from error
        return tuple(found)

    def create_prompt(
        self,
        name: str,
        content: str | Sequence[Mapping[str, Json]],
        *,
        labels: Sequence[str] = (),
        tags: Sequence[str] = (),
        config: Json = None,
        message: str = "",
    ) -> RemotePrompt:
        """Make a new version. The labels move to it from the versions that had them; it is always the `latest`."""
        asked: dict[str, Json] = {
            "name": name,
            "type": "text" if isinstance(content, str) else "chat",
            "prompt": content if isinstance(content, str) else [dict(m) for m in content],
            "labels": list(labels),
            "tags": list(tags),
            "config": config if config is not None else {},
        }
        if message:
            asked["commitMessage"] = message
        return _prompt(self.request("POST", "/api/public/v2/prompts", document=asked).document())

    def label_prompt(self, name: str, number: int, labels: Sequence[str]) -> RemotePrompt:
        """Give a version these labels beside those that it has; they leave the versions that had them."""
        path = f"{_at('v2/prompts', name)}/versions/{number}"
        return _prompt(self.request("PATCH", path, document={"newLabels": list(labels)}).document())

    # Traces and scores

    def send_traces(self, data: bytes, *, is_gzipped: bool = True, timeout_s: float | None = None) -> bytes:
        """Send an ExportTraceServiceRequest (OTLP, protobuf); the body of the answer comes back."""
        headers = {"Content-Type": "application/x-protobuf"} | ({"Content-Encoding": "gzip"} if is_gzipped else {})
        path = "/api/public/otel/v1/traces"
        return self.request("POST", path, data=data, headers=headers, timeout_s=timeout_s).body

    def send_scores(self, scores: Sequence[Mapping[str, Json]], *, timeout_s: float | None = None) -> Json:
        """Send scores; what LangFuse says to it comes back: with `rejected` and `errors` where it did not take all."""
        path = "/api/public/scores"
        return self.request("POST", path, document=[dict(score) for score in scores], timeout_s=timeout_s).document()

    # Datasets

    def dataset(self, name: str) -> Json:
        """A dataset, None where there is none."""
        try:
            return self.request("GET", _at("v2/datasets", name)).document()
        except LangfuseError as error:
            if error.fault is LangfuseFault.MISSING:
                return None
            raise

    def create_dataset(self, name: str, *, description: str = "", metadata: Json = None) -> Json:
        """Make a dataset, or change the one of that name."""
        asked = {"name": name, "description": description, "metadata": metadata}
        return self.request("POST", "/api/public/v2/datasets", document=asked).document()

    def dataset_items(self, dataset: str) -> Iterator[dict[str, Json]]:
        """The items of a dataset, newest first as LangFuse gives them: `id`, `input`, `expectedOutput`, `status`, …"""
        return self.pages("/api/public/dataset-items", {"datasetName": dataset})

    def put_dataset_item(self, dataset: str, item: Mapping[str, Json]) -> Json:
        """Add an item (`input`, `expectedOutput`, `metadata`, `id`, …); one with a known `id` is replaced."""
        return self.request("POST", "/api/public/dataset-items", document={"datasetName": dataset, **item}).document()

    def pages(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[dict[str, Json]]:
        """The rows of a list that comes in pages."""
        for number in range(1, _MOST_PAGES + 1):
            told = self.request("GET", path, query={**(query or {}), "page": number, "limit": _PAGE}).document()
            yield from _rows(told)
            meta = told.get("meta")
            last = meta.get("totalPages") if isinstance(meta, dict) else None
            if not isinstance(last, int) or number >= last:
                return


def _wants_tls(access: LangfuseAccess) -> bool:
    return access.url.startswith("https://") or access.proxy is not None


def _at(place: str, name: str) -> str:
    """The path of a thing by its name, whose slashes are part of the name."""
    return f"/api/public/{place}/{quote(name, safe='')}"


def _read(answer: requests.Response, most: int) -> bytes:
    read = bytearray()
    for piece in answer.iter_content(_PIECE):
        read += piece
        if len(read) > most:
            raise LangfuseError(f"LangFuse's answer is longer than {most / 1e6:.1f} MB.", fault=LangfuseFault.TOO_LARGE)
    return bytes(read)


def _rows(told: Json) -> list[dict[str, Json]]:
    rows = told.get("data") if isinstance(told, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _garbled("a list")
    return rows


def _prompt(told: Json) -> RemotePrompt:
    try:
        return RemotePrompt(
            name=told["name"],
            number=told["version"],
            content=told["prompt"],
            labels=tuple(told.get("labels") or ()),
            tags=tuple(told.get("tags") or ()),
            config=told.get("config"),
            message=str(told.get("commitMessage") or ""),
        )
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise _garbled("a prompt") from error


def _garbled(what: str) -> LangfuseError:
    return LangfuseError(
        f"LangFuse's answer is not {what} as its reference has it.",
        fault=LangfuseFault.GARBLED,
        hint="Is it new enough, and LANGFUSE_BASE_URL right?",
    )


def _is_document(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _words(body: bytes) -> str:
    """What an error answer says in its own words, for a message; empty where it says nothing readable."""
    try:
        told = json.loads(body)
        said = told.get("message") or told.get("error") or "" if isinstance(told, dict) else ""
    except (ValueError, RecursionError):
        return ""
    text = "".join(c for c in " ".join(str(said).split()) if c.isprintable())
    return f": {mask(text[:_SAID])}" if text else ""


def _retry_after(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,6}", text.strip()) else None
