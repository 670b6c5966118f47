"""A real Elasticsearch that takes HTTPS only, with a CA of its own, passwords and API keys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_lag_provider.errors import (
    ElasticsearchAccessDenied,
    ElasticsearchConnectionInvalid,
    ElasticsearchNotTrusted,
    ElasticsearchUnreachable,
    StoreError,
)
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_flush import flush
from airflow_lag_provider.spool import Spool
from lab.certificates import Certificates
from lab.elasticsearch import Elasticsearch
from lab.elasticsearch_keys import key_module
from lab.workspace import Workspace
from tests.integration.hooks.tasks import INDEX, Tasks
from tests.integration.support import ROLES, SUPERUSER, WRITER

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MAY_WRITE = ["create_index", "auto_configure", "view_index_metadata", "index", "read"]


@pytest.fixture(scope="module")
def server() -> Iterator[Elasticsearch]:
    with Workspace() as workspace:
        server = Elasticsearch(
            workspace=workspace,
            users=(SUPERUSER, WRITER),
            roles=ROLES,
            tls=True,
            modules=(key_module(lambda _: None),),
        )
        server.start()
        yield server
        server.stop()


@pytest.fixture
def certificates(server: Elasticsearch) -> Certificates:
    assert server.certificates
    return server.certificates


@pytest.fixture
def tasks(server: Elasticsearch, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    """The server without our index, and tasks without a connection."""
    server.request("DELETE", f"/{INDEX}?ignore_unavailable=true")
    return Tasks(server, monkeypatch)


def fails(tasks: Tasks, kind: type[StoreError], *words: str) -> None:
    """Assert how the next task fails, and that it leaves nothing."""
    ended = tasks.run("failed")
    assert type(ended.error) is kind, ended.text
    assert ended.retried is kind.retriable
    assert all(word in ended.text for word in ("elastic", *words)), ended.text
    assert "hush" not in ended.text
    assert not tasks.documents()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_ca_of_ones_own_is_trusted(
    server: Elasticsearch, certificates: Certificates, tasks: Tasks, host: str
) -> None:
    """With its file in the connection the task stores its document, by each name of the server."""
    connection = {**server.connection(WRITER), "host": host}
    tasks.connect(connection, ca_certs=str(certificates.authority))
    assert tasks.run("run").result
    assert tasks.documents().keys() == {"run"}
    works, words = LagElasticsearchHook(elasticsearch_conn_id="elastic").test_connection()
    assert works, words


def test_without_checks_any_certificate_will_do(server: Elasticsearch, tasks: Tasks) -> None:
    """Whoever says so in the connection gets no check."""
    tasks.connect(server.connection(WRITER), verify_certs=False)
    assert tasks.run("run").result
    assert tasks.documents().keys() == {"run"}


@pytest.mark.parametrize("which", ["none", "stranger"])
def test_a_ca_that_is_not_the_servers_is_no_way_in(
    server: Elasticsearch, certificates: Certificates, tasks: Tasks, which: str
) -> None:
    """The error says that the certificate isn't trusted, and where its CA belongs."""
    extra = {"ca_certs": str(certificates.stranger)} if which == "stranger" else {}
    tasks.connect(server.connection(WRITER), **extra)
    fails(
        tasks,
        ElasticsearchNotTrusted,
        f"https://127.0.0.1:{server.port}",
        "CERTIFICATE_VERIFY_FAILED",
        "`ca_certs`",
    )


def test_a_file_without_a_ca_is_named(server: Elasticsearch, tasks: Tasks, tmp_path: Path) -> None:
    """One that isn't there and one that is none are a matter of the connection."""
    wrong = tmp_path / "ca.pem"
    tasks.connect(server.connection(WRITER), ca_certs=str(wrong))
    fails(tasks, ElasticsearchConnectionInvalid, "ca_certs")
    wrong.write_text("no certificate\n")
    tasks.connect(server.connection(WRITER), ca_certs=str(wrong))
    fails(tasks, ElasticsearchConnectionInvalid, "Correct the Elasticsearch connection")


def test_plain_http_is_not_answered(server: Elasticsearch, tasks: Tasks) -> None:
    """The advice names the scheme."""
    tasks.connect({**server.connection(WRITER), "schema": "http"})
    fails(tasks, ElasticsearchUnreachable, f"http://127.0.0.1:{server.port}", "scheme")


def test_a_document_waits_until_the_certificate_is_trusted(
    server: Elasticsearch,
    certificates: Certificates,
    tasks: Tasks,
    spool: Spool,
) -> None:
    """Somebody who changed the server's certificate loses no snapshot."""
    tasks.connect(server.connection(WRITER), ca_certs=str(certificates.stranger))
    ended = tasks.run("waiting")
    assert ended.result
    assert ended.result["waiting"] == 1
    assert asyncio.run(flush(spool)).left == 1
    tasks.connect(server.connection(WRITER), ca_certs=str(certificates.authority))
    assert len(asyncio.run(flush(spool)).sent) == 1
    assert tasks.documents().keys() == {"waiting"}
    assert spool.files() == []


class TestApiKeys:
    """What an API key in the connection's extra lets a task do."""

    @pytest.fixture
    def use(self, server: Elasticsearch, certificates: Certificates, tasks: Tasks) -> Any:
        """Return a function that puts an API key into the connection of the next tasks."""

        def use(encoded: str) -> None:
            tasks.connect(
                server.connection(), ca_certs=str(certificates.authority), api_key=encoded
            )

        return use

    def test_a_key_stands_for_a_user(self, server: Elasticsearch, tasks: Tasks, use: Any) -> None:
        """With the rights that the README names, and no more, the document is stored."""
        use(make_key(server, MAY_WRITE)["encoded"])
        assert tasks.run("run").result
        assert tasks.documents().keys() == {"run"}

    def test_a_key_without_the_right(self, server: Elasticsearch, tasks: Tasks, use: Any) -> None:
        """The server names the key's id, never the key."""
        tasks.server.request("PUT", f"/{INDEX}")
        made = make_key(server, ["view_index_metadata", "read"])
        use(made["encoded"])
        fails(tasks, ElasticsearchAccessDenied, "403", made["id"], "api_key")
        assert made["encoded"] not in tasks.run("again").text

    def test_a_key_that_was_taken_back(self, server: Elasticsearch, tasks: Tasks, use: Any) -> None:
        """It is a matter of credentials, which no other try helps."""
        made = make_key(server, MAY_WRITE)
        server.request("DELETE", "/_security/api_key", {"ids": [made["id"]]})
        use(made["encoded"])
        fails(tasks, ElasticsearchAccessDenied, "401", "api_key")

    @pytest.mark.parametrize("key", ["aHVzaDpodXNo", "hush"])
    def test_a_key_that_is_none(self, tasks: Tasks, use: Any, key: str) -> None:
        """Nobody's key, and what is not even the text of one; neither is repeated."""
        use(key)
        fails(tasks, ElasticsearchAccessDenied, "401", "api_key")
        assert key not in tasks.run("again").text


def make_key(server: Elasticsearch, privileges: list[str]) -> Any:
    """Return the id and the encoded form of a new API key with rights on our indices."""
    index = {"names": [f"{INDEX}*"], "privileges": privileges}
    role = {"cluster": ["monitor"], "indices": [index]}
    body = {"name": "lag", "role_descriptors": {"lag": role}}
    # The first one waits until the server has made the index of its keys.
    return server.request("POST", "/_security/api_key", body, timeout=60)
