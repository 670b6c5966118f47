"""The user's own function or notifier: refused early, or called in its own form."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseNotifier
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_lag_provider import callbacks

GIVEN: dict[str, Any] = {
    "context": {"dag_run": {"dag_id": "consumer_lag.oasis"}},
    "mirror": "oasis",
    "topics": ["orders", "clicks"],
    "sla": 90.0,
    "failed": {"clicks": "TopicNotInGroup"},
    "unchecked": None,
}
calls: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    calls.clear()


def of_five(dag: Any, task_list: Any, blocking_task_list: Any, slas: Any, tis: Any) -> None:
    """A callback as Airflow 2.11 wants it."""


def of_some(topics: list[str], *, failed: dict[str, str], severity: str = "high") -> None:
    """A plain callback that names two of the keywords."""
    calls.append((topics, failed, severity, threading.current_thread()))


async def awaited(context: Any, mirror: str) -> None:
    """An asynchronous callback."""
    await asyncio.sleep(0)
    calls.append((context, mirror, threading.current_thread()))


def returns_a_coroutine(**keywords: Any) -> Any:
    """What a decorator makes of an asynchronous callback."""
    return awaited(keywords["context"], keywords["mirror"])


def of_both(*arguments: Any, **keywords: Any) -> None:
    """A callback that both versions can call."""
    calls.append((arguments, keywords))


def of_more(context: Any, severity: str) -> None:
    """A callback that needs what nobody gives."""


def of_position(topics: list[str], /) -> None:
    """A callback that can't be called with keywords."""


def fails(**_: Any) -> None:
    """A callback that fails."""
    raise RuntimeError("no mail server")


class Plain(BaseNotifier):
    """A notifier that can't be awaited and whose constructor doesn't take the context."""

    template_fields = ("text",)

    def __init__(self) -> None:
        super().__init__()
        self.text = "{{ mirror }}: {{ topics | join(', ') }}"

    def notify(self, context: Any) -> None:
        calls.append((self.text, context["failed"]))


class Awaited(Plain):
    """A notifier that can be awaited, and then isn't called."""

    async def async_notify(self, context: Any) -> None:
        calls.append((f"async {self.text}", context["failed"]))

    def notify(self, context: Any) -> None:
        raise AssertionError("called on a thread")


class NeedsMore(BaseNotifier):
    """A notifier that needs an argument."""

    def __init__(self, channel: str) -> None:
        super().__init__()

    def notify(self, context: Any) -> None:
        """Do nothing."""


not_a_function = 3


def call(name: str) -> None:
    asyncio.run(callbacks.call(f"{__name__}.{name}", GIVEN))


def test_airflow_2_gets_the_function_itself() -> None:
    """On 2.11 the user's function is called as Airflow calls it."""
    assert callbacks.for_airflow2(f"{__name__}.of_five") is of_five


def test_airflow_2_can_have_an_asynchronous_function() -> None:
    """It is run to its end, since Airflow 2.11 would not await it."""
    callbacks.for_airflow2(f"{__name__}.{awaiting_five.__name__}")(1, 2, 3, 4, 5)
    assert calls == [(1, 2, 3, 4, 5)]


async def awaiting_five(*arguments: Any) -> None:
    calls.append(arguments)


def test_a_plain_function_gets_what_it_names_in_a_thread_of_its_own() -> None:
    """It may wait for a mail server: neither the event loop nor our own threads wait with it."""
    call("of_some")
    ((topics, failed, severity, thread),) = calls
    assert (topics, failed, severity) == (GIVEN["topics"], GIVEN["failed"], "high")
    assert thread.name.startswith("sla_miss_callback")


def test_a_function_that_takes_all_keywords_gets_all() -> None:
    """Nothing is held back from ``**keywords``."""
    call("of_both")
    assert calls == [((), GIVEN)]


@pytest.mark.parametrize("name", ["awaited", "returns_a_coroutine"])
def test_what_is_asynchronous_is_awaited_in_the_event_loop(name: str) -> None:
    """A coroutine function, and a function that returns a coroutine."""
    call(name)
    assert calls == [(GIVEN["context"], "oasis", threading.main_thread())]


def test_what_a_function_raises_reaches_airflow() -> None:
    """A failing callback doesn't look like one that did its work."""
    with pytest.raises(RuntimeError, match="no mail server"):
        call("fails")


@pytest.mark.parametrize(
    ("name", "text"),
    [("Plain", "oasis: orders, clicks"), ("Awaited", "async oasis: orders, clicks")],
)
def test_a_notifier_finds_everything_in_its_context(name: str, text: str) -> None:
    """Templates can name the topics; it is awaited where it can be, else called in a thread.

    On 2.11 Airflow calls it.
    """
    if AIRFLOW_V_3_0_PLUS:
        call(name)
        assert calls == [(text, GIVEN["failed"])]
    else:
        notifier = callbacks.for_airflow2(f"{__name__}.{name}")
        assert isinstance(notifier, BaseNotifier)


@pytest.mark.parametrize(
    "name", ["of_some", "awaited", "returns_a_coroutine", "of_both", "Plain", "Awaited"]
)
def test_what_airflow_3_can_call_passes_the_check(name: str) -> None:
    """A function may name any of the keywords; a notifier is made without arguments."""
    callbacks.check_for_airflow3(f"{__name__}.{name}")


@pytest.mark.parametrize(
    ("check", "path", "words"),
    [
        (callbacks.for_airflow2, "no.such.module.function", "can't be imported"),
        (callbacks.for_airflow2, f"{__name__}.missing", "can't be imported"),
        (callbacks.for_airflow2, f"{__name__}.not_a_function", "not a function"),
        (callbacks.for_airflow2, f"{__name__}.awaited", "must take Airflow's"),
        (callbacks.for_airflow2, f"{__name__}.NeedsMore", "also needs channel"),
        (callbacks.check_for_airflow3, "no.such.module.function", "can't be imported"),
        (callbacks.check_for_airflow3, f"{__name__}.of_five", "also needs dag, task_list"),
        (callbacks.check_for_airflow3, f"{__name__}.of_more", "also needs severity"),
        (callbacks.check_for_airflow3, f"{__name__}.of_position", "also needs topics"),
        (callbacks.check_for_airflow3, f"{__name__}.NeedsMore", "also needs channel"),
    ],
)
def test_a_callback_that_could_not_be_called_is_refused_early(
    check: Any, path: str, words: str
) -> None:
    """A wrong callback is a mistake when the DAG is parsed, not silence when it is needed."""
    with pytest.raises(ValueError, match=words):
        check(path)
