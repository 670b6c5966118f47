"""What the host of a triggerer has to be set to: no setting of Airflow, but one of Linux."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from airflow_lag_provider.tune_load import Load, Version

# Bytes that may wait in a socket: the log lines of a minute, each with what the kernel adds to it,
# measured with up to 1,000 tasks.
SOCKET_BUFFER = 4 * 1024 * 1024
# Tasks a minute whose triggers and log lines fit into what Linux gives by itself.
FEW_TASKS = 50
_PRESENT = Path("/proc/sys/net/core/wmem_default")


def socket_buffer() -> int | None:
    """Return how many bytes may wait in a socket made here; ``None`` where that can't be seen.

    Other systems than Linux don't say, nor do older kernels to a container.
    """
    with suppress(OSError, ValueError):
        return int(_PRESENT.read_text(encoding="ascii"))
    return None


def note(load: Load, *, version: Version, present: int | None) -> str | None:
    """Return what to set and why, ``None`` when nothing is to be set.

    :param present: see :func:`socket_buffer`.
    """
    # 2.11's triggerer is one process, and on 3.1 and 3.2 every task takes a worker.
    if version < (3, 3) or load.triggerer_tasks <= FEW_TASKS:
        return None
    if present is not None and present >= SOCKET_BUFFER:
        return None
    now = "its value can't be seen here" if present is None else f"here {present} now"
    return (
        "A triggerer is two processes, with sockets between them for new triggers and for log "
        f"lines. When {load.triggerer_tasks:,} begin in the same second, they fill these, and then "
        "all triggers stand still for seconds, in rare cases for good. On each triggerer's host "
        "(of a container, the machine it runs on) set Linux's net.core.wmem_default to "
        f"{SOCKET_BUFFER} ({now}), for instance in /etc/sysctl.d, and restart the triggerer."
    )
