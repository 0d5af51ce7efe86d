"""Which files are never read and never delivered, because they tend to hold secrets. Pure: judges paths by name alone.

It must not know what is inside a file; masking of what is read is `caravan.values.masking`.
"""

import re
from collections.abc import Iterator
from fnmatch import translate
from functools import cache
from typing import Final

_DIRECTORIES: Final = frozenset(
    {
        *(".git", ".hg", ".svn", ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".gcloud", ".docker", ".vault"),
        *(".secrets", ".envs"),
    }
)
_NAMES: Final = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".npmrc", ".yarnrc", ".pypirc", ".pgpass", ".my.cnf"),
    *(".git-credentials", ".gitcookies", ".htpasswd", ".dockercfg", ".vault-token", ".terraformrc", "*.tfstate*"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore"),
    *("*_rsa", "*_ecdsa", "*_ed25519", "deploy_dsa", "deploy_key", "*.tfvars", "*.tfvars.json", "*.kubeconfig"),
    *("*.kdbx", "*.gpg", "*.ppk", "*.ovpn", "kaggle.json", "client_secret*.json", "*service[-_]account*.json"),
    *("application_default_credentials.json", "*firebase-adminsdk*.json", "hf_token*", ".token", "token.txt"),
    *("*_token.txt", "*.token", ".*[-_]token", "stored_tokens", "auth.json", "token.json"),
    *("gcp[-_]key*.json", "gcloud[-_]key*.json", "google[-_]key*.json", "sa[-_]key*.json"),
    *(".s3cfg", ".boto", "rclone.conf", ".rclone.conf", "kubeconfig", "kubeconfig.y*ml", ".databrickscfg"),
    *(".modal.toml", "pip.conf", "pip.ini", ".condarc", ".*_history", ".*_hist", ".history", ".lesshst", ".viminfo"),
    "fish_history",
)
# `token` alone is a word of every tokenizer: it is a secret where Hugging Face keeps its own.
_PLACES: Final = re.compile(r"(?:^|/)(?:\.?huggingface/(?:token|stored_tokens)|\.config/gcloud/.*|\.config/gcloud)$")
_HOLDERS: Final = ("credential", "credentials", "secret", "secrets", "passwords", "api_keys", "apikeys")
_HOLDER: Final = re.compile(
    r"(?:[a-z0-9]+_)*(?:api|secret|access|private)_?keys?|(?:wandb|openai|hf|aws|gcp|azure|comet|neptune|ssh|deploy)_key"
    r"|(?:[a-z0-9]+_)*vault_pass(?:word)?|passwords?|passwd"
)
_HOLDER_ENDINGS: Final = frozenset({"", "json", "yaml", "yml", "toml", "ini", "cfg", "conf", "txt", "csv"})
_TEMPLATES: Final = (".example", ".sample", ".template", ".dist", ".tmpl")
_BACKUPS: Final = ("~", ".bak", ".backup", ".old", ".orig", ".save", ".swp", ".swo")
_SUSPECTS: Final = frozenset({"secrets.py", "secret.py", "credentials.py", "tokens.json"})


def is_denied(path: str) -> bool:
    """Whether the file at `path` (relative, with slashes) is on the deny list, also as an editor's or tool's backup.

    Templates of environment files (`.env.example`) are not: they name the variables and hold no values. Neither is
    what a training needs under a similar name: `tokenizer.json`, `tokens.txt`, `special_tokens_map.json`; what may be
    either is for `is_suspect`.
    """
    *parents, name = path.lower().split("/")
    return any(_is_denied(parents, each) for each in _without_backups(name))


def is_suspect(path: str) -> bool:
    """Whether the file at `path` is delivered although its name may promise secrets: a person is to look at it.

    `secrets.py` is code that is imported; `tokens.json` is a vocabulary or a list more often than it is a secret.
    """
    return path.lower().rpartition("/")[2] in _SUSPECTS


def _without_backups(name: str) -> Iterator[str]:
    """The name, and what it is a backup of: `.env~` is of `.env`, vim's `..env.swp` too."""
    yield name
    while ending := next((e for e in _BACKUPS if name.endswith(e) and len(name) > len(e)), ""):
        name = name.removesuffix(ending)
        yield name
        if ending in (".swp", ".swo") and name.startswith("."):
            yield name[1:]


def _is_denied(parents: list[str], name: str) -> bool:
    if any(p in _DIRECTORIES for p in (*parents, name)) or _PLACES.search("/".join((*parents, name))):
        return True
    if name.startswith((".env", "env")) and name.endswith(_TEMPLATES):
        return False
    if _names().match(name):
        return True
    stem, _, ending = name.lstrip(".").partition(".")
    if ending not in _HOLDER_ENDINGS:
        return False
    return stem in _HOLDERS or _HOLDER.fullmatch(stem.replace("-", "_")) is not None


@cache
def _names() -> re.Pattern[str]:
    """All patterns as one: the question is asked for every file of a repository, several times."""
    return re.compile("|".join(translate(pattern) for pattern in _NAMES))
