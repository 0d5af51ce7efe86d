"""What is chosen for a cluster's GPUs, and what is said where nothing fits."""

import pytest

from caravan.planning.catalogue import CATALOGUE, gpu_named
from caravan.planning.serving_choice import Wish, choose, makes_fp8, named_model, runs_on, variants
from caravan.values.errors import UsageError
from caravan.values.job import ClusterFacts, DeviceGroup, HostVolume
from caravan.values.prices import Prices
from caravan.values.serving import ServeOptions, Weights
from tests.fakes.cluster import one_node


def cluster(*gpus: tuple[str, int], **node: object) -> ClusterFacts:
    """A Nomad cluster with a node for each type of GPU."""
    base = one_node(gpus=1, builtin=False)
    nodes = []
    for number, (model, count) in enumerate(gpus):
        known = gpu_named(model)
        memory = known.memory_mib if known else None
        vendor = known.vendor if known else "nvidia"
        device = DeviceGroup(vendor=vendor, type="gpu", model=model, count=count, memory_mib=memory)
        nodes.append(
            base.nodes[0].model_copy(update={"id": str(number), "name": f"n{number}", "devices": (device,), **node})
        )
    return base.model_copy(update={"nodes": tuple(nodes)})


@pytest.mark.parametrize(
    ("gpus", "repo", "count", "context"),
    [
        ((("NVIDIA H200", 1),), "Qwen/Qwen3-32B", 1, 32_768),
        ((("NVIDIA H100 80GB HBM3", 8),), "Qwen/Qwen3-32B-FP8", 1, 32_768),
        ((("NVIDIA A100-SXM4-80GB", 8),), "Qwen/Qwen3-32B-AWQ", 1, 32_768),
        ((("NVIDIA L4", 1),), "Qwen/Qwen3-14B-AWQ", 1, 32_768),
        ((("NVIDIA GeForce RTX 3060", 1),), "Qwen/Qwen3-4B-AWQ", 1, 32_768),
        ((("Tesla T4", 4),), "Qwen/Qwen3-32B-AWQ", 4, 32_768),  # one holds only 4 B: better four with the best
        ((("NVIDIA L4", 4), ("NVIDIA H100 80GB HBM3", 8)), "Qwen/Qwen3-32B-FP8", 1, 32_768),
    ],
)
def test_the_best_that_fits(gpus: tuple[tuple[str, int], ...], repo: str, count: int, context: int) -> None:
    found = choose(cluster(*gpus), Prices(), Wish())
    assert (found.fit.model.repo, found.fit.seat.gpus, found.options.context) == (repo, count, context)
    assert found.fit.memory.fits


def test_others_are_told_with_their_price() -> None:
    found = choose(cluster(("NVIDIA L4", 4), ("NVIDIA H100 80GB HBM3", 8)), Prices(), Wish())
    told = [(o.model.repo, o.seat.gpu_model, o.seat.usd_per_hour) for o in found.others]
    assert told[0] == ("Qwen/Qwen3-14B-AWQ", "NVIDIA L4", 0.44)


def test_a_shorter_context_is_tried_by_itself_and_only_then() -> None:
    small = cluster(("NVIDIA GeForce RTX 3080", 1))  # 10 GiB
    found = choose(small, Prices(), Wish())
    assert (found.fit.model.repo, found.options.context) == ("Qwen/Qwen3-4B-AWQ", 16_384)
    with pytest.raises(UsageError, match="does not fit"):
        choose(small, Prices(), Wish(options=ServeOptions(context=32_768)))


@pytest.mark.parametrize(
    ("wish", "said", "hint"),
    [
        (Wish(model=named_model("Qwen/Qwen3-32B", None)), "needs 30.3 GiB of 20.1 GiB", "Qwen/Qwen3-14B-AWQ"),
        (
            Wish(model=named_model("Qwen/Qwen3-8B", None), options=ServeOptions(context=131_072)),
            "was made for 40960 tokens",
            "--context 40960",
        ),
        (
            Wish(model=named_model("Qwen/Qwen3-8B", None), options=ServeOptions(context=40_960, weights=Weights.BF16)),
            "does not fit",
            "--context 9216",
        ),
        (Wish(gpus=2), "at most 1 are on one node", "--gpus 1"),
        (Wish(gpu_model="H100"), "No node has a H100 GPU", "NVIDIA GPUs"),
    ],
)
def test_what_does_not_fit_is_said_with_the_nearest_that_does(wish: Wish, said: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        choose(cluster(("NVIDIA L4", 1)), Prices(), wish)
    assert said in error.value.message
    assert hint in error.value.hint


def test_the_context_that_is_named_as_nearest_fits() -> None:
    wish = Wish(model=named_model("Qwen/Qwen3-8B", None), options=ServeOptions(context=9216, weights=Weights.BF16))
    assert choose(cluster(("NVIDIA L4", 1)), Prices(), wish).fit.memory.fits


def test_heads_that_can_not_be_shared_out() -> None:
    with pytest.raises(UsageError, match="can't be spread over 3 GPUs: its heads") as error:
        choose(cluster(("NVIDIA L4", 4)), Prices(), Wish(gpus=3, model=named_model("Qwen/Qwen3-8B", None)))
    assert error.value.hint == "Give --gpus 1 or 2 or 4."


def test_a_cluster_without_gpus_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="has no GPU that it tells of") as error:
        choose(one_node(builtin=False), Prices(), Wish())
    assert "CARAVAN_MODEL_URL" in error.value.hint


def test_gpus_of_another_maker_are_no_seats() -> None:
    with pytest.raises(UsageError, match="AMD Instinct MI300X"):
        choose(cluster(("AMD Instinct MI300X", 8)), Prices(), Wish())


