"""What a run needs beside its cluster, looked at for `doctor`: stores, registry, notices, git, image tools.

Nothing is written anywhere and nobody is told anything: an object is asked for that need not be there, a port is
knocked at. Each look is bounded in time by itself or by whoever calls it. What a finding means is said here, where the
settings that it is about are known.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from caravan.values.checkup import Area, Finding, Level
from caravan.values.errors import CaravanError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from caravan.values.delivery import Depot
    from caravan.values.target import Site
    from config import Settings

    Look = Callable[[], Finding]

_ASKED: Final = "caravan-doctor-asks"  # an object that is nowhere
_PATIENCE_S: Final = 8.0
_SERVERS: Final = ("http", "https")
_PORTS: Final = {"http": 80, "https": 443}


def looks(settings: Settings, site: Site | None, environment: Mapping[str, str]) -> Sequence[tuple[str, Look]]:
    """What is to be looked at, by its name. Raises UsageError for stores that can't be used."""
    from profiles import shipping

    ways = shipping(settings, site)
    found: list[tuple[str, Look]] = [("git", partial(_git, environment))]
    for name, depot in (("code store", ways.code_store), ("data store", ways.data_store)):
        if depot is not None and not depot.volume:
            found.append((name, partial(_store, name, depot)))
    if ways.registry:
        found.append(("registry", partial(_registry, ways.registry, settings)))
        found.append(("image tool", partial(_tool, environment)))
    if settings.notify_url is not None:
        found.append(("notify", partial(_webhook, settings.notify_url.get_secret_value(), settings)))
    if settings.notify_command:
        found.append(("notify", partial(_command, settings.notify_command, environment)))
    return found


def _finding(name: str, level: Level, text: str, hint: str = "", area: Area = Area.SERVICE) -> Finding:
    return Finding(area=area, name=name, level=level, text=text, hint=hint)


def _git(environment: Mapping[str, str]) -> Finding:
    said = _said(["git", "--version"], environment)
    if said is None:
        text = "There is no git that can be started: repositories by URL and commits can't be read."
        return _finding("git", Level.WARNING, text, "Install git.", Area.SETTINGS)
    return _finding("git", Level.OK, f"{said}.", area=Area.SETTINGS)


def _store(name: str, depot: Depot) -> Finding:
    """Whether the store answers to a question for an object that is not there."""
    from caravan.runs.stores import store_of

    url, key = f"{depot.url.rstrip('/')}/{_ASKED}", name.replace(" ", "_")
    try:
        store_of(url, patience_s=_PATIENCE_S).size()
    except CaravanError as error:
        text = error.message.replace(f"/{_ASKED}", "")
        variable = f"CARAVAN_{key.upper()}"
        hint = f"Its credentials must be in this environment; {variable} or the profile's {key} names it."
        return _finding(name, Level.FAILURE, text, hint)
    return _finding(name, Level.OK, f"{depot.url} answers; whether it may be written to shows when something is sent.")


def _registry(registry: str, settings: Settings) -> Finding:
    """Whether a registry's API answers at all; a login that it asks for is the image tool's."""
    import requests

    host = registry.split("/")[0]
    scheme = "http" if host.split(":")[0] in ("localhost", "127.0.0.1", "[::1]") else "https"
    try:
        with requests.get(f"{scheme}://{host}/v2/", timeout=_PATIENCE_S, proxies=_proxies(settings, host)) as answer:
            status = answer.status_code
    except requests.RequestException as error:
        text = f"{host} can't be reached from here ({type(error).__name__}): built images can't be pushed."
        return _finding("registry", Level.FAILURE, text, "Correct CARAVAN_REGISTRY, or registry of the profile.")
    if status in (200, 401, 403):
        login = "" if status == 200 else f"; it wants a login: `docker login {host}`, if you have not"
        return _finding("registry", Level.OK, f"{host} answers{login}.")
    text = f"{host} answers {status}, as no registry does."
    return _finding("registry", Level.WARNING, text, "Correct CARAVAN_REGISTRY, or registry of the profile.")


def _tool(environment: Mapping[str, str]) -> Finding:
    from caravan.runs.images import TOOLS

    path = environment.get("PATH")
    tool = next((t for t in TOOLS if shutil.which(t, path=path)), None)
    if tool is None:
        text = f"A registry is set, and none of {', '.join(TOOLS)} is here: no image can be built."
        return _finding("image tool", Level.WARNING, text, "Install one of them, or name an image.")
    said = _said([tool, "version" if tool == "docker" else "--version"], environment)
    if said is None:
        text = f"{tool} is here, and does not answer: no image can be built."
        return _finding("image tool", Level.WARNING, text, f"Is its daemon up, and may you use it? `{tool} info`.")
    return _finding("image tool", Level.OK, f"{tool} answers.")


def _webhook(url: str, settings: Settings) -> Finding:
    """Whether somebody listens at the webhook's port. Nothing is posted, and the address is not said: who knows it may
    write there.
    """
    hint = "Correct CARAVAN_NOTIFY_URL."
    try:
        parts = urlsplit(url)
        place = (parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0))
    except ValueError:
        place = ("", 0)
    if not all(place):
        return _finding("notify", Level.FAILURE, "The webhook's address is none.", hint, Area.SETTINGS)
    if _proxies(settings, place[0]):
        return _finding("notify", Level.OK, "A webhook is set; it is reached through the proxy, and not tried here.")
    try:
        socket.create_connection(place, timeout=_PATIENCE_S).close()
    except OSError as error:
        why = error.strerror or type(error).__name__
        return _finding("notify", Level.WARNING, f"Nobody listens at the webhook's address ({why}).", hint)
    return _finding("notify", Level.OK, "The webhook's server answers; a run's end is told to it.")


def _command(command: str, environment: Mapping[str, str]) -> Finding:
    hint = "Correct CARAVAN_NOTIFY_COMMAND."
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words or shutil.which(words[0], path=environment.get("PATH")) is None:
        text = "The command for notices can't be run: it is no program here."
        return _finding("notify", Level.FAILURE, text, hint, Area.SETTINGS)
    return _finding("notify", Level.OK, f"{words[0]} is there, and is told of a run's end.", area=Area.SETTINGS)


def _proxies(settings: Settings, host: str) -> dict[str, str]:
    from requests.utils import should_bypass_proxies

    pairs = {"http": settings.http_proxy, "https": settings.https_proxy}
    found = {scheme: proxy for scheme, proxy in pairs.items() if proxy}
    return {} if not found or should_bypass_proxies(f"https://{host}/", settings.no_proxy or "") else found


def _said(command: list[str], environment: Mapping[str, str]) -> str | None:
    """The first line that a program says; None where it can't be started, fails, or does not end."""
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            check=False,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None
