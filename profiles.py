"""Cluster profiles: `caravan.toml` is found, read and checked here, and what of the environment counts beside it.

Secrets that are read here go into the connection and nowhere else. Must not know how a cluster is spoken to.
"""

import copy
import difflib
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from caravan.values.base import Value
from caravan.values.delivery import Shipping
from caravan.values.environment import BaseImage
from caravan.values.errors import UsageError
from caravan.values.masking import mask
from caravan.values.run import RunRequest
from caravan.values.settings import SettingRow
from caravan.values.spending import SharedLimit
from caravan.values.target import ClusterProfile, Clusters, Site, Target
from config import Settings
from config_files import SYSTEM, ConfigFile, Found, Layer, Trust, find_files, line_of, read_config, said

_LITERAL_TOKENS: Final = ("token", "nomad_token", "secret_id", "secret", "password")
_BY_REFERENCE: Final = (
    'Say where it is instead: token_env = "NAME" (an environment variable) or token_file = "/path" (a file that '
    "others can't read)."
)
_PATHS: Final = ("token_file", "cacert", "capath", "client_cert", "client_key", "policy", "prices_file")

V = TypeVar("V", bound=Value)
Parse = Callable[[str], str]
"""An address in its one form; raises UsageError for what is none."""


@dataclass(frozen=True)
class ProfileFile:
    """A `caravan.toml` that was read; `path` None: there is none, and nothing is said."""

    path: Path | None = None
    content: Clusters = field(default_factory=Clusters)
    text: str = field(default="", repr=False)

    def named(self, name: str) -> ClusterProfile:
        """The profile of that name. Raises UsageError with those that there are."""
        found = self.content.clusters.get(name)
        if found is None:
            where = f"in {self.path}" if self.path else "(there is no caravan.toml)"
            raise UsageError(f"There is no cluster profile {name} {where}.", hint=_known(name, self.content.clusters))
        return found


@dataclass(frozen=True)
class Access:
    """How a run's cluster is reached: what the settings, the environment and the profile come to."""

    address: str
    namespace: str
    region: str | None
    token: str | None = field(repr=False)
    http_auth: str | None = field(repr=False)
    verify: bool | str
    client_cert: Path | None
    client_key: Path | None
    tls_server_name: str | None
    profile: ClusterProfile | None = None
    note: str = ""


# --- caravan.toml ---------------------------------------------------------------------------------------------------


def load_profiles(named: Path | None, *, user: Path, system: Path = SYSTEM) -> ProfileFile:
    """The profiles in force without a working directory's: see `profiles_in`."""
    return profiles_in(find_files(named, user=user, system=system, here=None, trust=Trust(user)))


def profiles_in(found: Found) -> ProfileFile:
    """The profiles of the highest file that speaks of clusters: files are not mixed.

    Raises UsageError naming file, table and key.
    """
    file = found.profiles()
    if file is None:
        # Files of settings alone have no profiles, but a message says where they would stand.
        trusted = [one for one in found.files if one.trusted]
        return _checked_file(trusted[-1]) if trusted else ProfileFile()
    return _checked_file(file)


def read_profiles(shown: Path, path: Path) -> ProfileFile:
    """The profiles in the file at `path`, which messages call `shown`. Raises UsageError."""
    return _checked_file(read_config(path, Layer.NAMED, shown=str(shown)))


def _checked_file(file: ConfigFile) -> ProfileFile:
    data = copy.deepcopy({key: value for key, value in file.data.items() if key != "settings"})
    for name, table in _tables(data.get("clusters")):
        literal = next((key for key in table if key.lower() in _LITERAL_TOKENS), None)
        if literal:
            place = f"{file.shown}: [clusters.{name}] {literal}"
            raise UsageError(f"{place}: a secret may not stand here.", hint=_BY_REFERENCE)
        _resolve(table, file.path.parent)
    content = checked(Clusters, data, file.shown)
    default = content.default_cluster
    if default is not None and default != "local" and default not in content.clusters:
        hint = _known(default, content.clusters)
        raise UsageError(f"{file.shown}: default_cluster: there is no profile {default!r}.", hint=hint)
    return ProfileFile(file.path, content, file.text)


