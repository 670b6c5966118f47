"""Ports of this machine."""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path

from lab.errors import LabError

HOST = "127.0.0.1"
"""The one address that parts listen on."""

_LOWEST = 10_000
_given: set[int] = set()
_lock = threading.Lock()


def free_port() -> int:
    """Return a TCP port that nothing listens on and that this process was not given before.

    The port lies below the range from which the kernel takes the ports of outgoing connections.
    A port of that range could be taken while its part is stopped, even by a client of the part
    itself: on loopback, a connection attempt that happens to get its own target as source port
    connects to itself.

    :raises LabError: when no free port is found
    """
    with _lock:
        candidates = range(_LOWEST, _first_ephemeral_port())
        for port in random.sample(candidates, k=200):
            if port not in _given and _can_bind(port):
                _given.add(port)
                return port
    raise LabError("no free TCP port found on 127.0.0.1")


def is_listening(port: int) -> bool:
    """Tell whether something accepts connections on a port of 127.0.0.1 within half a second."""
    try:
        with socket.create_connection((HOST, port), timeout=0.5):
            return True
    except OSError:
        return False


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32_768
