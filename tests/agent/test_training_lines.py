"""What the gate sees of a log's copy: the training's own rows, whatever the training printed."""

import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from caravan.agent.metrics import metric_rows
from caravan.agent.training_lines import by_log, head_in, training_end
from caravan.runs.logs import LogCopies
from caravan.values.log_marks import Mark, head_of, marks

HEAD, MARK = marks("9" * 32)
FORGED, FORGERY = marks("7" * 32)
NAME = "0a1b2c3d.train.stdout.log"
KEY = "-----BEGIN RSA PRIVATE KEY-----"
PIECES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(["\n", "\r", "loss: 2\n", "eval_loss=1.5", KEY, f"{KEY}\n", "x" * 20_000]).map(str.encode),
    st.sampled_from([HEAD, FORGED, *FORGERY.values(), *(f"caravan: {mark}" for mark in Mark)]).map(
        lambda line: f"{line}\n".encode()
    ),
    st.sampled_from([MARK[Mark.STEPS_BEGIN], MARK[Mark.STEPS_OVER]]).map(lambda line: f"\n{line}\n".encode()),
)


def rows(log: bytes, *, all_of_it: bool = False) -> list[str]:
    """The rows that are read of a log that was copied in pieces, as text: nan is nan."""
    with tempfile.TemporaryDirectory() as folder:
        copies = LogCopies(Path(folder), ["known-secret"])
        for at in range(0, len(log), 7000):
            copies.append(NAME, log[at : at + 7000])
        files = copies.files()
        data = files[0].read_bytes() if all_of_it else training_end(files, 1 << 20)[0]
        return [repr(row) for row in metric_rows(data.decode("utf-8", "replace").splitlines())]


def marked(text: str, mark: Mark) -> bytes:
    return f"\n{MARK[mark]}\n{text}".encode()


@settings(deadline=None)
@given(st.lists(PIECES, max_size=12).map(b"".join))
@example(b"loss: 1\n" + KEY.encode())
@example(f"loss: 1\n{FORGED}\n{FORGERY[Mark.EVALUATION_BEGINS]}\nloss: nan\n".encode())
@example(b"loss: 1\ncaravan: evaluation begins\nloss: nan\n")
def test_nothing_that_a_training_prints_changes_what_rows_are_seen(printed: bytes) -> None:
    begun = f"{HEAD}\n".encode() + marked("loss: 77\n", Mark.STEPS_BEGIN) + marked("", Mark.STEPS_OVER)
    judged = marked("loss: 88\neval_loss: 99", Mark.EVALUATION_BEGINS) + marked("", Mark.EVALUATION_OVER)
    assert rows(begun + printed + judged) == rows(printed + b"\n", all_of_it=True)


def test_only_the_end_is_kept_of_what_is_long_and_it_is_said(tmp_path: Path) -> None:
    copies = LogCopies(tmp_path)
    lines = "".join(f"loss: {n}\n" for n in range(300_000))
    copies.append(NAME, f"{HEAD}\n{lines}".encode() + marked("loss: 5\n" * 300_000, Mark.EVALUATION_BEGINS))
    ((parts),) = by_log(copies.files())
    data, cut = training_end(parts, 1000)
    assert (len(data), cut) == (1000, True)
    assert data.decode().splitlines()[-1] in ("loss: 299999", "")
    assert b"loss: 299999" in data
    whole, cut = training_end(parts, 1 << 24)
    assert (len(whole.decode().split("loss: ")), cut) == (300_001, False)


def test_the_parts_of_a_log_are_one_log(tmp_path: Path) -> None:
    copies = LogCopies(tmp_path, limit=4000)
    copies.append(NAME, f"{HEAD}\n".encode())
    for n in range(600):
        copies.append(NAME, f"loss: {n}\n".encode())
    copies.append(NAME, marked("loss: 7000\n", Mark.EVALUATION_BEGINS))
    ((parts),) = by_log(copies.files())
    assert len(parts) > 2
    assert head_in(parts[0]) == head_of(HEAD)
    data, cut = training_end(parts, 1 << 20)
    assert cut  # some of it is missing in the midst
    assert b"loss: 599" in data
    assert b"7000" not in data
