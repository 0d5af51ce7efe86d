"""Opening Mem0 over Qdrant, embedded or on a server, without telemetry, downloads or a language model.

It knows nothing of lessons. Before Mem0 is imported, `config.prepare_third_party_environment` must have been called:
Mem0 reads its settings from the environment on import.
"""

import functools
import logging
import pickle
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from caravan.values.errors import ServiceError
from caravan.vectors.shard import DIMENSION, FIELDS, EngineError

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from caravan.vectors.shared import SharedShard

COLLECTION: Final = "lessons"
_EMBEDDED: Final = "qdrant_edge"  # our provider's name in Mem0's factory

FOREIGN: Final = (
    ArithmeticError,
    AttributeError,
    EngineError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.PickleError,
    sqlite3.Error,
)
"""What Mem0, Qdrant's embedded store and the HTTP client raise for a broken, locked or unreachable store, beside their
own exceptions: pickled points and SQLite files that are damaged may raise nearly anything of these."""


def library_errors() -> tuple[type[Exception], ...]:
    """The exceptions of Mem0, Qdrant and httpx that are not built-in ones. By now they are imported, or nothing is."""
    from httpx import HTTPError, InvalidURL
    from mem0.exceptions import MemoryError as Mem0Error
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    return HTTPError, InvalidURL, Mem0Error, ApiException, QdrantException


def open_engine(shared: "SharedShard | None", url: str | None, api_key: str | None, timeout_s: int) -> Any:
    """An open Mem0 without telemetry and without a language model that could be called."""
    with _quiet_imports():
        from langchain_core.language_models.fake_chat_models import FakeListChatModel
        from mem0 import Memory
        from mem0.configs.base import MemoryConfig
        from mem0.memory import telemetry
    if telemetry.MEM0_TELEMETRY:
        raise ServiceError("Mem0 was imported with its telemetry on.", hint="CARAVAN_MEMORY=0 goes on without it.")
    settings = {
        "embedder": {"provider": "langchain", "config": {"model": _embeddings(), "embedding_dims": DIMENSION}},
        # Mem0 wants a model even where none is used (infer=False); this one can't answer.
        "llm": {"provider": "langchain", "config": {"model": FakeListChatModel(responses=[])}},
        "history_db_path": ":memory:",  # a file would keep the texts of forgotten lessons
    }
    if url is None:
        config = MemoryConfig(**settings)
        config.vector_store = _embedded(shared)
        return Memory(config)
    client = _server(url, api_key, timeout_s)
    vectors = {"collection_name": COLLECTION, "embedding_model_dims": DIMENSION, "client": client}
    vectors["path"] = "unused"  # Mem0 insists on one
    engine = Memory(MemoryConfig(vector_store={"provider": "qdrant", "config": vectors}, **settings))
    _check_dimension(client)
    for field in FIELDS[1:]:  # Mem0 makes that of the user
        client.create_payload_index(COLLECTION, field, field_schema="keyword")
    return engine


def _embedded(shared: "SharedShard | None") -> Any:
    """The configuration of a vector store of ours. Mem0's factory makes it; only its list of names is closed."""
    from types import SimpleNamespace

    from mem0.utils.factory import VectorStoreFactory
    from mem0.vector_stores.configs import VectorStoreConfig

    VectorStoreFactory.provider_to_class[_EMBEDDED] = "caravan.vectors.provider.EmbeddedStore"
    config = {"collection_name": COLLECTION, "shared": shared}
    made = SimpleNamespace(**config, model_dump=lambda: config)
    return VectorStoreConfig.model_construct(provider=_EMBEDDED, config=made)


def _check_dimension(client: Any) -> None:
    """Raises ServiceError where the server's collection holds vectors of another length."""
    vectors = client.get_collection(COLLECTION).config.params.vectors
    size = getattr(vectors, "size", None)
    if size != DIMENSION:
        raise ServiceError(
            f"The collection {COLLECTION!r} on the Qdrant server holds vectors of {size or 'another kind'}, "
            f"not of {DIMENSION}: it is not Caravan's.",
            hint="Use another server, or rename that collection. CARAVAN_MEMORY=0 goes on without memory.",
        )


def _server(url: str, api_key: str | None, timeout_s: int) -> Any:
    from qdrant_client import QdrantClient

    with warnings.catch_warnings():
        # A key over plain http is the user's decision (QDRANT_URL), and a warning here would stand amid the results.
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
        return QdrantClient(url=url, api_key=api_key, timeout=timeout_s, check_compatibility=False)


def release(engine: Any, shared: "SharedShard | None") -> None:
    """Close an engine, and let go of its store."""
    engine.close()
    if shared is not None:
        shared.close()
    else:
        engine.vector_store.client.close()  # Mem0's own close leaves it open


@functools.cache
def _embeddings() -> "Embeddings":
    """Sentence embeddings from wordllama's own package folder: no download, 0.05 ms each."""
    with _quiet_imports():
        import wordllama
        from langchain_core.embeddings import Embeddings

    model = wordllama.WordLlama.load(dim=DIMENSION, cache_dir=Path(wordllama.__file__).parent, disable_download=True)

    @functools.lru_cache(maxsize=64)  # one recall asks several questions with the same words
    def embedded(text: str) -> tuple[float, ...]:
        return tuple(model.embed([text])[0].tolist())

    class BundledEmbeddings(Embeddings):
        """LangChain's face of the bundled model."""

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            vectors: list[list[float]] = model.embed(texts).tolist()
            return vectors

        def embed_query(self, text: str) -> list[float]:
            return [*embedded(text)]

    return BundledEmbeddings()


@contextmanager
def _quiet_imports() -> Iterator[None]:
    """Keep wordllama from configuring the root logger on import, and Mem0 from advertising its extras."""
    logging.getLogger("mem0").setLevel(logging.ERROR)
    root, placeholder = logging.getLogger(), logging.NullHandler()
    root.addHandler(placeholder)  # with a handler in place, logging.basicConfig does nothing
    try:
        yield
    finally:
        root.removeHandler(placeholder)
