"""Connection settings and version negotiation of the Elasticsearch client."""

from __future__ import annotations

import asyncio
import json
import logging
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch
from elasticsearch import __version__ as client_version

from airflow_lag_provider import errors
from airflow_lag_provider.hooks.elasticsearch_client import (
    NegotiatingTransport,
    connection_settings,
    quiet_client,
)


def settings_of(extra: dict[str, Any] | None = None, **fields: Any) -> Any:
    given = {"host": "es-1", "port": None, "scheme": None, "login": None, "password": None}
    return connection_settings(conn_id="es", extra=extra or {}, **{**given, **fields})


@pytest.mark.parametrize(
    ("fields", "extra", "hosts"),
    [
        ({}, {}, ("http://es-1:9200",)),
        ({"port": 9201, "scheme": "https"}, {}, ("https://es-1:9201",)),
        ({"host": "es-1,es-2, es-3"}, {}, tuple(f"http://es-{n}:9200" for n in (1, 2, 3))),
        ({"host": "es-1:9201,es-2"}, {}, ("http://es-1:9201", "http://es-2:9200")),
        (
            {"host": None},
            {"hosts": ["https://es-1:9243/proxy/", "es-2:1"]},
            ("https://es-1:9243/proxy", "http://es-2:1"),
        ),
        ({"host": "[::1]:9201"}, {}, ("http://[::1]:9201",)),
    ],
)
def test_hosts_come_from_the_connection(
    fields: dict[str, Any], extra: dict[str, Any], hosts: tuple[str, ...]
) -> None:
    """One host, several with commas, or a list in the extra, each with or without a port."""
    assert settings_of(extra, **fields).hosts == hosts


def test_every_mistake_of_a_connection_is_named_at_once() -> None:
    """A connection with four mistakes gives one error with all four and the connection's id."""
    with pytest.raises(errors.ElasticsearchConnectionInvalid) as raised:
        settings_of(
            {"verify_certs": "yes", "request_timeout": 0, "api_key": "k"},
            host="ftp://es-1",
            login="u",
        )
    message = str(raised.value)
    for words in ("'es'", "verify_certs", "request_timeout", "api_key", "ftp"):
        assert words in message


@pytest.mark.parametrize("host", [None, "", " , "])
def test_a_connection_without_a_host_is_refused(host: str | None) -> None:
    """There is no host to guess."""
    with pytest.raises(errors.ElasticsearchConnectionInvalid, match="no host"):
        settings_of(host=host)


def test_credentials_in_a_host_are_refused_and_not_repeated() -> None:
    """A password in a URL would show in messages, so it is sent to its own field."""
    with pytest.raises(errors.ElasticsearchConnectionInvalid, match="credentials") as raised:
        settings_of(host="http://user:hush@es-1:9200")
    assert "hush" not in str(raised.value)


def test_secrets_do_not_show_in_the_settings() -> None:
    """A logged settings object shows no password and no API key."""
    assert "hush" not in repr(settings_of(login="u", password="hush"))
    assert "hush" not in repr(settings_of({"api_key": "hush"}))


def test_a_connection_written_as_a_uri_has_texts_for_all_values() -> None:
    """Texts that mean true, false, a number or a list are taken as such."""
    settings = settings_of(
        {"verify_certs": "false", "request_timeout": "10", "hosts": '["https://a", "b:1"]'}
    )
    assert (settings.verify_certs, settings.request_timeout) == (False, 10.0)
    assert settings.hosts == ("https://a:9200", "http://b:1")


def test_an_extra_that_means_nothing_is_named() -> None:
    """A misspelt extra is not silently ignored."""
    assert settings_of({"ca_cert": "/x"}).unused_extras == ("ca_cert",)


NEW = client_version[0]
OLD = NEW - 1


class OldServer(BaseHTTPRequestHandler):
    """Answers as a server does to a client of the next version."""

    asked: list[str]

    def do_POST(self) -> None:
        accept = self.headers["Accept"]
        self.asked.append(accept)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        refused = f"compatible-with={NEW}" in accept
        reason = (
            "A compatible version is required on both Content-Type and Accept headers. Accept "
            f"version must be either version {OLD} or {OLD - 1}, but found {NEW}."
        )
        error = {"error": {"type": "media_type_header_exception", "reason": reason}}
        body = json.dumps(error if refused else {"result": "created"}).encode()
        self.send_response(400 if refused else 201)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST

    def log_message(self, *_: Any) -> None:
        pass


def test_a_newer_client_learns_the_servers_version_once() -> None:
    """The first refusal is answered by asking again, and later requests ask rightly at once."""
    handler = type("Handler", (OldServer,), {"asked": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()

    async def write_twice() -> None:
        async with AsyncElasticsearch(
            f"http://127.0.0.1:{server.server_port}", transport_class=NegotiatingTransport
        ) as client:
            await client.index(index="i", id="1", document={})
            await client.index(index="i", id="2", document={})

    try:
        asyncio.run(write_twice())
    finally:
        server.shutdown()
        server.server_close()
    assert [accept.rpartition("=")[2] for accept in handler.asked] == [str(NEW), str(OLD), str(OLD)]


@pytest.mark.parametrize(("wanted", "level"), [(logging.NOTSET, "ERROR"), (logging.DEBUG, "DEBUG")])
def test_the_client_logs_nothing_on_the_event_loop_unless_somebody_wants_it(
    wanted: int, level: str
) -> None:
    """While Elasticsearch is away each attempt has its warnings; a level set by hand stays."""
    logger = logging.getLogger("elastic_transport")
    before = logger.level
    logger.setLevel(wanted)
    try:
        quiet_client()
        assert logging.getLevelName(logger.level) == level
    finally:
        logger.setLevel(before)
