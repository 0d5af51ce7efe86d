"""A run whose model no table knows: the hub's config sizes it, and a hub that says nothing stops nobody."""

from pathlib import Path

from tests.agent.test_loop import World
from tests.fakes.hub import FakeHub, HubContent

CONFIG = {
    **{"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32},
    **{"num_key_value_heads": 4, "intermediate_size": 5632, "vocab_size": 32000, "max_position_embeddings": 512},
}
HUB = HubContent(models={"acme/odd-one": (CONFIG, 1_100_048_384)}, datasets={"acme/talks": {"train": 900, "test": 9}})
SETS = {"model.id": "acme/odd-one", "dataset.path": "acme/talks", "resources.gpus": 1, "training.max_len": 1024}


def test_the_hub_sizes_a_model_that_no_table_knows(tmp_path: Path) -> None:
    world, hub = World(tmp_path, gpus=1), FakeHub(HUB)
    record = world.start(answers=SETS)
    world.drive(record, hub=hub)
    estimate = world.state(record).estimate
    assert estimate.shape.params_b == 1.100048
    assert estimate.gpu_memory_gib
    assert "shape of the model: config.json of acme/odd-one on the hub" in estimate.assumptions
    assert any("1024 tokens is longer than the 512" in said for said in estimate.assumptions)
    assert hub.asked == ["acme/odd-one", "acme/talks"]
    assert world.state(record).profile.datasets_on_hub[0].splits[0].rows == 900


def test_a_hub_that_knows_nothing_stops_nobody(tmp_path: Path) -> None:
    world, hub = World(tmp_path, gpus=1), FakeHub(HubContent())
    record = world.start(answers=SETS)
    world.drive(record, hub=hub)
    said = world.state(record).estimate.assumptions
    assert any("the shape of acme/odd-one isn't known (there is none" in s for s in said)
    assert any("name a model by its hub id" in s for s in said)


def test_without_gpus_and_without_a_hub_nobody_is_asked(tmp_path: Path) -> None:
    world, hub = World(tmp_path), FakeHub(HUB)
    record = world.start(answers={**SETS, "resources.gpus": 0})
    world.drive(record, hub=hub)
    assert world.state(record).estimate is not None
    assert hub.asked == []
