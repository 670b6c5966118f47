"""The laboratory's reader and producer: an error is told, and who has ended is known to have."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from lab import offsets, producer, reader
from lab.chaos_stage import Stage
from lab.errors import LabError
from lab.offsets import read_group
from lab.producer import Producer
from lab.reader import Reader

BROKEN = KafkaException(KafkaError(KafkaError._FAIL, "broken"))
ENDED = "ignore::pytest.PytestUnhandledThreadExceptionWarning"


class Answers:
    """A consumer that answers for partition 0 of every topic but those in `lacking`."""

    def __init__(self, *, lacking: str = "", close: Exception | None = None) -> None:
        self.lacking = lacking
        self.error = close

    def list_topics(self, **_: Any) -> Any:
        return SimpleNamespace(topics={"a": SimpleNamespace(error=None, partitions={0: None})})

    def committed(self, _: Any, **__: Any) -> list[TopicPartition]:
        return [] if self.lacking else [TopicPartition("a", 0, 4)]

    def offsets_for_times(self, _: Any, **__: Any) -> list[TopicPartition]:
        return [TopicPartition("a", 0, 5)]

    def close(self) -> None:
        if self.error:
            raise self.error


def _raise(error: Exception) -> Any:
    raise error


def _end_of(client: Reader | Producer) -> None:
    deadline = time.monotonic() + 5
    while client.running and time.monotonic() < deadline:
        time.sleep(0.01)


def a_reader() -> Reader:
    return Reader(bootstrap="localhost:1", group="g", topics=["a"], every=0.01)


def a_producer() -> Producer:
    return Producer(bootstrap="localhost:1", topics=["a"], partitions=1, rate=lambda *_: 50.0)


@pytest.mark.parametrize(
    ("consumer", "words"),
    [
        (lambda _: _raise(BROKEN), "can't be read"),
        (lambda _: Answers(close=BROKEN), "can't be read"),
        (lambda _: Answers(lacking="a"), "the answer lacks"),
    ],
)
def test_whatever_the_client_fails_at_is_one_kind_of_error(
    monkeypatch: pytest.MonkeyPatch, consumer: Any, words: str
) -> None:
    """Also when it is made or closed, or answers less than it was asked, so reading goes on."""
    monkeypatch.setattr(offsets, "Consumer", consumer)
    with pytest.raises(LabError, match=words):
        read_group("localhost:1", "g", ["a"])


@pytest.mark.filterwarnings(ENDED)
def test_a_reader_that_an_error_has_ended_is_not_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away doesn't end it, what nobody has thought of does."""
    errors: list[Exception] = [LabError("away"), ValueError("a mistake")]
    monkeypatch.setattr(reader, "read_group", lambda *_: {})
    one = a_reader()
    assert not one.running
    one.start()
    assert one.running
    monkeypatch.setattr(reader, "read_group", lambda *_: _raise(errors.pop(0)))
    _end_of(one)
    assert not one.running
    assert errors == []


@pytest.mark.filterwarnings(ENDED)
def test_a_producer_that_an_error_has_ended_is_not_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets stand still from then on, and any old snapshot would be right."""
    sink = SimpleNamespace(produce=lambda *_, **__: _raise(BROKEN), poll=lambda _: 0)
    monkeypatch.setattr(producer, "Client", lambda _: sink)
    one = a_producer()
    one.start()
    _end_of(one)
    assert not one.running


def test_the_stage_names_the_clients_that_have_ended() -> None:
    """The run ends before it judges by what they did."""
    stage: Any = Stage.__new__(Stage)
    stage.reader, stage._producer = a_reader(), SimpleNamespace(running=True)
    with pytest.raises(LabError, match="The independent client has ended by itself"):
        stage.check_all_run()
    stage.reader, stage._producer = SimpleNamespace(running=True), a_producer()
    with pytest.raises(LabError, match="The producer has ended by itself"):
        stage.check_all_run()
    stage.reader = stage._producer = SimpleNamespace(running=True)
    assert stage.gone_clients() == []
