"""What the client's errors become."""

from __future__ import annotations

import pytest
from elastic_transport import ConnectionError as ClientConnectionError
from elastic_transport import ConnectionTimeout, SerializationError

from airflow_lag_provider import errors
from airflow_lag_provider.hooks.elasticsearch_errors import item_error, store_error
from tests.unit.hooks.answers import NO_INDEX, NO_WRITE_INDEX, SHARDS, api_error


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
