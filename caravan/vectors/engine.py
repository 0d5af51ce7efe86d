"""Opening Mem0 over Qdrant, embedded or on a server, without telemetry, downloads or a language model.

It knows nothing of lessons. Before Mem0 is imported, `config.prepare_third_party_environment` must have been called:
Mem0 reads its settings from the environment on import.
"""

import functools
import logging
import pickle
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from caravan.values.errors import ServiceError

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

COLLECTION: Final = "lessons"
DIMENSION: Final = 256  # of the embedding model that wordllama's package brings

FOREIGN: Final = (
    ArithmeticError,
    AttributeError,
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


class InUse(Exception):
    """Another process holds the embedded store."""


def library_errors() -> tuple[type[Exception], ...]:
    """The exceptions of Mem0, Qdrant and httpx that are not built-in ones. By now they are imported, or nothing is."""
    from httpx import HTTPError, InvalidURL
    from mem0.exceptions import MemoryError as Mem0Error
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    return HTTPError, InvalidURL, Mem0Error, ApiException, QdrantException


def open_engine(path: Path | None, url: str | None, api_key: str | None, timeout_s: int) -> Any:
    """An open Mem0 without telemetry and without a language model that could be called."""
    with _quiet_imports():
        from langchain_core.language_models.fake_chat_models import FakeListChatModel
        from mem0 import Memory
        from mem0.memory import telemetry
    if telemetry.MEM0_TELEMETRY:
        raise ServiceError("Mem0 was imported with its telemetry on.", hint="CARAVAN_MEMORY=0 goes on without it.")
    vectors: dict[str, Any] = {"collection_name": COLLECTION, "embedding_model_dims": DIMENSION, "path": str(path)}
    if url is not None:
        vectors["client"] = _server(url, api_key, timeout_s)  # then the path, which Mem0 insists on, is not used
    else:
        vectors["on_disk"] = True
    config = {
        "vector_store": {"provider": "qdrant", "config": vectors},
        "embedder": {"provider": "langchain", "config": {"model": _embeddings(), "embedding_dims": DIMENSION}},
        # Mem0 wants a model even where none is used (infer=False); this one can't answer.
        "llm": {"provider": "langchain", "config": {"model": FakeListChatModel(responses=[])}},
        "history_db_path": ":memory:",  # a file would keep the texts of forgotten lessons
    }
    return Memory.from_config(config)


def _server(url: str, api_key: str | None, timeout_s: int) -> Any:
    from qdrant_client import QdrantClient

    with warnings.catch_warnings():
        # A key over plain http is the user's decision (QDRANT_URL), and a warning here would stand amid the results.
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
        return QdrantClient(url=url, api_key=api_key, timeout=timeout_s, check_compatibility=False)


def locked(path: Path) -> IO[str]:
    """The embedded store's lock, held while the file that comes back is open. Raises InUse.

    Qdrant has a lock of its own, but reads the points before it takes it: what another process adds meanwhile would
    be missing here.
    """
    import portalocker

    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (path / "owner.lock").open("a", encoding="utf-8")
    try:
        portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.exceptions.LockException as error:
        file.close()
        raise InUse from error
    return file


def release(engine: Any, lock: IO[str] | None) -> None:
    """Close an engine and let go of its lock."""
    engine.close()
    engine.vector_store.client.close()  # Mem0's own close leaves it open
    if lock is not None:
        lock.close()


@functools.cache
def _embeddings() -> "Embeddings":
    """Sentence embeddings from wordllama's own package folder: no download, 0.05 ms each."""
    with _quiet_imports():
        import wordllama
        from langchain_core.embeddings import Embeddings

    model = wordllama.WordLlama.load(dim=DIMENSION, cache_dir=Path(wordllama.__file__).parent, disable_download=True)

    class BundledEmbeddings(Embeddings):
        """LangChain's face of the bundled model."""

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            vectors: list[list[float]] = model.embed(texts).tolist()
            return vectors

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

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


def scrub(path: Path) -> None:
    """Overwrite what a deletion left in the embedded store's file."""
    with closing(sqlite3.connect(path / "collection" / COLLECTION / "storage.sqlite")) as file:
        file.execute("VACUUM")


def likeness(query: str, texts: Sequence[str]) -> list[float]:
    """The cosine between a text and each of the others, -1 to 1, by the embedder that the store uses."""
    if not texts:
        return []
    import numpy as np

    vectors = np.asarray(_embeddings().embed_documents([query, *texts]), dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    vectors /= np.where(lengths > 0, lengths, 1.0)[:, None]
    return [float(cosine) for cosine in vectors[1:] @ vectors[0]]
