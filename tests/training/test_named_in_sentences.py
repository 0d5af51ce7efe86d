"""What a sentence names: data, held-out data and a model, told apart in four languages, wherever they stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan import TEMPLATES
from caravan.training.choosing import Scene, choose, named
from caravan.training.loading import load_types
from caravan.training.mentions import mentions
from caravan.training.sniffing import likely, look

TYPES = load_types(TEMPLATES / "train")
PATHS = frozenset({"chats.jsonl", "data/train.jsonl", "tiny-qwen/config.json", "corpus/a.txt", "test.jsonl"})
MODELS = frozenset({"tiny-qwen"})
CHAT = b'{"messages": [{"role": "user", "content": "hi"}]}\n' * 2
TABLE = b"text,label\na,b\n"


@pytest.mark.parametrize(
    ("prompt", "data", "model", "held_out"),
    [
        ("Fine-tune Qwen/Qwen2.5-0.5B on /tmp/d/chats.jsonl.", "/tmp/d/chats.jsonl", "Qwen/Qwen2.5-0.5B", None),
        ("Fine-tune it with Qwen/Qwen2.5-0.5B", None, "Qwen/Qwen2.5-0.5B", None),
        ("Train on chats.jsonl using Qwen/Qwen2.5-0.5B", "chats.jsonl", "Qwen/Qwen2.5-0.5B", None),
        ("Train embeddings on /tmp/qa.csv with intfloat/e5-base", "/tmp/qa.csv", "intfloat/e5-base", None),
        ("Fine-tune tiny-qwen on chats.jsonl", "chats.jsonl", None, None),
        ("Fine-tune with tiny-qwen", None, None, None),
        ("Fine-tune Qwen/Qwen2.5-0.5B on tatsu-lab/alpaca", "tatsu-lab/alpaca", "Qwen/Qwen2.5-0.5B", None),
        ("Use the tatsu-lab/alpaca dataset with intfloat/e5-base", "tatsu-lab/alpaca", "intfloat/e5-base", None),
        ("Tune a model based on intfloat/e5-base", None, "intfloat/e5-base", None),
        ("Starting from intfloat/e5-base, train on ../qa.csv", "../qa.csv", "intfloat/e5-base", None),
        ("Feinabstimmung von intfloat/e5-base mit den Daten in /x/dir", "/x/dir", "intfloat/e5-base", None),
        ("Train on data/train.jsonl and evaluate on test.jsonl", "data/train.jsonl", None, "test.jsonl"),
        ("Evaluate on test.jsonl after training on ~/a.jsonl", "~/a.jsonl", None, "test.jsonl"),
        ("Train on data/train.jsonl, save to /tmp/out and write to out.json", "data/train.jsonl", None, None),
        ("Train with question/answer pairs on /x/y.csv", "/x/y.csv", None, None),
        ("Train with dataset=/x/y.csv", "/x/y.csv", None, None),
        ("Train it with ds_config.json on the corpus", "corpus", None, None),
        ('Train on "/x/our chats/a b.jsonl", please', "/x/our chats/a b.jsonl", None, None),
    ],
)
def test_data_and_model_are_told_apart(prompt: str, data: str | None, model: str | None, held_out: str | None) -> None:
    found = named(prompt, PATHS, MODELS)
    assert (found.data, found.model, found.held_out) == (data, model, held_out)


def test_two_files_to_train_on_leave_the_data_doubtful() -> None:
    seen = tuple(s for p in ("a.jsonl", "b.jsonl") if (s := look(p, CHAT)) is not None)
    found = choose(TYPES, Scene("Fine-tune on a.jsonl and b.jsonl", seen, frozenset({"a.jsonl", "b.jsonl"})))
    assert found is not None
    assert (found.data, found.other_data) == ("a.jsonl", ("b.jsonl",))
    assert found.data_sure < 0.5


def test_columns_that_no_type_knows_do_not_hide_the_data_that_the_sentence_names() -> None:
    seen = look("rows.jsonl", b'{"foo": 1, "bar": 2}\n')
    assert seen is not None
    found = choose(TYPES, Scene("Fine-tune the model on rows.jsonl", (seen,), frozenset({"rows.jsonl"})))
    assert found is not None
    assert (found.folder.type.name, found.data) == ("sft", "rows.jsonl")
    assert found.sure < 0.5, "so that it is asked"
    assert choose(TYPES, Scene("Fine-tune the model", (seen,), frozenset({"rows.jsonl"}))) is None


def test_a_missing_file_of_a_repository_with_code_chooses_nothing() -> None:
    scene = Scene("Learn from data/made.csv", (), frozenset({"make.py"}))
    assert choose(TYPES, scene) is None, "its code may make it"
    lost = choose(TYPES, scene._replace(prompt="Learn from /nowhere/made.csv"))
    assert lost is not None
    assert lost.data == "/nowhere/made.csv"


NAME = st.from_regex(r"[a-z][a-z0-9_]{0,7}", fullmatch=True)
MODEL = st.one_of(
    st.sampled_from(["Qwen/Qwen2.5-0.5B", "intfloat/e5-base", "google-bert/bert-base-uncased", "gpt2", "BAAI/bge-m3"]),
    st.builds(lambda owner, name: f"{owner}lab/{name}-7b", NAME, NAME),
)
FILE = st.builds(
    lambda start, folders, name, ending: f"{start}{''.join(f + '/' for f in folders)}{name}x{ending}",
    st.sampled_from(["/", "~/", "../", "../../", "./", ""]),
    st.lists(NAME, max_size=3),
    NAME,
    st.sampled_from([".jsonl", ".csv", ".parquet", ".tsv", ".txt"]),
)
SENTENCES = [
    "Fine-tune {model} on {data}",
    "Fine-tune the model {model} with LoRA on our {data}.",
    "On {data}, fine-tune {model}",
    "Train a classifier on the rows in {data} with {model}",
    "Train on {data} using {model} for 2 epochs",
    "Using {model}, train embeddings from {data}",
    "Starting from {model}, continue with {data}",
    "Adapt {model} to {data}!",
    "Trainiere {model} auf {data}",
    "Trainiere mit {model} auf den Daten in {data}, bitte",
    "Feinabstimmung von {model} mit {data}",
    "Auf {data} soll das Modell {model} trainiert werden",
    "Entraîne {model} sur {data}",
    "Affine le modèle {model} avec les données de {data}",
    "Sur {data}, entraîne un classifieur avec {model}",
    "Entrena {model} sobre {data}",
    "Ajusta el modelo {model} con los datos de {data}",
    "Entrena con {model} sobre nuestros datos: {data}",
]
QUOTED = st.sampled_from(["{}", '"{}"', "'{}'", "`{}`", "«{}»", "„{}“"])


@given(st.sampled_from(SENTENCES), MODEL, FILE, QUOTED, st.booleans())
def test_a_named_file_is_the_data_and_the_model_never_is(
    sentence: str, model: str, data: str, quoted: str, known: bool
) -> None:
    plain = data.removeprefix("./")
    prompt = sentence.format(model=model, data=quoted.format(data))
    files = {"chats.jsonl": CHAT, "tickets.csv": TABLE, "train.jsonl": CHAT}
    seen = tuple(s for p in likely(files) if (s := look(p, files[p])) is not None)
    scene = Scene(prompt, seen, frozenset(files), model if known else None)
    said = named(prompt, scene.paths, frozenset({model}) if known else frozenset())
    assert said.data == plain
    assert "/" not in model or known or said.model == model
    found = choose(TYPES, scene)
    assert found is None or found.data == plain, "never another file"


@given(st.sampled_from([s for s in SENTENCES if "{model}" in s]), MODEL)
def test_without_data_in_the_sentence_the_model_is_not_taken_for_them(sentence: str, model: str) -> None:
    prompt = sentence.format(model=model, data="it")
    seen = look("chats.jsonl", CHAT)
    assert seen is not None
    said = named(prompt, frozenset({"chats.jsonl"}))
    assert said.data is None
    found = choose(TYPES, Scene(prompt, (seen,), frozenset({"chats.jsonl"}), model))
    assert found is None or found.data == "chats.jsonl"


@given(st.text(max_size=300))
def test_no_text_breaks_the_reading(text: str) -> None:
    mentions(text)
