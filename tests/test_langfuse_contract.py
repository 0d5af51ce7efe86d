"""The stand-in for LangFuse held to LangFuse's own library: what that sends is understood, what comes back it reads."""

from collections.abc import Iterator
from typing import Any

import pytest

from langfuse_client import LangfuseClient
from tests.fakes.langfuse_server import PUBLIC_KEY, SECRET_KEY, LangfuseServer

CHAT = [
    {"role": "user", "content": "given"},
    {"role": "assistant", "content": "{}"},
    {"role": "user", "content": "{{a}}"},
]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def server() -> Iterator[LangfuseServer]:
    with LangfuseServer() as running:
        yield running


@pytest.fixture
def library(server: LangfuseServer) -> Iterator[Any]:
    module = pytest.importorskip("langfuse.api.client")
    import httpx

    with httpx.Client() as client:
        yield module.LangfuseAPI(base_url=server.url, username=PUBLIC_KEY, password=SECRET_KEY, httpx_client=client)


def test_prompts_that_we_push_the_library_reads(server: LangfuseServer, library: Any) -> None:
    client = LangfuseClient(server.access())
    client.create_prompt("caravan-plan", "text {{a}}", labels=["production"], tags=["caravan"], config={"x": 1})
    client.create_prompt("caravan-repair", CHAT, labels=["production"])
    client.close()
    text, chat = library.prompts.get("caravan-plan"), library.prompts.get("caravan-repair", label="production")
    assert (text.type, text.prompt, text.version, text.config) == ("text", "text {{a}}", 1, {"x": 1})
    assert (chat.type, [(m.role, m.content) for m in chat.prompt]) == (
        "chat",
        [(m["role"], m["content"]) for m in CHAT],
    )
    assert [(row.name, row.versions) for row in library.prompts.list(label="production").data] == [
        ("caravan-plan", [1]),
        ("caravan-repair", [1]),
    ]


def test_prompts_that_the_library_pushes_we_read(server: LangfuseServer, library: Any) -> None:
    from langfuse.api.prompts.types import CreateChatPromptRequest, CreateTextPromptRequest

    library.prompts.create(
        request=CreateTextPromptRequest(name="caravan-plan", prompt="x {{a}}", labels=["production"])
    )
    library.prompts.create(request=CreateChatPromptRequest(name="caravan-repair", prompt=CHAT, type="chat"))
    library.prompt_version.update("caravan-repair", 1, new_labels=["production"])
    client = LangfuseClient(server.access())
    text, chat = client.prompt("caravan-plan", label="production"), client.prompt("caravan-repair", label="production")
    client.close()
    assert text is not None
    assert chat is not None
    assert text.content == "x {{a}}"
    assert isinstance(chat.content, tuple)
    assert [(m["role"], m["content"]) for m in chat.content] == [(m["role"], m["content"]) for m in CHAT]


def test_datasets_and_scores_mean_the_same(server: LangfuseServer, library: Any) -> None:
    from langfuse.api.scores.types import CreateScoreRequest

    client = LangfuseClient(server.access())
    client.create_dataset("failures", description="x", metadata={"a": 1})
    client.put_dataset_item("failures", {"id": "i1", "input": {"log": "x"}, "expectedOutput": {"class": "cuda_oom"}})
    client.close()
    assert library.datasets.get("failures").metadata == {"a": 1}
    (item,) = library.dataset_items.list(dataset_name="failures").data
    assert (item.id, item.input, item.expected_output) == ("i1", {"log": "x"}, {"class": "cuda_oom"})
    library.scores.create(request=[CreateScoreRequest(id="s", name="fixed", value=1.0, trace_id="t")])
    assert server.kept.scores["s"]["traceId"] == "t"
    assert library.projects.get().data[0].name == "fine-tunes"
    assert library.health.health().version == "3.99.0"


def test_spans_of_the_usual_exporter_are_understood(server: LangfuseServer) -> None:
    exporter = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    headers = {"Authorization": server.access().authorization()}
    endpoint = f"{server.url}/api/public/otel/v1/traces"
    provider = TracerProvider()
    provider.add_span_processor(
        SimpleSpanProcessor(exporter.OTLPSpanExporter(endpoint, headers=headers, compression=Compression.Gzip))
    )
    with provider.get_tracer("t").start_as_current_span("outer") as outer:
        outer.set_attribute("langfuse.observation.type", "span")
        with provider.get_tracer("t").start_as_current_span("inner") as inner:
            inner.set_attribute("tokens", [1, 2])
    provider.shutdown()
    ((trace_id, spans),) = server.kept.traces().items()
    (root,) = server.kept.children(trace_id)
    assert (root.name, root.attributes["langfuse.observation.type"]) == ("outer", "span")
    assert [s.name for s in server.kept.children(trace_id, root.span_id)] == ["inner"]
    assert spans[1].attributes["tokens"] == [1, 2]
