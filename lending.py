"""What an agent on the cluster is given of this machine's settings, and the secrets that it is lent, by name.

Values of secrets go to the cluster's variables alone. How a cluster is spoken to is not known here.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from caravan.values.handover import AgentPlace
from caravan.values.target import Site
from config import Settings

_TOKEN: Final = "NOMAD_TOKEN"
_ONLY_WITH: Final = {"LANGFUSE_BASE_URL": ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")}
"""An address without its keys is refused: an agent without them works without LangFuse."""


def find_place(settings: Settings, site: Site | None, secrets: Mapping[str, str], *, built_in: str = "") -> AgentPlace:
    """Where and how an agent works on the cluster. `secrets` are those that `secrets_to_lend` found.

    `built_in`: the address of the built-in cluster, where that is meant. It gives tasks no way to itself.
    """
    profile = site.profile if site else None
    settings = settings.beside(profile)
    return AgentPlace(
        program=(sys.executable, str(Path(__file__).resolve().parent / "main.py")),
        image=settings.agent_image or (profile.agent_image if profile else None),
        volume=profile.agent_volume if profile else None,
        address=built_in,
        env=settings.portable(),
        lends=tuple(secrets),
        only_with=_ONLY_WITH,
        needs_token=bool(built_in),
    )


def secrets_to_lend(settings: Settings, token: str | None) -> dict[str, str]:
    """The secrets that an agent works with, as far as they are set here. `token`: the one in use on the cluster."""
    found = {
        _TOKEN: token,
        "CARAVAN_NOTIFY_URL": settings.notify_url.get_secret_value() if settings.notify_url else None,
        "QDRANT_API_KEY": settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None,
    }
    if settings.langfuse_base_url and settings.langfuse_public_key and settings.langfuse_secret_key:
        found["LANGFUSE_PUBLIC_KEY"] = settings.langfuse_public_key.get_secret_value()
        found["LANGFUSE_SECRET_KEY"] = settings.langfuse_secret_key.get_secret_value()
    return {name: value for name, value in found.items() if value}
