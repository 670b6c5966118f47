"""Connection settings, version negotiation and errors of the Elasticsearch client."""

from __future__ import annotations

import asyncio
import json
import logging
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from elastic_transport import (
    ApiResponseMeta,
    ConnectionTimeout,
    HttpHeaders,
    NodeConfig,
    SerializationError,
)
from elastic_transport import ConnectionError as ClientConnectionError
from elasticsearch import ApiError, AsyncElasticsearch, BadRequestError, NotFoundError
from elasticsearch import __version__ as client_version

from airflow_lag_provider import errors
from airflow_lag_provider.hooks.elasticsearch_client import (
    NegotiatingTransport,
    connection_settings,
    item_error,
    quiet_client,
    store_error,
)
from airflow_lag_provider.hooks.elasticsearch_session import Document, Session


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


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionTimeout("slow"), errors.ElasticsearchTimedOut),
        (TimeoutError(), errors.ElasticsearchTimedOut),
        (ClientConnectionError("refused"), errors.ElasticsearchUnreachable),
        (SerializationError("<html>"), errors.ElasticsearchUnreachable),
    ],
)
def test_faults_on_the_way_have_their_own_errors(
    error: Exception, kind: type[errors.StoreError]
) -> None:
    """A time-out and a refused connection are told apart, and both can be retried."""
    translated = store_error(error, where="connection es (http://es-1:9200)")
    assert type(translated) is kind
    assert translated.retriable
    assert "http://es-1:9200" in str(translated)


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


def test_of_each_document_it_is_said_alone_what_became_of_it() -> None:
    """One that can't be read takes nothing from what is known of the others."""
    found = {"event": {"outcome": "success"}}

    async def mget(**_: Any) -> Any:
        error = {"type": "no_shard_available_action_exception", "reason": "gone"}
        return {
            "docs": [
                {"_index": "lag", "_id": "1", "found": True, "_source": found},
                {"_index": "lag", "_id": "2", "error": error},
                {"_index": "lag", "_id": "3", "found": False},
            ]
        }

    client: Any = SimpleNamespace(mget=mget)
    session = Session(client, index="lag", mapping=None, where="here", seconds=5)
    first, second, third = asyncio.run(session.outcomes("1", "2", "3"))
    assert (first, third) == (found, None)
    assert isinstance(second, errors.DocumentUnreadable)
    assert "gone" in str(second)


def api_error(status: int, type_: str, reason: str) -> ApiError:
    """Return an error as the client raises it."""
    kinds: dict[int, type[ApiError]] = {400: BadRequestError, 404: NotFoundError}
    meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.1, NodeConfig("http", "es-1", 9200))
    body = {"error": {"type": type_, "reason": reason}, "status": status}
    return kinds.get(status, ApiError)(type_, meta=meta, body=body)


SHARDS = (
    "this action would add [2] shards, but this cluster has [10]/[10] maximum normal shards open;"
)
NO_INDEX = ("index_not_found_exception", "no such index [lag]")
NO_WRITE_INDEX = ("illegal_argument_exception", "no write index is defined for alias [lag]. The")


@pytest.mark.parametrize("call", ["create", "put_mapping"])
def test_an_index_that_can_not_be_seen_to_says_nothing_of_the_documents(call: str) -> None:
    """No room for its shards or its fields: all of them fit once somebody has made some."""

    async def get_mapping(**_: Any) -> Any:
        if call == "create":
            raise api_error(404, *NO_INDEX)
        return {"lag": {"mappings": {}}}

    async def refused(**_: Any) -> Any:
        raise api_error(400, "validation_exception", SHARDS)

    client: Any = SimpleNamespace(
        indices=SimpleNamespace(**{"get_mapping": get_mapping, call: refused})
    )
    session = Session(client, index="lag", mapping=None, where="here", seconds=5)
    with pytest.raises(errors.IndexUnusable, match="maximum normal shards"):
        asyncio.run(session.write(Document("1", 1, {})))


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (404, NO_INDEX, errors.IndexUnusable),
        (400, NO_WRITE_INDEX, errors.IndexUnusable),
        (400, ("validation_exception", SHARDS), errors.IndexUnusable),
        (400, ("document_parsing_exception", "failed to parse"), errors.DocumentRefused),
    ],
)
def test_an_index_that_is_gone_and_a_document_that_does_not_fit_are_told_apart(
    status: int, words: tuple[str, str], kind: type[errors.StoreError]
) -> None:
    """Of a request and of a document in one: only the second is refused for good."""
    assert type(store_error(api_error(status, *words), where="here")) is kind
    item = {
        "_index": "lag",
        "status": status,
        "error": dict(zip(("type", "reason"), words, strict=True)),
    }
    assert type(item_error(item)) is kind


def test_a_request_that_is_refused_as_a_whole_is_no_word_on_each_document() -> None:
    """A proxy finds it too large, for one document alone or for all together: halves are sent."""
    sizes: list[int] = []

    async def get_mapping(**_: Any) -> Any:
        return {}

    async def bulk(*, operations: Any, **_: Any) -> Any:
        names = [line["index"]["_id"] for line in operations[::2]]
        sizes.append(len(names))
        if len(names) > 4 or "3" in names:
            raise api_error(413, "too_large", "Request Entity Too Large")
        items = [{"_index": "lag", "_id": one, "status": 201} for one in names]
        return {"items": [{"index": one} for one in items]}

    client: Any = SimpleNamespace(indices=SimpleNamespace(get_mapping=get_mapping), bulk=bulk)
    session = Session(client, index="lag", mapping=None, where="here", seconds=5)
    fates = asyncio.run(session.write(*(Document(str(n), 1, {}) for n in range(8))))
    assert [n for n, fate in enumerate(fates) if fate] == [3]
    assert isinstance(fates[3], errors.DocumentRefused)
    assert "413" in str(fates[3])
    assert sizes == [8, 4, 2, 2, 1, 1, 4]
