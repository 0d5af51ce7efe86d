"""Settings: built once of files, environment and options, passed in everywhere. The only reader of the environment.

Caravan's own settings are `CARAVAN_*`; those of Nomad, Qdrant, LangFuse and Hugging Face keep the names that their
users already have set. Which of the places counts is `settings_layers`' to say.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
)

from caravan.values.base_image import BaseImage
from caravan.values.database import DatabaseAddress, parse_database_url
from caravan.values.errors import UsageError
from caravan.values.masking import MASK, mask, secret_values
from caravan.values.settings import SettingRow
from config_files import Found, Layer, said
from settings_layers import DEFAULT, LOWERED, Origin, file_name, lay, variables


def _env(*names: str, default: Any = None, description: str = "", **limits: Any) -> Any:
    return Field(default=default, validation_alias=AliasChoices(*names), description=description, **limits)


def _default_home() -> Path:
    from platformdirs import user_state_path

    return user_state_path("caravan", appauthor=False)


def user_config_folder() -> Path:
    """The user's configuration directory for Caravan."""
    from platformdirs import user_config_path

    return user_config_path("caravan", appauthor=False)


_PORTABLE = frozenset(
    {"soft_limit_usd", "hard_limit_usd", "monthly_usd", "user_monthly_usd"}
    | {"max_archive_mb", "max_log_mb", "max_data_gb", "code_store", "data_store"}
    | {"model_url", "model_name", "model_window", "model_timeout_s", "model_prompt_usd", "model_completion_usd"}
    | {"model_run_tokens", "model_step_tokens", "model_run_seconds", "model_step_seconds"}
    | {"model_fallback_url", "model_fallback_name"}
    | {"registry", "image", "look_up", "usd_per_gpu_hour", "qdrant_url", "smoke", "memory", "trace"}
    | {"memory_scope", "memory_starters", "prompt_label", "prompt_cache_s", "langfuse_prompts", "langfuse_timeout_s"}
    | {"langfuse_traces", "trace_content"}
)


_SIGNS = re.compile(r"[:/@?#&=\[\]\s]+")
_SHORT = 5  # characters: shorter parts of an address are parts of ordinary words
_KINDS = frozenset({"postgresql", "postgres", "sqlite"})  # our own refusal names them


