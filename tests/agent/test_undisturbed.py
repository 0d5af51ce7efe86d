"""Signals while a checkpoint is read or written: kept back, never lost, never inside."""

import signal
import threading

import pytest

from caravan.agent.signals import undisturbed
from caravan.agent.undisturbed import UndisturbedSerializer
from caravan.values.run import RunRequest


class Disturbed(RunRequest):
    """A value that is interrupted while it is made."""

    def __init__(self, **values: object) -> None:
        signal.raise_signal(signal.SIGINT)
        super().__init__(**values)  # type: ignore[arg-type]


def test_a_checkpoint_is_read_whole_before_the_interrupt() -> None:
    serializer = UndisturbedSerializer(allowed_msgpack_modules=[(Disturbed.__module__, "Disturbed")])
    data = UndisturbedSerializer().dumps_typed({"request": Disturbed.model_construct(prompt="p", source="s")})
    read = []
    with pytest.raises(KeyboardInterrupt):
        read.append(serializer.loads_typed(data))
    assert read == []


def test_an_interrupt_is_handed_on_once_and_in_the_end() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            steps.append("inside")
        steps.append("never")
    assert steps == ["inside"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_errors_pass_through_and_handlers_come_back() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with pytest.raises(ValueError, match="broken"), undisturbed():  # noqa: PT012
            signal.raise_signal(signal.SIGTERM)
            assert seen == []
            raise ValueError("broken")
        assert seen == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert len(seen) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_have_nothing_to_keep_back() -> None:
    done = []

    def work() -> None:
        with undisturbed():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