def test_gpus_that_are_too_old() -> None:
    with pytest.raises(UsageError, match="runs weights in"):
        choose(cluster(("Tesla V100-SXM2-32GB", 8)), Prices(), Wish())


@pytest.mark.parametrize(
    "gpu",
    [
        "Tesla V100S-PCIE-32GB",
        "Quadro GV100",
        "NVIDIA TITAN V",
        "NVIDIA TITAN Xp",
        "Tesla M60",
        "Tesla K80",
        "Quadro P6000",
        "Tesla P100-PCIE-16GB",
        "NVIDIA GeForce GTX 1080 Ti",
    ],
)
def test_old_ones_run_nothing(gpu: str) -> None:
    assert not any(runs_on(gpu, kind) for kind in Weights)


@pytest.mark.parametrize("gpu", ["NVIDIA TITAN RTX", "Tesla T4", "NVIDIA A10G", "NVIDIA RTX A4000"])
def test_names_that_are_like_old_ones_do(gpu: str) -> None:
    assert runs_on(gpu, Weights.AWQ)


def test_what_fits_into_an_unknown_memory_is_not_guessed() -> None:
    with pytest.raises(UsageError, match="How much memory NVIDIA X9000 has is not known") as error:
        choose(cluster(("NVIDIA X9000", 8)), Prices(), Wish())
    assert "Name a model" in error.value.hint
    named = Wish(model=named_model("Qwen/Qwen3-14B-AWQ", None))
    assert choose(cluster(("NVIDIA X9000", 8)), Prices(), named).fit.seat.gpu_model == "NVIDIA X9000"


@pytest.mark.parametrize("model", [None, "Qwen/Qwen3-14B-AWQ"])
def test_gpus_of_a_known_memory_go_first(model: str | None) -> None:
    wish = Wish(model=named_model(model, None) if model else None)
    found = choose(cluster(("NVIDIA X9000", 8), ("NVIDIA L4", 1)), Prices(), wish)
    assert (found.fit.seat.gpu_model, found.fit.model.repo) == ("NVIDIA L4", "Qwen/Qwen3-14B-AWQ")
    assert all(o.memory.budget is not None for o in found.others) or model


def test_only_nodes_with_the_volume_count() -> None:
    facts = cluster(("NVIDIA L4", 1), ("NVIDIA H200", 1))
    nodes = (facts.nodes[0].model_copy(update={"host_volumes": {"models": HostVolume()}}), facts.nodes[1])
    found = choose(facts.model_copy(update={"nodes": nodes}), Prices(), Wish(volume="models"))
    assert found.fit.seat.gpu_model == "NVIDIA L4"


def test_only_nodes_that_take_work_in_that_pool_count() -> None:
    facts = cluster(("NVIDIA L4", 1), node_pool="gpu")
    assert choose(facts, Prices(), Wish(node_pool="gpu")).fit.seat.gpu_model == "NVIDIA L4"
    with pytest.raises(UsageError, match="No node has a NVIDIA GPU"):
        choose(facts, Prices(), Wish())
    gone = facts.model_copy(update={"nodes": (facts.nodes[0].model_copy(update={"eligible": False}),)})
    with pytest.raises(UsageError):
        choose(gone, Prices(), Wish(node_pool="gpu"))


def test_models_by_their_names() -> None:
    assert named_model("Qwen/Qwen3-14B-AWQ", None).weights is Weights.AWQ
    assert named_model("Qwen/Qwen3-14B", Weights.FP8).weights is Weights.FP8
    with pytest.raises(UsageError, match="is not known") as error:
        named_model("nobody/knows", None)
    assert "Qwen/Qwen3-" in error.value.hint
    with pytest.raises(UsageError, match="no model to talk to"):
        named_model("google/vit-base-patch16-224", None)


def test_checkpoints_that_are_published_are_taken() -> None:
    plain = named_model("Qwen/Qwen3-14B", None)
    assert [m.repo for m in variants(plain, Weights.FP8)] == ["Qwen/Qwen3-14B-FP8"]
    own = named_model("Qwen/Qwen2.5-7B-Instruct", None)
    made = variants(own, Weights.FP8)[0]
    assert (made.repo, makes_fp8(made)) == ("Qwen/Qwen2.5-7B-Instruct", True)
    assert not makes_fp8(variants(plain, Weights.FP8)[0])
    with pytest.raises(UsageError, match="No AWQ checkpoint"):
        variants(own, Weights.AWQ)


@pytest.mark.parametrize("gpu", [g.name for g in CATALOGUE if g.vendor == "nvidia"])
def test_a_gpu_knows_one_kind_of_16_bit(gpu: str) -> None:
    kinds = {w for w in Weights if runs_on(gpu, w)}
    assert not {Weights.BF16, Weights.FP16} <= kinds
    assert not kinds or Weights.AWQ in kinds


@pytest.mark.parametrize(
    "gpu",
    [
        "NVIDIA H100 80GB HBM3",
        "NVIDIA L4",
        "NVIDIA B100",
        "NVIDIA B200",
        "NVIDIA GB10",
        "NVIDIA GB300",
        "NVIDIA GH200 480GB",
        "NVIDIA RTX PRO 4500 Blackwell",
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        "NVIDIA RTX 6000 Ada Generation",
        "NVIDIA GeForce RTX 4090",
        "NVIDIA GeForce RTX 4090 D",
    ],
)
def test_gpus_that_compute_in_8_bit(gpu: str) -> None:
    assert runs_on(gpu, Weights.FP8)


@pytest.mark.parametrize("gpu", ["NVIDIA A100-SXM4-80GB", "Tesla T4", "NVIDIA GeForce RTX 3090", "NVIDIA L99"])
def test_gpus_that_do_not(gpu: str) -> None:
    assert not runs_on(gpu, Weights.FP8)
