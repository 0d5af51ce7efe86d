"""Sentences as users write them, in several languages: the fields that each sets, and what is said back of the rest."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caravan.planning.prompt_reading import FIELDS, read_prompt, read_sentence, said_paths
from caravan.planning.replies import hear
from caravan.values.base import Json
from caravan.values.plan import Author, TrainingPlan, apply_changes

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=timezone(timedelta(hours=1)))  # a Sunday afternoon
HOUR = 3600
SHORT = {
    "gpus": "resources.gpus",
    "type": "resources.gpu_model",
    "vram": "resources.gpu_memory_mib",
    "nodes": "launch.nodes",
    "usd": "limits.max_cost_usd",
    "run": "limits.max_run_s",
    "model": "model.id",
}

SENTENCES: tuple[tuple[str, dict[str, Json]], ...] = (
    ("two A100s, keep it under 50 dollars, tonight", {"gpus": 2, "type": "A100", "usd": 50, "run": 18 * HOUR}),
    (
        "Fine-tune Qwen/Qwen2.5-7B-Instruct with LoRA on my data for three epochs, lr 2e-4",
        {"model": "Qwen/Qwen2.5-7B-Instruct", "method": "lora", "epochs": 3, "lr": 2e-4},
    ),
    (
        "use 8x H100 80GB, no more than $200, must be done by tomorrow 9am",
        {"gpus": 8, "type": "H100 80GB", "usd": 200, "run": 19 * HOUR},
    ),
    ("as cheap as possible please", {}),
    ("I want a full fine-tune, no LoRA, on one GPU", {"method": "full", "gpus": 1}),
    (
        "QLoRA, batch size four, gradient accumulation of 8, for half a day at most",
        {"method": "qlora", "micro_batch": 4, "grad_accum": 8, "run": 12 * HOUR},
    ),
    ("don't use H100s, anything else is fine", {}),
    ("not more than 2 GPUs and not longer than 3 hours", {"gpus": 2, "run": 3 * HOUR}),
    ("2-4 GPUs, whatever is free", {"gpus": 2}),
    ("between 2 and 4 GPUs, between 20 and 30 dollars", {"gpus": 2, "usd": 30}),
    ("train for 2 or 3 epochs", {"epochs": 2}),
    ("use LoRA... no wait, full fine-tuning", {"method": "full"}),
    ("no GPU please, this is tiny", {"gpus": 0}),
    (
        "Nimm zwei A100, höchstens fünfzig Euro, bis morgen früh um 8 Uhr",
        {"gpus": 2, "type": "A100", "usd": 47.5, "run": 18 * HOUR},
    ),
    ("Bitte mit LoRA trainieren, drei Epochen, ohne H100", {"method": "lora", "epochs": 3}),
    ("eineinhalb Stunden auf vier Grafikkarten, Lernrate 0,0001", {"run": 5400, "gpus": 4, "lr": 1e-4}),
    (
        "Entraîne avec LoRA sur deux GPU A100, moins de 30 euros, cette nuit",
        {"method": "lora", "gpus": 2, "type": "A100", "usd": 28.5, "run": 18 * HOUR},
    ),
    ("pas de LoRA, fine-tuning complet, cinq époques, d'ici demain 9h", {"method": "full", "epochs": 5, "run": 68400}),
    (
        "Entrena Llama 3.1 8B con QLoRA en dos GPUs, menos de cien dólares, media hora",
        {"model": "Llama-3.1-8B", "method": "qlora", "gpus": 2, "usd": 100, "run": 1800},
    ),
    (
        "用两张A100微调Qwen/Qwen2.5-7B，LoRA，三轮，不超过500元，今晚",
        {
            "gpus": 2,
            "type": "A100",
            "model": "Qwen/Qwen2.5-7B",
            "method": "lora",
            "epochs": 3,
            "usd": 67.5,
            "run": 64800,
        },
    ),
    ("不要用H100，最多4卡，学习率1e-4，批大小16", {"gpus": 4, "lr": 1e-4, "micro_batch": 16}),
    (
        "A100を2枚使ってLoRAで3エポック、予算は5千円以内、明日の朝9時まで",
        {"type": "A100", "gpus": 2, "method": "lora", "epochs": 3, "usd": 30, "run": 19 * HOUR},
    ),
    ("GPUなしでお願いします", {"gpus": 0}),
    ("fifty bucks max, a couple of GPUs, a few epochs", {"usd": 50, "gpus": 2}),
    ("save a checkpoint every 500 steps and train for 2k steps", {"max_steps": 2000}),
    (
        "Train gpt2-medium with sequence length 1024 in bf16, seed 42",
        {"model": "gpt2-medium", "max_len": 1024, "precision": "bf16", "seed": 42},
    ),
    ("use 2 nodes with 8 GPUs each", {"nodes": 2, "gpus": 8}),
    ("16 H100s on two machines", {"nodes": 2, "gpus": 8, "type": "H100"}),
    ("at least 40GB of VRAM, one card", {"vram": 38146, "gpus": 1}),
    ("fast as possible, money is no object", {}),
    ("I'd pay $2 per hour, not a cent more", {}),
    ("an hour and a half on an L4", {"run": 5400, "gpus": 1, "type": "L4"}),
    (
        "4-bit LoRA rank sixteen, context of 4k",
        {"quant_bits": 4, "method": "qlora", "lora_rank": 16, "max_len": 4096},
    ),
    (
        "done before Friday noon, dual 3090, twenty-five dollars",
        {"gpus": 2, "type": "RTX 3090", "usd": 25, "run": 424800},
    ),
    ("checkpoint every 2 hours, keep the last 3 checkpoints", {"save_total_limit": 3}),
    (
        "no gradient checkpointing, warmup 100 steps, clip gradients at 0.5",
        {"grad_checkpointing": False, "warmup": 100, "max_grad_norm": 0.5},
    ),
    ("Fine-tune it.", {}),
)


LATER: tuple[tuple[str, dict[str, Json], tuple[str, ...], tuple[str, ...]], ...] = (
    # sentence, fields, excluded GPU types, fields of which it says two things; written after the rules stood
    (
        "Could you finetune mistralai/Mistral-7B-v0.3 using QLoRA? I've got $80 to spend and four L40S.",
        {"model": "mistralai/Mistral-7B-v0.3", "method": "qlora", "usd": 80, "gpus": 4, "type": "L40S"},
        (),
        (),
    ),
    (
        "pls train on 1xH100, 5 epochs, bs=8, lr=3e-5",
        {"gpus": 1, "type": "H100", "epochs": 5, "micro_batch": 8, "lr": 3e-05},
        (),
        (),
    ),
    ("I need the results before 6pm today, spend whatever it takes", {"run": 14400}, (), ()),
    (
        "Run it overnight on the eight V100s, budget is a hundred and twenty bucks",
        {"run": 64800, "gpus": 8, "type": "V100", "usd": 120},
        (),
        (),
    ),
    (
        "Full parameter fine-tuning of google/gemma-2-9b, two nodes of 8 GPUs, bf16 and gradient checkpointing",
        {
            "method": "full",
            "model": "google/gemma-2-9b",
            "nodes": 2,
            "gpus": 8,
            "precision": "bf16",
            "grad_checkpointing": True,
        },
        (),
        (),
    ),
    ("Anything except A100 and V100 is OK, but stay below 40 dollars", {"usd": 40}, ("A100", "V100"), ()),
    ("maximum sequence length of 8k, effective batch size 128", {"max_len": 8192, "global_batch": 128}, (), ()),
    ("Please don't do LoRA. Just one epoch.", {"method": "full", "epochs": 1}, (), ()),
    ("3 to 5 epochs should be enough; cap it at 10 hours", {"epochs": 3, "run": 36000}, (), ()),
    (
        "Train llama-3.1-8b-instruct with rank 32 adapters for a day",
        {"model": "llama-3.1-8b-instruct", "lora_rank": 32, "method": "lora", "run": 86400},
        (),
        (),
    ),
    ("Use a single 24 GB GPU, and keep costs under twenty euros.", {"gpus": 1, "vram": 22888, "usd": 19}, (), ()),
    ("first try 2 GPUs... actually make it four GPUs", {"gpus": 4}, (), ()),
    ("I want it fast and cheap", {}, (), ()),
    ("bitte nur auf der CPU, maximal eine halbe Stunde", {"gpus": 0, "run": 1800}, (), ()),
    (
        "Trainiere Qwen/Qwen3-8B mit QLoRA auf acht H100, Budget 200 Euro, nicht länger als zwei Tage",
        {"model": "Qwen/Qwen3-8B", "method": "qlora", "gpus": 8, "type": "H100", "usd": 190, "run": 172800},
        (),
        (),
    ),
    (
        "Kein LoRA, sondern volles Fine-Tuning mit Batchgröße 4 und Lernrate 1e-5",
        {"method": "full", "micro_batch": 4, "lr": 1e-05},
        (),
        (),
    ),
    (
        "Keine A100 verwenden, lieber zwei L4, fertig bis heute Abend",
        {"gpus": 2, "type": "L4", "run": 28800},
        ("A100",),
        (),
    ),
    (
        "Je voudrais entraîner pendant trois époques avec une seule carte, sans dépasser quinze dollars",
        {"epochs": 3, "gpus": 1, "usd": 15},
        (),
        (),
    ),
    (
        "au maximum 4 GPU, pas plus de deux heures, taux d'apprentissage 5e-5",
        {"gpus": 4, "run": 7200, "lr": 5e-05},
        (),
        (),
    ),
    (
        "Utilise le modèle Qwen/Qwen2.5-1.5B, avec LoRA, d'ici vendredi",
        {"model": "Qwen/Qwen2.5-1.5B", "method": "lora", "run": 446400},
        (),
        (),
    ),
    (
        "Quiero entrenar con cuatro GPUs H100, presupuesto de trescientos dólares, dos épocas",
        {"gpus": 4, "type": "H100", "usd": 300, "epochs": 2},
        (),
        (),
    ),
    ("sin LoRA, ajuste fino completo, como máximo seis horas", {"method": "full", "run": 21600}, (), ()),
    (
        "请用四张A100-80G全参数微调，训练两轮，预算一千元",
        {"gpus": 4, "type": "A100 80GB", "method": "full", "epochs": 2, "usd": 135},
        (),
        (),
    ),
    ("用一块4090跑QLoRA，最长5小时", {"gpus": 1, "type": "RTX 4090", "method": "qlora", "run": 18000}, (), ()),
    ("在两台机器上，每台8卡，明天中午之前完成", {"nodes": 2, "gpus": 8, "run": 79200}, (), ()),
    (
        "H100を8枚、全パラメータで学習、学習率は2e-5、バッチサイズ4",
        {"gpus": 8, "type": "H100", "method": "full", "lr": 2e-05, "micro_batch": 4},
        (),
        (),
    ),
    ("予算は100ドルまで、GPUは2枚、半日以内にお願いします", {"usd": 100, "gpus": 2, "run": 43200}, (), ()),
    ("LoRAは使わないでください。エポック数は5です", {"method": "full", "epochs": 5}, (), ()),
    ("no more than fifty bucks and no H200 please, save every 200 steps", {"usd": 50}, ("H200",), ()),
    ("with LoRA, without LoRA, I don't care; max 2 GPUs", {"gpus": 2}, (), ("training.method",)),
    (
        "about 1.5 hours on a couple of A10Gs, seed 7, context window 4096",
        {"run": 5400, "gpus": 2, "type": "A10G", "seed": 7, "max_len": 4096},
        (),
        (),
    ),
    ("8 GPUs, or 4 GPUs if 8 aren't free, for less than $1,000", {"usd": 1000}, (), ("resources.gpus",)),
)


def told(text: str, now: datetime | None = NOW) -> dict[str, Json]:
    """Plan path → value, without how long it may wait, which follows a deadline."""
    return {c.path: c.value for c in read_prompt(text, now) if c.path != "limits.queue_s"}


def full(wanted: dict[str, Json]) -> dict[str, Json]:
    return {SHORT.get(name, f"training.{name}"): value for name, value in wanted.items()}


@pytest.mark.parametrize(("text", "wanted"), SENTENCES)
def test_a_sentence_sets_these_fields(text: str, wanted: dict[str, Json]) -> None:
    assert told(text) == full(wanted)


@pytest.mark.parametrize(("text", "wanted", "avoid", "clashing"), LATER)
def test_sentences_that_the_rules_were_not_made_by(
    text: str, wanted: dict[str, Json], avoid: tuple[str, ...], clashing: tuple[str, ...]
) -> None:
    reading = read_sentence(text, NOW)
    assert told(text) == full(wanted)
    assert (reading.avoid, tuple(c.path for c in reading.clashes)) == (avoid, clashing)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("as cheap as possible please", "as cheap as possible"),
        ("I'd pay $2 per hour, not a cent more", "$2 per hour"),
        ("several GPUs, for some epochs", "several GPUs"),
        ("start at 9pm", "start at 9pm"),
        ("on a TPU v4", "TPU v4"),
        ("save every 200 steps", "200 steps"),
        ("fine-tune Mistral 7B", "Mistral 7B"),
        ("spend at least $50", "at least $50"),
        ("¥500 at most", "¥500"),
        ("with Python 3.11", "3.11"),
        ("by 2020-01-01", "by 2020-01-01"),
        ("no QLoRA", "QLoRA"),
    ],
)
def test_a_value_that_no_field_takes_is_said_back(text: str, words: str) -> None:
    reading = read_sentence(text, NOW)
    assert reading.changes == ()
    assert words in [u.words for u in reading.unused]
    assert all(u.why for u in reading.unused)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("use LoRA and do a full fine-tune", "training.method", ("LoRA", "full fine-tune")),
        ("under $20, the budget is 50 dollars", "limits.max_cost_usd", ("$20", "50 dollars")),
        ("no GPU but on an A100", "resources.gpus", ("no GPU", "A100")),
        ("two GPUs, that is 4 GPUs", "resources.gpus", ("two GPUs", "4 GPUs")),
        ("on an A100 or H100", "resources.gpu_model", ("A100", "H100")),
    ],
)
def test_two_words_on_one_field_are_asked_about_and_not_guessed(text: str, path: str, words: tuple[str, ...]) -> None:
    (clash,) = read_sentence(text, NOW).clashes
    assert (clash.path, clash.words()) == (path, words)
    assert path not in told(text)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("by 18:00", 4),
        ("by 9am", 19),
        ("tonight", 18),
        ("done by midnight", 10),
        ("until Friday", 124),
        ("bis Freitag 17 Uhr", 123),
        ("avant vendredi midi", 118),
        ("para mañana a las 9", 19),
        ("明天早上9点之前", 19),
        ("明日まで", 28),
        ("over the weekend", 18),
        ("by 2026-11-23 10:00", 20),
        ("within 3 hours and by tomorrow 9am", 3),
    ],
)
def test_a_deadline_is_counted_from_the_clock_and_said_back(text: str, hours: int) -> None:
    changes = {c.path: c for c in read_prompt(text, NOW)}
    assert changes["limits.max_run_s"].value == hours * HOUR
    if "within" not in text:
        assert f"until {NOW + timedelta(hours=hours):%a %Y-%m-%d %H:%M}" in changes["limits.max_run_s"].why
        assert changes["limits.queue_s"].value == hours * HOUR


@pytest.mark.parametrize(
    "text",
    [
        "fine-tune llama 3 with 2 GPUs",
        "warm start on 2 GPUs",
        "start on 2 GPUs",
        "train resnet 50 on 4 GPUs",
        "stage 2 with 4 GPUs",
    ],
)
def test_a_number_of_a_name_or_of_gpus_is_no_number_of_its_own(text: str) -> None:
    reading = read_sentence(text, NOW)
    assert [c.path for c in reading.changes] == ["resources.gpus"]
    assert reading.unused == ()


def test_other_numbers_and_starts_are_said_back() -> None:
    for text in ("use 7 workers", "dropout 0.1 with 2 GPUs", "start at 9", "start at 9:30", "starting at 9 am"):
        assert len(read_sentence(text, NOW).unused) == 1


def test_without_a_clock_a_deadline_is_unused_and_its_field_known_all_the_same() -> None:
    reading = read_sentence("two GPUs, tonight")
    assert [c.path for c in reading.changes] == ["resources.gpus"]
    assert [u.words for u in reading.unused] == ["tonight"]
    assert "limits.max_run_s" in said_paths("two GPUs, tonight")


def test_excluded_types_and_bounds_are_told_apart_from_values() -> None:
    assert read_sentence("don't use H100s and no T4").avoid == ("H100", "T4")
    assert read_sentence("at most 4 GPUs").most == {"resources.gpus"}
    assert read_sentence("at least two GPUs").least == {"resources.gpus"}


def test_foreign_money_is_taken_low_and_the_rate_is_said() -> None:
    (change,) = read_prompt("höchstens 50 €")
    assert (change.path, change.value) == ("limits.max_cost_usd", 47.5)
    assert "0.95 US dollars for 1 EUR" in change.why


_WORDS = " ".join(text for text, _ in SENTENCES).split()
_TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(_WORDS), max_size=25).map(" ".join),
    st.lists(st.one_of(st.sampled_from(_WORDS), st.text(max_size=3)), max_size=20).map("".join),
)


@settings(max_examples=150, deadline=None)
@given(_TEXTS, st.one_of(st.none(), st.datetimes(timezones=st.just(UTC))))
@example("by 31:99 on 9999999999999999999999 GPUs for 1e999 epochs", NOW)
@example("until 9999-12-31", datetime(1, 1, 1, tzinfo=UTC))
@example("until Friday", datetime(9999, 12, 31, 23, tzinfo=UTC))
def test_any_text_gives_valid_changes_of_the_allowed_fields_or_none(text: str, now: datetime | None) -> None:
    reading = read_sentence(text, now)
    apply_changes(TrainingPlan(goal="", command=("x",)), reading.changes)
    assert {c.path for c in reading.changes} <= FIELDS
    assert all(c.by is Author.USER and c.why for c in reading.changes)
    assert len({c.path for c in reading.changes}) == len(reading.changes)
    assert not {c.path for c in reading.changes} & {clash.path for clash in reading.clashes}


@settings(max_examples=60, deadline=None)
@given(_TEXTS, st.sampled_from([*sorted(FIELDS), "command", "dataset.path", "training.options.--x"]))
def test_any_answer_says_something_of_allowed_fields_or_nothing(text: str, path: str) -> None:
    assert {c.path for c in hear(path, text, NOW).others} <= FIELDS