def _tables(clusters: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(clusters, dict):
        yield from ((name, table) for name, table in clusters.items() if isinstance(table, dict))


def _resolve(table: dict[str, Any], folder: Path) -> None:
    """Paths of files count from the file that names them."""
    for key in _PATHS:
        if isinstance(table.get(key), str) and table[key]:
            table[key] = str(folder.absolute() / Path(table[key]).expanduser())


def _known(name: str, names: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    listed = ", ".join(sorted(names)) or "none"
    return f"Did you mean {near[0]}?" if near else f"Profiles: {listed}."


def checked(kind: type[V], data: dict[str, Any], shown: str) -> V:
    """The document as a value. Raises UsageError naming the file `shown`, the table and the key."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        *tables, key = [str(part) for part in first["loc"]]
        where = f"[{'.'.join(tables)}] {key}" if tables else key
        if first["type"] != "extra_forbidden":
            raise UsageError(f"{shown}: {where}: {said(first['msg'])}.", hint="Correct it there.") from error
        near = difflib.get_close_matches(key, _keys(kind, tables), n=1)
        hint = f"Did you mean {near[0]}?" if near else "See the manual for the keys."
        raise UsageError(f"{shown}: {where}: there is no such key.", hint=hint) from error


def _keys(kind: type[Value], tables: list[str]) -> list[str]:
    if kind is Clusters:
        return list(ClusterProfile.model_fields if len(tables) == 2 else Clusters.model_fields)
    inner = kind.model_fields[tables[0]].annotation if tables and tables[0] in kind.model_fields else kind
    return list(getattr(inner, "model_fields", {}))


# --- where a run goes -----------------------------------------------------------------------------------------------


def find_target(name: str | None, settings: Settings, profiles: ProfileFile, parse: Parse) -> Target:
    """What `--cluster` means now: None is NOMAD_ADDR, else the default profile, else the built-in cluster.

    Raises UsageError for what is neither `local` nor a profile nor an address.
    """
    addressed = settings.names_cluster() or profiles.content.default_cluster is None
    if name is None and addressed and settings.nomad_addr is not None and settings.nomad_addr != "local":
        return Target(parse(settings.nomad_addr), settings.nomad_namespace)
    name = name or (settings.nomad_addr if addressed else None) or profiles.content.default_cluster or "local"
    if name == "local":
        return Target("local", "default")
    if name not in profiles.content.clusters:
        if "://" in name:
            return Target(parse(name), settings.nomad_namespace)
        profiles.named(name)  # raises, saying which there are
    profile = profiles.named(name)
    settings = settings.beside(profile)
    address = parse(profile.address)
    namespace = profile.namespace or "default"
    if _environment_speaks(settings, address, parse) and "nomad_namespace" in settings.model_fields_set:
        namespace = settings.nomad_namespace
    return Target(address, namespace, name)


def _environment_speaks(settings: Settings, address: str, parse: Parse) -> bool:
    """Whether NOMAD_* may be about this cluster: NOMAD_ADDR names no other one."""
    return settings.nomad_addr is None or _same(settings.nomad_addr, address, parse)


def _same(address: str, other: str, parse: Parse) -> bool:
    return address != "local" and parse(address) == other


def find_access(
    request: RunRequest, settings: Settings, profiles: ProfileFile, environment: Mapping[str, str], parse: Parse
) -> Access:
    """How to reach the cluster that a run was started on.

    NOMAD_TOKEN belongs to NOMAD_ADDR: where that names another cluster, it is not sent; a profile's cluster gets it
    only where the profile says so, or where NOMAD_ADDR is its address. Raises UsageError where a profile's secrets
    would have to go to another address than the profile's.
    """
    address = request.cluster
    ours = settings.nomad_addr is not None and _same(settings.nomad_addr, address, parse)
    speaks = ours or settings.nomad_addr is None
    profile = _still(request, profiles, parse, ours=ours) if request.profile else None
    settings = settings.beside(profile)
    told = settings.model_fields_set if speaks or profile is None else frozenset()

    def value(setting: str, key: str) -> Any:
        given = getattr(settings, setting) if setting in told else None
        return given if given is not None else getattr(profile, key) if profile else None

    sent = ours or (profile is None and speaks)
    token, auth = (settings.nomad_token, settings.nomad_http_auth) if sent else (None, None)
    skip = value("nomad_skip_verify", "skip_verify") if speaks or profile is not None else False
    name = value("nomad_tls_server_name", "tls_server_name") if speaks or profile is not None else None
    authority = value("nomad_cacert", "cacert") or value("nomad_capath", "capath")
    cert, key = (value(f"nomad_client_{part}", f"client_{part}") for part in ("cert", "key"))
    if profile is None and not speaks:
        cert = key = None
    return Access(
        address=address,
        namespace=request.namespace,
        region=value("nomad_region", "region"),
        token=token.get_secret_value() if token else _token(profile, request.profile, environment) if profile else None,
        http_auth=auth.get_secret_value() if auth else None,
        verify=False if skip else str(authority) if authority else True,
        client_cert=Path(cert) if cert else None,
        client_key=Path(key) if key else None,
        tls_server_name=name,
        profile=profile,
        note="" if sent or settings.nomad_token is None or _names_token(profile) else _kept_back(request, settings),
    )


def _names_token(profile: ClusterProfile | None) -> bool:
    return profile is not None and bool(profile.token_env or profile.token_file)


def _kept_back(request: RunRequest, settings: Settings) -> str:
    """Why a token that is set is not used, for whoever wonders why the cluster denies everything."""
    if request.profile:
        how = f'to send it, say token_env = "NOMAD_TOKEN" in [clusters.{request.profile}]'
    else:
        how = f"it belongs to NOMAD_ADDR={settings.nomad_addr}; unset that, or use a profile with token_env"
    return f"NOMAD_TOKEN is not sent to {request.cluster}: {how}."


def _still(request: RunRequest, profiles: ProfileFile, parse: Parse, *, ours: bool) -> ClusterProfile | None:
    """The profile that the run was started with; without its place in the file, or at another address, what is left."""
    profile = profiles.content.clusters.get(request.profile)
    if profile is not None and parse(profile.address) == request.cluster:
        return profile
    if ours:  # the environment says how to get there
        return None if profile is None else profile.model_copy(update=_WITHOUT_SECRETS)
    gone = "is not in caravan.toml any more" if profile is None else f"is at {profile.address} now"
    if profile is None or profile.has_credentials:
        raise UsageError(
            f"The run was started on {request.cluster} by the profile {request.profile}, which {gone}.",
            hint=f"Put the profile back, or set NOMAD_ADDR={request.cluster} and NOMAD_TOKEN for it.",
        )
    return profile


_WITHOUT_SECRETS: Final = {"token_env": None, "token_file": None, "client_cert": None, "client_key": None}


def _token(profile: ClusterProfile, name: str, environment: Mapping[str, str]) -> str | None:
    """The profile's token, from where it says. Raises UsageError where it is not there, or others can read it."""
    if profile.token_env is not None:
        token = environment.get(profile.token_env, "").strip()
        if not token:
            raise UsageError(
                f"The profile {name} takes its token from {profile.token_env}, which is not set.",
                hint=f"Set {profile.token_env}, or change token_env of [clusters.{name}].",
            )
        return token
    if profile.token_file is None:
        return None
    path = Path(profile.token_file)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise UsageError(f"The token file {path} of the profile {name} is no file.")
        if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
            raise UsageError(f"The token file {path} can be read or changed by others.", hint=f"chmod 600 {path}")
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not plain text"
        raise UsageError(f"The token file {path} of the profile {name} can't be read ({reason}).") from error
    if not token:
        raise UsageError(f"The token file {path} of the profile {name} is empty.")
    return token


def profile_secrets(profiles: ProfileFile, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets that profiles name, as far as they are there, so that they can be masked wherever they turn up."""
    found = []
    for name, profile in profiles.content.clusters.items():
        try:
            found.append(_token(profile, name, environment))
        except UsageError:  # said when that cluster is used
            continue
    return tuple(dict.fromkeys(token for token in found if token))


def find_site(request: RunRequest, profiles: ProfileFile) -> Site | None:
    """The profile that the run was started with, as it stands now; None where there is none (any more)."""
    profile = profiles.content.clusters.get(request.profile) if request.profile else None
    return Site(name=request.profile, profile=profile) if profile else None


def limits_usd(settings: Settings, site: Site | None) -> tuple[float, float]:
    """Soft and hard limit in US dollars: the settings', else the profile's, else the defaults."""
    profile = site.profile if site else None
    settings = settings.beside(profile)

    def limit(name: str) -> float:
        said = getattr(profile, name) if profile and name not in settings.model_fields_set else None
        return float(getattr(settings, name) if said is None else said)

    return limit("soft_limit_usd"), limit("hard_limit_usd")


def shared_limits(settings: Settings, site: Site | None) -> tuple[SharedLimit, ...]:
    """What runs may spend together in a month: the settings' word, else the profile's; none where neither says."""
    found, settings = [], settings.beside(site.profile if site else None)
    for name, per_user in (("monthly_usd", False), ("user_monthly_usd", True)):
        said, where = getattr(settings, name), f"CARAVAN_{name.upper()}"
        if said is None and site is not None:
            said, where = getattr(site.profile, name), f"{name} of the profile {site.name}"
        if said is not None:
            found.append(SharedLimit(usd=said, per_user=per_user, name=where))
    return tuple(found)


def shipping(settings: Settings, site: Site | None) -> Shipping:
    """Where code, data and images may be put: the settings' word, else the profile's. Raises UsageError."""
    profile = site.profile if site else None
    settings = settings.beside(profile)
    stores = {"code_store": settings.code_store, "data_store": settings.data_store}
    found: dict[str, Any] = {name: {"url": url} for name, url in stores.items() if url}
    for name in stores:
        if name not in found and profile is not None:
            found[name] = getattr(profile, name)
    registry = settings.registry or (profile.registry if profile else None)
    try:
        return Shipping(**found, registry=registry, max_data_gb=settings.max_data_gb)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = str(first["loc"][0])
        origin = settings.origin(name)
        where = f"{origin.place}: {name}" if origin.source == "file" else f"CARAVAN_{name.upper()}"
        raise UsageError(f"{where}: {said(first['msg'])}.", hint="Correct it there.") from error


def base_images(settings: Settings, site: Site | None) -> tuple[BaseImage, ...]:
    """The images that jobs may start from: the settings' word, else the profile's, else the usual ones."""
    settings = settings.beside(site.profile if site else None)
    theirs = site.profile.base_images if site is not None else None
    said = settings.base_images if settings.base_images is not None else theirs
    if said is not None:
        return said
    from caravan.values.base_images import BASE_IMAGES  # most commands need no image

    return BASE_IMAGES


def prices_by_model(settings: Settings, site: Site | None) -> dict[str, float]:
    """The profile's prices of GPU models, unless the settings say one for all."""
    settings = settings.beside(site.profile if site else None)
    return dict(site.profile.prices) if site and settings.usd_per_gpu_hour is None else {}


# --- what `config` shows --------------------------------------------------------------------------------------------


def profile_rows(profiles: ProfileFile) -> list[SettingRow]:
    """Each value of the profiles with its key and where it is from; what looks like a secret is masked."""
    rows, content = [], profiles.content

    def add(key: str, value: Any, *keys: str) -> None:
        where = f"{profiles.path}:{line_of(profiles.text, keys)}" if profiles.text else str(profiles.path)
        rows.append(SettingRow(key, "", mask(str(value)), "file", where))

    if content.default_cluster is not None:
        add("default_cluster", content.default_cluster, "default_cluster")
    for name, profile in content.clusters.items():
        for key, value in profile.model_dump(mode="json", exclude_unset=True).items():
            for path, item in _flat(key, value):
                add(f"clusters.{name}.{path}", item, name, key)
    return rows


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(f"{key}.{name}", item)
    else:
        yield key, ", ".join(map(str, value)) if isinstance(value, list) else value
