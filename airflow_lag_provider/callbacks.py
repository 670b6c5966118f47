"""The user's `sla_miss_callback`: checked when its DAG is built, called when a document is late.

It is the import path of a function or of a notifier class, which is called with what the version
of Airflow has:

- 2.11, by Airflow: five positional arguments ``(dag, task_list, blocking_task_list, slas,
  blocking_tis)``.
- 3.1 and newer, by us, in the triggerer: of the keywords in :data:`KEYWORDS` those that a function
  names. A notifier finds all of them in its context.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from typing import Any

from airflow.providers.common.compat.sdk import BaseNotifier
from asgiref.sync import sync_to_async

# ``context`` is Airflow's: the DAG run and the deadline.
KEYWORDS = ("context", "mirror", "topics", "sla", "failed", "unchecked")
# Plain functions, which may wait for a mail server, have threads of their own.
_THREADS = 4
_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def imported(path: str) -> Callable[..., Any]:
    """Return the callable at an import path.

    :raises ValueError: there is none, with what is wrong.
    """
    module_name, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module_name), name)
    except Exception as error:
        raise ValueError(f"{path} can't be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"{path} is not a function")
    return found  # type: ignore[no-any-return]


def for_airflow2(path: str) -> Callable[..., Any]:
    """Return the `sla_miss_callback` of a DAG for Airflow 2.11.

    :raises ValueError: it can't be imported or can't take Airflow's five arguments.
    """
    callback = imported(path)
    if isinstance(callback, type):
        _check_needed(path, callback, "made without arguments", given=())
        try:
            return callback()  # type: ignore[no-any-return]
        except Exception as error:
            raise ValueError(f"{path} can't be made: {type(error).__name__}: {error}") from error
    try:
        inspect.signature(callback).bind(*range(5))
    except TypeError as error:
        raise ValueError(
            f"{path} must take Airflow's (dag, task_list, blocking_task_list, slas, "
            f"blocking_tis): {error}"
        ) from error
    if inspect.iscoroutinefunction(callback):
        return lambda *arguments: asyncio.run(callback(*arguments))
    return callback


def check_for_airflow3(path: str) -> None:
    """Do nothing when :func:`call` can call what is at the path.

    :raises ValueError: it can't be imported, or needs an argument that nobody gives.
    """
    callback = imported(path)
    if isinstance(callback, type):
        _check_needed(path, callback, "made with the keyword context", given=("context",))
    else:
        words = f"called with the keywords {', '.join(KEYWORDS)}"
        _check_needed(path, callback, words, given=KEYWORDS)


async def call(path: str, given: Mapping[str, Any]) -> None:
    """Call a function of the user, or a notifier, without holding up the event loop.

    A coroutine function is awaited; a plain one, which may read connections too, has a thread.

    :param given: a value for each of the keywords.
    :raises Exception: whatever the function raises.
    """
    callback = await asyncio.to_thread(imported, path)
    if isinstance(callback, type):
        await _notify(callback, {**given["context"], **given})
        return
    keywords = {name: value for name, value in given.items() if _takes(callback, name)}
    if inspect.iscoroutinefunction(callback):
        await callback(**keywords)
        return
    result = await _in_thread(callback, **keywords)
    if inspect.isawaitable(result):
        await result


async def _notify(notifier_class: Callable[..., Any], context: Any) -> None:
    """Make a notifier and let it notify, asynchronously where it can."""
    keywords = {"context": context} if _takes(notifier_class, "context") else {}
    notifier = await _in_thread(notifier_class, **keywords)
    if not _is_awaitable(type(notifier)):
        await _in_thread(notifier, context)
        return
    if isinstance(notifier, BaseNotifier):
        # Where its own constructor doesn't hand the context on.
        notifier.context = context
    await notifier


def _is_awaitable(kind: type) -> bool:
    """Return whether objects of a class can be awaited; a notifier without async_notify can't."""
    missing = getattr(BaseNotifier, "async_notify", None)
    return hasattr(kind, "__await__") and getattr(kind, "async_notify", None) is not missing


async def _in_thread(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    # Not asyncio.to_thread: on Airflow 3.1 and 3.2 reading a connection needs asgiref's way back
    # to the event loop.
    work = partial(function, *arguments, **keywords)
    return await sync_to_async(work, thread_sensitive=False, executor=_threads())()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="sla_miss_callback")


def _takes(callback: Callable[..., Any], name: str) -> bool:
    """Return whether a function takes a keyword."""
    parameters = inspect.signature(callback).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return True
    one = parameters.get(name)
    return one is not None and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)


def _check_needed(
    path: str, callback: Callable[..., Any], words: str, *, given: tuple[str, ...]
) -> None:
    """Do nothing when a callable needs nothing but some keywords.

    :param words: how it is called, for the message.
    """
    unknown = [
        one.name
        for one in inspect.signature(callback).parameters.values()
        if one.default is one.empty
        and one.kind not in _ANY_NUMBER
        and (one.name not in given or one.kind is one.POSITIONAL_ONLY)
    ]
    if unknown:
        raise ValueError(f"{path} is {words}, but also needs {', '.join(unknown)}")
