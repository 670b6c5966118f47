"""The client of Elasticsearch: what the Airflow connection gives it, and its version."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from elastic_transport import AsyncTransport, HttpHeaders, TransportApiResponse

from airflow_lag_provider.errors import ElasticsearchConnectionInvalid

DEFAULT_PORT = 9200
DEFAULT_REQUEST_TIMEOUT = 5.0
_USED_EXTRAS = ("hosts", "api_key", "ca_certs", "verify_certs", "request_timeout")
_ACCEPTED_VERSION = re.compile(r"Accept version must be either version (\d+)")
_COMPATIBLE_WITH = re.compile(r"compatible-with=\d+")
_REPEATED = (429, 502, 503, 504)


class NegotiatingTransport(AsyncTransport):
    """A transport that speaks an older server's version when the server asks for it.

    A client of version 9 announces ``compatible-with=9``, which a server of version 8 refuses on
    every call with a 400 that names the version it takes. The request is then sent again with
    that version, and so are all later ones.
    """

    _server_version: str | None = None

    async def perform_request(  # type: ignore[override]
        self, method: str, target: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> TransportApiResponse:
        """Send one request, see :meth:`elastic_transport.AsyncTransport.perform_request`."""
        response = await super().perform_request(
            method, target, headers=self._adapted(headers), **options
        )
        if response.meta.status == 400 and self._server_version is None:
            match = _ACCEPTED_VERSION.search(str(response.body))
            if match:
                self._server_version = match.group(1)
                response = await super().perform_request(
                    method, target, headers=self._adapted(headers), **options
                )
        return response

    def _adapted(self, headers: Mapping[str, str] | None) -> HttpHeaders:
        adapted = HttpHeaders(headers or {})
        if self._server_version:
            version = f"compatible-with={self._server_version}"
            for name in ("accept", "content-type"):
                if name in adapted:
                    adapted[name] = _COMPATIBLE_WITH.sub(version, adapted[name])
        return adapted


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """What an Airflow connection says about the cluster; secrets don't show in ``repr``.

    :param hosts: URLs of the nodes, without credentials.
    :param request_timeout: seconds for one request.
    :param unused_extras: names in the connection's extra that mean nothing here.
    """

    hosts: tuple[str, ...]
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    ca_certs: str | None = None
    verify_certs: bool = True
    request_timeout: float = DEFAULT_REQUEST_TIMEOUT
    unused_extras: tuple[str, ...] = ()

    def client_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the client.

        Writes are repeated after a time-out: with external versions that is harmless.
        """
        arguments: dict[str, Any] = {
            "hosts": list(self.hosts),
            "request_timeout": self.request_timeout,
            "retry_on_timeout": True,
            "retry_on_status": _REPEATED,
            "max_retries": 2,
        }
        if self.basic_auth:
            arguments["basic_auth"] = self.basic_auth
        if self.api_key:
            arguments["api_key"] = self.api_key
        if any(host.startswith("https:") for host in self.hosts):
            arguments["verify_certs"] = self.verify_certs
            if self.ca_certs:
                arguments["ca_certs"] = self.ca_certs
            if not self.verify_certs:
                arguments["ssl_show_warn"] = False
        return arguments


def quiet_client() -> None:
    """Keep the client's lines for each request out of the logs, unless they are wanted.

    Its warnings too: it writes them on the event loop, with the traceback of each attempt, just
    when Elasticsearch is away; our own errors say why.
    """
    logger = logging.getLogger("elastic_transport")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)


def connection_settings(
    *,
    conn_id: str,
    host: str | None,
    port: int | None,
    scheme: str | None,
    login: str | None,
    password: str | None,
    extra: Mapping[str, Any],
) -> ConnectionSettings:
    """Read the fields of an Airflow connection.

    :raises ElasticsearchConnectionInvalid: with all mistakes of the connection.
    """
    extra = {name: _from_text(name, value) for name, value in extra.items()}
    mistakes = _extra_mistakes(extra)
    if login and extra.get("api_key"):
        mistakes.append("it has a login and an `api_key`: keep one of them")
    names = [part.strip() for part in (host or "").split(",") if part.strip()]
    if not mistakes and extra.get("hosts"):
        names = extra["hosts"]
    elif not names:
        mistakes.append("it has no host")
    hosts = []
    for name in names:
        try:
            hosts.append(_host_url(name.strip(), scheme=scheme or "http", port=port))
        except ValueError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ElasticsearchConnectionInvalid(f"Connection {conn_id!r}: {'; '.join(mistakes)}.")
    return ConnectionSettings(
        hosts=tuple(hosts),
        basic_auth=(login, password or "") if login else None,
        api_key=extra.get("api_key") or None,
        ca_certs=extra.get("ca_certs") or None,
        verify_certs=extra.get("verify_certs", True),
        request_timeout=float(extra.get("request_timeout", DEFAULT_REQUEST_TIMEOUT)),
        unused_extras=tuple(sorted(set(extra) - set(_USED_EXTRAS))),
    )


def _from_text(name: str, value: Any) -> Any:
    """Return what a text means: in a connection written as a URI all values are texts."""
    if isinstance(value, str) and name in ("verify_certs", "request_timeout", "hosts"):
        try:
            return json.loads(value.lower())
        except ValueError:
            return value
    return value


def _extra_mistakes(extra: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the types of the values that are used of an extra."""
    hosts = extra.get("hosts") or []
    timeout = extra.get("request_timeout", DEFAULT_REQUEST_TIMEOUT)
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    right = {
        "`hosts` must be a list of strings": isinstance(hosts, list)
        and all(isinstance(name, str) for name in hosts),
        "`request_timeout` must be a number of seconds above 0": number and timeout > 0,
        "`verify_certs` must be true or false": isinstance(extra.get("verify_certs", True), bool),
        "`api_key` must be a string": isinstance(extra.get("api_key"), str | None),
        "`ca_certs` must be a string": isinstance(extra.get("ca_certs"), str | None),
    }
    return [f"extra {sentence}" for sentence, holds in right.items() if not holds]


def _host_url(name: str, *, scheme: str, port: int | None) -> str:
    """Return ``scheme://host:port`` for a host with or without scheme and port.

    :raises ValueError: it is not such a host. The message doesn't repeat credentials.
    """
    parts = urlsplit(name if "://" in name else f"{scheme}://{name}")
    if parts.username or parts.password:
        raise ValueError("a host holds credentials: put them into login and password")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"the scheme of {name!r} must be http or https, not {parts.scheme!r}")
    try:
        number = parts.port or port or DEFAULT_PORT
    except ValueError as error:
        raise ValueError(f"the port of {name!r} is not one: {error}") from error
    if not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{name!r} is not a host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{number}{parts.path.rstrip('/')}"