class Settings(BaseModel):
    """All settings, with their environment variables. Secrets are `SecretStr`: they don't print."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)
    _profiles_layer: Layer = PrivateAttr(default=Layer.DEFAULT)
    _notes: tuple[str, ...] = PrivateAttr(default=())

    home: Path = Field(
        default_factory=_default_home,
        validation_alias=AliasChoices("CARAVAN_HOME"),
        description="state directory: database, checkpoints, memory, traces, runs",
    )
    soft_limit_usd: float = _env(
        "CARAVAN_SOFT_LIMIT_USD",
        ge=0,
        allow_inf_nan=False,
        default=25.0,
        description="what --yes may spend on one run, in US dollars",
    )
    hard_limit_usd: float = _env(
        "CARAVAN_HARD_LIMIT_USD",
        ge=0,
        allow_inf_nan=False,
        default=250.0,
        description="what no run may spend without --budget, in US dollars",
    )
    monthly_usd: float | None = _env(
        "CARAVAN_MONTHLY_USD",
        ge=0,
        allow_inf_nan=False,
        description="what all runs here together may spend in a calendar month (UTC), in US dollars",
    )
    user_monthly_usd: float | None = _env(
        "CARAVAN_USER_MONTHLY_USD",
        ge=0,
        allow_inf_nan=False,
        description="what the runs of one user may spend in a calendar month (UTC), in US dollars",
    )
    user: str | None = _env(
        "CARAVAN_USER", description="whose runs these are, for the limit per user; unset: the system's user name"
    )
    max_archive_mb: int = _env(
        "CARAVAN_MAX_ARCHIVE_MB", ge=1, default=512, description="largest code archive that is packed, in MB"
    )
    max_log_mb: int = _env(
        "CARAVAN_MAX_LOG_MB",
        ge=1,
        default=64,
        description="what is kept of a task's stdout or stderr, in MB: its beginning and its end",
    )
    max_data_gb: int = _env(
        "CARAVAN_MAX_DATA_GB", ge=1, default=100, description="most data that is sent to a store for one run, in GB"
    )
    code_store: str | None = _env(
        "CARAVAN_CODE_STORE", description="URL to which code is put for the nodes to fetch, in place of the profile's"
    )
    data_store: str | None = _env(
        "CARAVAN_DATA_STORE", description="URL to which data is put, or volume:NAME, in place of the profile's"
    )
    registry: str | None = _env("CARAVAN_REGISTRY", description="registry and path under which built images are pushed")
    training_types: str | None = _env(
        "CARAVAN_TRAINING_TYPES", description="folders of training types of your own, with : between them"
    )
    image: str | None = _env("CARAVAN_IMAGE", description="image for docker jobs whose repository names none")
    base_images: tuple[BaseImage, ...] | None = _env(
        "CARAVAN_BASE_IMAGES",
        description="images that jobs may start from where nothing names one, as JSON (see docs/jobs.md)",
    )
    agent_image: str | None = _env(
        "CARAVAN_AGENT_IMAGE", description="image of Caravan itself, for agents on the cluster (--on-cluster)"
    )
    config_file: Path | None = _env(
        "CARAVAN_CONFIG",
        description="settings and cluster profiles (caravan.toml), in place of all other files",
    )
    policy: Path | None = _env(
        "CARAVAN_POLICY", description="a policy that holds beside the administrator's /etc/caravan/policy.toml"
    )
    usd_per_gpu_hour: float | None = _env(
        "CARAVAN_USD_PER_GPU_HOUR",
        ge=0,
        allow_inf_nan=False,
        description="price of a GPU hour, in US dollars, in place of the catalogue's",
    )
    prices: Path | None = _env(
        "CARAVAN_PRICES",
        description="list of prices (prices.toml), in place of the profile's, the user's and the system's",
    )

    database_url: SecretStr | None = _env(
        "DATABASE_URL",
        description="database of runs, money and models: postgresql://USER:PASSWORD@HOST:PORT/NAME or sqlite:///PATH; "
        "unset: `caravan.db` in CARAVAN_HOME",
    )

    nomad_addr: str | None = _env("NOMAD_ADDR", description="address of the Nomad cluster; unset: the built-in one")
    nomad_token: SecretStr | None = _env("NOMAD_TOKEN", description="Nomad ACL token")
    nomad_http_auth: SecretStr | None = _env(
        "NOMAD_HTTP_AUTH", description="user:password for a gateway before the Nomad cluster"
    )
    nomad_namespace: str = _env("NOMAD_NAMESPACE", default="default", description="Nomad namespace")
    nomad_region: str | None = _env("NOMAD_REGION", description="Nomad region")
    nomad_cacert: Path | None = _env("NOMAD_CACERT", description="CA certificate of the Nomad server")
    nomad_capath: Path | None = _env(
        "NOMAD_CAPATH", description="directory of CA certificates, where NOMAD_CACERT is unset"
    )
    nomad_client_cert: Path | None = _env("NOMAD_CLIENT_CERT", description="client certificate for mTLS")
    nomad_client_key: Path | None = _env("NOMAD_CLIENT_KEY", description="key of the client certificate")
    nomad_tls_server_name: str | None = _env(
        "NOMAD_TLS_SERVER_NAME", description="name that the server's certificate is for, where the address has another"
    )
    nomad_skip_verify: bool = _env("NOMAD_SKIP_VERIFY", default=False, description="don't verify the server (unsafe)")
    http_proxy: str | None = _env(
        "HTTP_PROXY", description="proxy for http addresses: the Nomad cluster, the model, LangFuse", repr=False
    )
    https_proxy: str | None = _env(
        "HTTPS_PROXY", description="proxy for https addresses: the Nomad cluster, the model, LangFuse", repr=False
    )
    ca_bundle: Path | None = _env(
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",
        description="certificates that the hub of models and registries of images are verified by; unset: certifi's",
    )
    no_proxy: str | None = _env("NO_PROXY", description="hosts, domains and networks that are reached without a proxy")

    qdrant_url: str | None = _env("QDRANT_URL", description="Qdrant server for the memory; unset: embedded")
    qdrant_api_key: SecretStr | None = _env("QDRANT_API_KEY", description="key of the Qdrant server")
    tenant: str | None = _env(
        "CARAVAN_TENANT",
        description="whose lessons these are, on a Qdrant server that several share; unset: as CARAVAN_USER",
    )
    notify_url: SecretStr | None = _env(
        "CARAVAN_NOTIFY_URL", description="webhook that is told of a run's end and of what it asks (POST, JSON)"
    )
    notify_command: str | None = _env(
        "CARAVAN_NOTIFY_COMMAND", description="command that is told the same, as JSON on its standard input"
    )
    look_up: bool = _env(
        "CARAVAN_LOOK_UP",
        default=True,
        description="ask the package index, the image's registry and the hub of the model before a launch on a cluster",
    )
    hf_endpoint: str | None = _env(
        "HF_ENDPOINT", description="hub that is asked for a model's config and a data set's size; unset: huggingface.co"
    )
    hf_token: SecretStr | None = _env(
        "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", description="token of the hub, for what is shown to nobody without"
    )
    hf_hub_cache: Path | None = _env(
        "HF_HUB_CACHE", description="where the hub's library keeps models on this machine; unset: `hub` in HF_HOME"
    )
    hf_home: Path | None = _env("HF_HOME", description="folder of the hub's library; unset: ~/.cache/huggingface")
    hf_offline: bool = _env("HF_HUB_OFFLINE", default=False, description="don't ask the hub, as its own library has it")
    model_url: str | None = _env(
        "CARAVAN_MODEL_URL",
        description="base URL of an OpenAI-compatible server with a language model, ending in /v1; unset: rules alone",
        repr=False,
    )
    model_name: str | None = _env(
        "CARAVAN_MODEL", description="name of the model on that server; unset: the only one that it offers"
    )
    model_api_key: SecretStr | None = _env("CARAVAN_MODEL_API_KEY", description="key of the model's server")
    model_api_key_file: Path | None = _env(
        "CARAVAN_MODEL_API_KEY_FILE",
        description="file of its owner alone that holds that key, as `serve-model` writes it; where the key is unset",
    )
    model_cacert: Path | None = _env(
        "CARAVAN_MODEL_CACERT", description="CA certificate of the model's servers, where the public ones don't do"
    )
    model_window: int | None = _env(
        "CARAVAN_MODEL_WINDOW",
        ge=1024,
        description="tokens of the model's window, prompt and reply; unset: as the server says",
    )
    model_timeout_s: float = _env(
        "CARAVAN_MODEL_TIMEOUT_S",
        gt=0,
        allow_inf_nan=False,
        default=120.0,
        description="how long a reply of the model may take in all, in seconds",
    )
    model_run_tokens: int = _env(
        "CARAVAN_MODEL_RUN_TOKENS", ge=0, default=1_000_000, description="tokens of the model that one run may use"
    )
    model_step_tokens: int = _env(
        "CARAVAN_MODEL_STEP_TOKENS",
        ge=0,
        default=250_000,
        description="tokens of the model that one step of a run may use",
    )
    model_run_seconds: float = _env(
        "CARAVAN_MODEL_RUN_SECONDS",
        ge=0,
        allow_inf_nan=False,
        default=1800.0,
        description="how long one run may wait for the model in all, in seconds",
    )
    model_step_seconds: float = _env(
        "CARAVAN_MODEL_STEP_SECONDS",
        ge=0,
        allow_inf_nan=False,
        default=600.0,
        description="how long one step of a run may wait for the model, in seconds",
    )
    model_prompt_usd: float | None = _env(
        "CARAVAN_MODEL_PROMPT_USD",
        ge=0,
        allow_inf_nan=False,
        description="price of a million tokens of prompt, in US dollars; unset, as the next: the model costs nothing",
    )
    model_completion_usd: float | None = _env(
        "CARAVAN_MODEL_COMPLETION_USD",
        ge=0,
        allow_inf_nan=False,
        description="price of a million tokens of reply, in US dollars",
    )
    model_fallback_url: str | None = _env(
        "CARAVAN_MODEL_FALLBACK_URL",
        description="the same for a second model, asked when the first is down, slow or out of its window",
        repr=False,
    )
    model_fallback_name: str | None = _env(
        "CARAVAN_MODEL_FALLBACK", description="name of the second model; unset: the only one of its server"
    )
    model_fallback_api_key: SecretStr | None = _env(
        "CARAVAN_MODEL_FALLBACK_API_KEY", description="key of the second model's server"
    )
    langfuse_base_url: str | None = _env(
        "LANGFUSE_BASE_URL",
        "LANGFUSE_HOST",
        description="LangFuse's address; unset: nothing goes there, and prompts are those kept here or shipped",
        repr=False,
    )
    langfuse_public_key: SecretStr | None = _env(
        "LANGFUSE_PUBLIC_KEY", description="public key of the LangFuse project; without the address it is refused"
    )
    langfuse_secret_key: SecretStr | None = _env("LANGFUSE_SECRET_KEY", description="secret key of that project")
    langfuse_cacert: Path | None = _env(
        "CARAVAN_LANGFUSE_CACERT", description="CA certificate of LangFuse's server, where the public ones don't do"
    )
    langfuse_timeout_s: float = _env(
        "CARAVAN_LANGFUSE_TIMEOUT_S",
        gt=0,
        allow_inf_nan=False,
        default=10.0,
        description="how long LangFuse has for an answer to a command, in seconds; a run waits 1 s at most in all",
    )
    langfuse_prompts: bool = _env(
        "CARAVAN_LANGFUSE_PROMPTS", default=True, description="use the prompts that LangFuse has under the label"
    )
    prompt_label: str = _env(
        "CARAVAN_PROMPT_LABEL",
        default="production",
        pattern=r"^[a-z0-9][a-z0-9_.-]{0,35}$",
        description="label of the versions of prompts that are used, in LangFuse and of those kept here",
    )
    prompt_cache_s: float = _env(
        "CARAVAN_PROMPT_CACHE_S",
        ge=0,
        allow_inf_nan=False,
        default=300.0,
        description="how long a prompt that LangFuse gave is used without asking again, in seconds",
    )
    smoke: bool | None = _env(
        "CARAVAN_SMOKE", description="measure some steps before the rest of a job begins; unset: where it costs money"
    )
    memory: bool = _env("CARAVAN_MEMORY", default=True, description="use the long-term memory")
    memory_scope: Literal["tenant", "repository"] = _env(
        "CARAVAN_MEMORY_SCOPE",
        default="tenant",
        description="whom a run's lessons speak to: all runs of the tenant, or `repository`: its repository alone",
    )
    memory_starters: bool = _env("CARAVAN_MEMORY_STARTERS", default=True, description="know the shipped lessons")
    trace: bool = _env("CARAVAN_TRACE", default=True, description="write a local trace file for each run")
    langfuse_traces: bool = _env(
        "CARAVAN_LANGFUSE_TRACES", default=True, description="send the runs' traces to LangFuse, where it is set"
    )
    trace_content: bool = _env(
        "CARAVAN_TRACE_CONTENT",
        default=False,
        description="what the model is asked and answers goes into traces, to LangFuse too; masked, no tools' results",
    )

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        """The directory in full: jobs and later commands name it, and they run in other directories."""
        if not str(home).strip():
            raise ValueError("names no directory")
        try:
            return home.expanduser().absolute()
        except (RuntimeError, OSError) as error:  # ~nobody; a working directory that was removed
            raise ValueError(f"can't be found ({error})") from error

    @field_validator("model_url", "model_fallback_url", "langfuse_base_url", mode="after")
    @classmethod
    def _bare(cls, url: str | None) -> str | None:
        """An address without a key in it: settings are shown."""
        if url is not None and any(sign in url for sign in "@?#"):
            raise ValueError("holds a user name, a key or a query; keys are settings of their own")
        return url

    @field_validator("database_url", mode="after")
    @classmethod
    def _address(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            parse_database_url(url.get_secret_value())
        return url

    def database(self) -> DatabaseAddress | None:
        """Where the database is; None: in CARAVAN_HOME."""
        return parse_database_url(self.database_url.get_secret_value()) if self.database_url else None

    def secrets(self) -> tuple[str, ...]:
        """Values that may be written nowhere: those of the secret settings, and what the environment calls a secret."""
        values = (getattr(self, name) for name in type(self).model_fields if name != "database_url")
        own = (v.get_secret_value() for v in values if isinstance(v, SecretStr) and v.get_secret_value())
        database = self.database()
        passwords = database.secrets() if database else ()
        return tuple(dict.fromkeys((*own, *passwords, *secret_values(os.environ))))

    def user_name(self) -> str:
        """Whose runs these are: as the setting says, else the system's user; a number where that has no name."""
        if self.user:
            return self.user
        import pwd

        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a container may run under a number alone
            return f"uid-{os.getuid()}"

    def tenant_name(self) -> str:
        """Whose lessons these are."""
        return (self.tenant or "").strip() or self.user_name()

    def portable(self) -> dict[str, str]:
        """The settings that hold for an agent elsewhere too, by their variables: no paths, no connections, no secrets.

        Only those that the environment says; a value that holds a secret stays here.
        """
        found = {}
        if self.qdrant_url and mask(self.tenant_name(), self.secrets()) == self.tenant_name():
            found["CARAVAN_TENANT"] = self.tenant_name()  # an agent elsewhere runs as another user of its system
        lent = {"langfuse_base_url"} if self.langfuse_public_key and self.langfuse_secret_key else set()
        for name in (_PORTABLE | lent) & self.model_fields_set:  # LangFuse's keys are lent, its address goes with them
            value = getattr(self, name)
            text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
            if text and mask(text, self.secrets()) == text:
                found[_variable(type(self).model_fields[name])] = text
        return dict(sorted(found.items()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be told of settings that don't count."""
        return self._notes

    def origin(self, name: str) -> Origin:
        """Where a field's value is from."""
        return self._origins.get(name, DEFAULT)

    def beside(self, profile: BaseModel | None) -> Self:
        """The settings that count beside a cluster's profile: those of its own file, or of a lower one, don't.

        A profile speaks of one cluster, `[settings]` of all. Where a file that nobody trusted says a limit, the lower
        of both counts.
        """
        if profile is None:
            return self
        lost = [name for name, key in _IN_PROFILES.items() if self._gives_way(name, profile, key)]
        if not lost:
            return self
        fields = type(self).model_fields
        left = self.model_copy(update={name: fields[name].get_default() for name in lost})
        left.model_fields_set.difference_update(lost)
        return left

    def _gives_way(self, name: str, profile: BaseModel, key: str) -> bool:
        theirs, origin = getattr(profile, key, None), self.origin(name)
        if theirs in (None, {}) or origin.layer is Layer.DEFAULT or origin.layer >= Layer.ENVIRONMENT:
            return False
        if origin.tightens and name in LOWERED:
            return bool(theirs <= getattr(self, name))
        return origin.layer <= self._profiles_layer

    def names_cluster(self) -> bool:
        """Whether NOMAD_ADDR stands over `default_cluster`: it is not from its file, or from a lower one."""
        layer = self.origin("nomad_addr").layer
        return self.nomad_addr is not None and not Layer.DEFAULT < layer <= self._profiles_layer

    def rows(self) -> list[SettingRow]:
        """Each setting with its variable, its value (secrets masked), and where the value comes from."""
        rows = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            origin = self.origin(name)
            if name == "base_images":
                value = ", ".join(i.image for i in value) if value is not None else "those of docs/jobs.md"
            if name == "database_url":
                address = self.database()
                value = address.shown if address else None
            shown = MASK if isinstance(value, SecretStr) else "" if value is None else mask(str(value))
            rows.append(SettingRow(file_name(field), _variable(field), shown, origin.source, origin.place))
        return rows


_IN_PROFILES = {
    **{name: name for name in ("soft_limit_usd", "hard_limit_usd", "monthly_usd", "user_monthly_usd")},
    **{name: name for name in ("code_store", "data_store", "registry", "image", "base_images", "agent_image")},
    **{"hf_endpoint": "hf_endpoint", "usd_per_gpu_hour": "prices", "prices": "prices_file"},
    **{f"nomad_{name}": name for name in ("namespace", "region", "cacert", "capath", "client_cert", "client_key")},
    **{f"nomad_{name}": name for name in ("tls_server_name", "skip_verify")},
}
"""Setting → the key of a cluster profile that says the same for one cluster."""


def _variable(field: Any) -> str:
    return variables(field)[0]


def load_settings(
    found: Found | None = None, flags: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings of this process: of the files, the environment, and NAME=VALUE of the command line.

    `environment`: what stands over the files, in place of the process's. Raises UsageError naming the place of a value
    that can't be used.
    """
    files = found.files if found else ()
    fields = Settings.model_fields
    laid = lay(fields, files, os.environ if environment is None else environment, flags)
    try:
        settings = Settings(**{_variable(fields[name]): value for name, value in laid.values.items()})
    except ValidationError as error:
        raise _refused(error, laid.origins) from error
    settings._origins = laid.origins
    settings._notes = (*(found.notes if found else ()), *laid.notes)
    profiles = found.profiles() if found else None
    settings._profiles_layer = profiles.layer if profiles else Layer.DEFAULT
    if settings.model_api_key is None and settings.model_api_key_file is not None:
        return settings.model_copy(update={"model_api_key": SecretStr(_key_in(settings.model_api_key_file))})
    return settings


def _refused(error: ValidationError, origins: dict[str, Origin]) -> UsageError:
    """What is wrong, with the variable or the line that says so."""
    first = error.errors(include_input=False)[0]
    variable, why = str(first["loc"][0]), said(first["msg"])
    fields = Settings.model_fields
    name = next((name for name, field in fields.items() if variable in variables(field)), "")
    origin = origins.get(name, DEFAULT)
    if origin.source == "file":
        return UsageError(f"{origin.place}: [settings] {file_name(fields[name])}: {why}.", hint="Correct it there.")
    if origin.source == "flag":
        return UsageError(f"{origin.where}: {why}.", hint="Correct it.")
    return UsageError(f"{variable}: {why}.", hint="Correct this environment variable.")


def configured_file() -> Path | None:
    """The file that CARAVAN_CONFIG names."""
    named = next((value for key, value in os.environ.items() if key.upper() == "CARAVAN_CONFIG" and value), None)
    return Path(named) if named else None


def editor() -> str:
    """The command that opens a file for a person: VISUAL, EDITOR, else vi."""
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"


def _key_in(path: Path) -> str:
    """The key in a file. Raises UsageError where it can't be read, is empty, or others can read it."""
    try:
        mode = path.stat().st_mode
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not plain text"
        hint = "`main.py serve-model --status` names the file; CARAVAN_MODEL_API_KEY_FILE points to it."
        raise UsageError(f"The model's key file {path} can't be read ({reason}).", hint=hint) from error
    if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise UsageError(f"The model's key file {path} can be read or changed by others.", hint=f"chmod 600 {path}")
    if not key:
        raise UsageError(f"The model's key file {path} is empty.", hint="Take it anew: serve-model --key-file FILE.")
    return key


def environment_secrets() -> tuple[str, ...]:
    """What may be written nowhere where the environment makes no settings: all that their secret variables hold."""
    found = dict.fromkeys(secret_values(os.environ))
    for field in Settings.model_fields.values():
        if "SecretStr" in str(field.annotation):
            found |= dict.fromkeys(filter(None, (os.environ.get(name) for name in variables(field))))
    # A part of an address that is none may be the password, wherever it stands.
    parts = _SIGNS.split(os.environ.get("DATABASE_URL", ""))
    found |= dict.fromkeys(part for part in parts if len(part) > _SHORT and part not in _KINDS)
    return tuple(found)


def process_environment() -> dict[str, str]:
    """The environment of this process, for children that are given a chosen part of it."""
    return dict(os.environ)


def prepare_third_party_environment(home: Path) -> None:
    """Set what libraries read from the environment when they are imported; call it before any of them is.

    Mem0 sends telemetry and writes into the user's home directory unless told otherwise, and only the environment
    tells it. `home` is the state directory.
    """
    os.environ["MEM0_TELEMETRY"] = "False"
    os.environ["MEM0_DIR"] = str(home / "memory" / "mem0")
    # DSPy's parts: LiteLLM would fetch a list of prices when it is loaded, and DSPy keep a cache in the home directory.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["DSPY_CACHEDIR"] = str(home / "optimize" / "dspy")
    # LangGraph's runs would go to a vendor's tracing service if the user's shell asks for that; ours go nowhere.
    os.environ["LANGSMITH_TRACING"] = os.environ["LANGCHAIN_TRACING_V2"] = "false"
