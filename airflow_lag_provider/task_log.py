"""Lines for a log, from code on an event loop.

In Airflow's triggerer a line is a blocking write to a socket, which another process empties when it
has time. On the event loop that write holds up all triggers. And when that process is writing to
this one meanwhile, as it does with hundreds of new triggers, each waits for the other to read, for
good: no trigger ends any more, and nothing says so (seen with Airflow 3.3.2). So nothing in this
package logs on an event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial

from airflow_lag_provider.shared_work import PerLoop

# One thread: lines keep their order, and while they wait for the socket those of the loop's own
# executor are free for what documents wait for. One for each loop, because a forked process has
# none of its parent's threads.
_writers: PerLoop[ThreadPoolExecutor] = PerLoop(
    partial(ThreadPoolExecutor, max_workers=1, thread_name_prefix="lag-log")
)


async def told(write: Callable[..., object], *args: object, exc_info: object = None) -> None:
    """Write a line in a thread and return when it is written, so that no line follows its task.

    A caller that is cancelled meanwhile may lose the line.

    :param write: a logger's method, such as ``log.info``.
    :param args: the line, and the values for the places in it.
    :param exc_info: an exception whose traceback belongs to the line.
    """
    more = {} if exc_info is None else {"exc_info": exc_info}
    # The context is how Airflow finds the task that the line belongs to.
    line = partial(copy_context().run, write, *args, **more)
    await asyncio.get_running_loop().run_in_executor(_writers.get(), line)


async def told_unexpected(log: logging.Logger, error: BaseException) -> None:
    """Write that something happened that no code of this package is made for, and where."""
    await told(log.error, "Something happened that this package does not expect.", exc_info=error)
