"""Lines for a log, from code on an event loop.

In Airflow's triggerer a line is a blocking write to a pipe, which another process empties when it
has time. On the event loop that write holds up all triggers. And when that process is writing to
this one meanwhile, as it does with hundreds of new triggers, each waits for the other to read, for
good: no trigger ends any more, and nothing says so (seen with Airflow 3.3.2). So nothing in this
package logs on an event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def told(write: Callable[..., object], *args: object, exc_info: object = None) -> None:
    """Write a line in a thread and return when it is written, so that no line follows its task.

    :param write: a logger's method, such as ``log.info``.
    :param args: the line, and the values for the places in it.
    :param exc_info: an exception whose traceback belongs to the line.
    """
    if exc_info is None:
        await asyncio.to_thread(write, *args)
    else:
        await asyncio.to_thread(write, *args, exc_info=exc_info)
