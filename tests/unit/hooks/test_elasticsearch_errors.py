"""What the client's errors become."""

from __future__ import annotations

from typing import Any

import pytest
from elastic_transport import ConnectionError as ClientConnectionError
from elastic_transport import ConnectionTimeout, SerializationError, TlsError
from elasticsearch.serializer import JsonSerializer, NdjsonSerializer

from airflow_lag_provider import errors
from airflow_lag_provider.hooks.elasticsearch_errors import item_error, store_error
from tests.unit.hooks.answers import (
    FIELDS,
    NO_INDEX,
    NO_WRITE_INDEX,
    SHARDS,
    api_error,
    other_error,
)


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


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (404, NO_INDEX, errors.IndexUnusable),
        (400, NO_WRITE_INDEX, errors.IndexUnusable),
        (400, ("validation_exception", SHARDS), errors.IndexUnusable),
        (400, FIELDS, errors.IndexUnusable),
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


def test_a_document_that_can_not_be_written_as_json_is_not_the_answers_fault() -> None:
    """The client has one error for both ways; only an answer may be another one next time."""
    for client in (JsonSerializer(), NdjsonSerializer()):
        with pytest.raises(SerializationError) as sent:
            client.dumps([{"topic": object()}])
        assert type(store_error(sent.value, where="here")) is errors.DocumentRefused
        with pytest.raises(SerializationError) as came:
            client.loads(b"<html>")
        assert type(store_error(came.value, where="here")) is errors.ElasticsearchUnreachable


PAGE = "<html><body>Moved</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        *((status, PAGE, errors.ElasticsearchUnreachable) for status in (302, 400, 404, 405, 408)),
        (404, {"message": "no Route matched"}, errors.ElasticsearchUnreachable),
        (404, {"error": "no route"}, errors.ElasticsearchUnreachable),
        (404, None, errors.ElasticsearchUnreachable),
        (401, PAGE, errors.ElasticsearchAccessDenied),
        (403, PAGE, errors.ElasticsearchAccessDenied),
        (413, PAGE, errors.DocumentRefused),
        (429, PAGE, errors.ElasticsearchOverloaded),
        (502, PAGE, errors.ElasticsearchOverloaded),
    ],
)
def test_what_a_proxy_says_is_no_word_on_a_document(
    status: int, body: Any, kind: type[errors.StoreError]
) -> None:
    """It may stand in for Elasticsearch for a while; only what is too large stays so."""
    error = store_error(other_error(status, body), where="connection es (http://es-1:9200)")
    assert type(error) is kind
    assert str(status) in error.message
    assert "http://es-1:9200" in error.message


def test_a_certificate_that_is_not_trusted_is_no_matter_of_trying_again() -> None:
    """Any other fault of TLS may pass."""
    words = "ssl:True [SSLCertVerificationError: (1, '[SSL: {}] failed (_ssl.c:1006)')]"
    where = "connection es (https://es-1:9200)"
    refused = store_error(TlsError(words.format("CERTIFICATE_VERIFY_FAILED")), where=where)
    assert type(refused) is errors.ElasticsearchNotTrusted
    assert not refused.retriable
    assert "ca_certs" in str(refused)
    broken = store_error(TlsError(words.format("RECORD_LAYER_FAILURE")), where=where)
    assert type(broken) is errors.ElasticsearchUnreachable


NO_MASTER = ("cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/2/no master];")
READ_ONLY = ("cluster_block_exception", "index [lag] blocked by: [FORBIDDEN/8/index write (api)];")
DISK_FULL = (
    "cluster_block_exception",
    "index [lag] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, "
    "index has read-only-allow-delete block];",
)
NO_SHARD = ("unavailable_shards_exception", "[lag][0] primary shard is not active Timeout: [3s]")


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (503, NO_MASTER, errors.ElasticsearchTimedOut),
        (503, NO_SHARD, errors.ElasticsearchTimedOut),
        (503, ("master_not_discovered_exception", ""), errors.ElasticsearchTimedOut),
        (503, ("service_unavailable", "nobody is there"), errors.ElasticsearchOverloaded),
        (502, ("bad_gateway", "a proxy"), errors.ElasticsearchOverloaded),
        (429, ("es_rejected_execution_exception", "full"), errors.ElasticsearchOverloaded),
        (429, DISK_FULL, errors.IndexBlocked),
        (403, READ_ONLY, errors.IndexBlocked),
        (400, ("index_closed_exception", "closed"), errors.IndexBlocked),
        (403, ("security_exception", "is unauthorized"), errors.ElasticsearchAccessDenied),
        (401, ("security_exception", "missing"), errors.ElasticsearchAccessDenied),
    ],
)
def test_a_block_that_passes_and_one_that_somebody_made_are_told_apart(
    status: int, words: tuple[str, str], kind: type[errors.StoreError]
) -> None:
    """Without a master everything is blocked, until there is one; a read-only index stays so."""
    assert type(store_error(api_error(status, *words), where="here")) is kind
    error = dict(zip(("type", "reason"), words, strict=True))
    assert type(item_error({"_index": "lag", "status": status, "error": error})) is kind
