"""Which files are never read and never delivered, because they tend to hold secrets. Pure: judges paths by name alone.

It must not know what is inside a file; masking of what is read is `caravan.values.masking`.
"""

import re
from fnmatch import translate
from functools import cache
from typing import Final

_DIRECTORIES: Final = frozenset(
    {".git", ".hg", ".svn", ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".gcloud", ".docker", ".vault", ".secrets"}
)
_NAMES: Final = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".npmrc", ".yarnrc", ".pypirc", ".pgpass", ".my.cnf"),
    *(".git-credentials", ".gitcookies", ".htpasswd", ".dockercfg", ".vault-token", ".terraformrc", "*.tfstate*"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore"),
    *("*.kdbx", "*.gpg", "*.ppk", "*.ovpn", "kaggle.json", "client_secret*.json", "service[-_]account*.json"),
    *("application_default_credentials.json", "hf_token*", ".token", "token.txt", "*_token.txt", "*.token"),
)
_HOLDERS: Final = ("credential", "credentials", "secret", "secrets", "passwords", "api_keys", "apikeys")
_HOLDER_ENDINGS: Final = frozenset({"", "json", "yaml", "yml", "toml", "ini", "cfg", "conf", "txt", "csv"})
_TEMPLATES: Final = (".example", ".sample", ".template", ".dist", ".tmpl")


def is_denied(path: str) -> bool:
    """Whether the file at `path` (relative, with slashes) is on the deny list.

    Templates of environment files (`.env.example`) are not: they name the variables and hold no values.
    """
    *parents, name = path.lower().split("/")
    if any(p in _DIRECTORIES for p in (*parents, name)):
        return True
    if name.startswith((".env", "env")) and name.endswith(_TEMPLATES):
        return False
    if _names().match(name):
        return True
    stem, _, ending = name.lstrip(".").partition(".")
    return stem in _HOLDERS and ending in _HOLDER_ENDINGS


@cache
def _names() -> re.Pattern[str]:
    """All patterns as one: the question is asked for every file of a repository, several times."""
    return re.compile("|".join(translate(pattern) for pattern in _NAMES))
