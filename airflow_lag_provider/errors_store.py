"""Why a document could not be written or read; the tree is drawn in ``errors.py``."""

from __future__ import annotations

from airflow_lag_provider.errors_base import LagError


class StoreError(LagError):
    """A document could not be written to Elasticsearch, or read there."""


class ElasticsearchConnectionInvalid(StoreError):
    """The Airflow connection is missing, or one of its values can't be used."""

    advice = "Correct the Elasticsearch connection in Airflow."


class ElasticsearchConnectionNotRead(StoreError):
    """Airflow did not hand out the connection in time; the cluster was not asked for anything."""

    retriable = True
    advice = (
        "Check Airflow's API server (2.11: its database), and the secrets backend if there is one."
    )


class ElasticsearchUnreachable(StoreError):
    """No connection to any of the hosts, TLS failed, or what answered is not Elasticsearch."""

    retriable = True
    advice = "Check hosts, port and scheme (http or https) of the connection, and proxies between."


class ElasticsearchNotTrusted(StoreError):
    """The server's certificate is of a CA that the connection doesn't trust, or for other names."""

    advice = (
        "Put the path of a file with the CA's certificate (PEM), on the host where this task ran, "
        "into the connection's extra as `ca_certs`, and connect by a name or an address that the "
        "server's certificate holds."
    )


class ElasticsearchTimedOut(StoreError):
    """Elasticsearch did not answer in time, or it waited in vain for a shard or a master node."""

    retriable = True
    advice = (
        "Check the cluster's health; `request_timeout` (5 s) in the connection's extra is the "
        "limit of one request, three times that of a whole write."
    )


class ElasticsearchAccessDenied(StoreError):
    """The credentials are wrong, or the user lacks a right."""

    advice = (
        "Check login and password (or api_key) of the connection; its role needs create_index, "
        "auto_configure, view_index_metadata, index and read on the index."
    )


class ElasticsearchOverloaded(StoreError):
    """Elasticsearch could not take the request now (429, or any 5xx)."""

    retriable = True
    advice = "Check the cluster's health, its free disk space and its write queue."


class IndexBlocked(StoreError):
    """The index takes no writes (closed, read-only or blocked)."""

    advice = "Look at the index's `index.blocks.*` settings and at the free disk space."


class IndexUnusable(StoreError):
    """The index isn't there or can't be completed, and Elasticsearch refuses to see to it."""

    advice = (
        "Check the limit of shards (`cluster.max_shards_per_node`) and of fields "
        "(`index.mapping.total_fields.limit`), the index's templates and aliases, and "
        "`action.auto_create_index`."
    )


class DocumentRefused(StoreError):
    """Elasticsearch refused the document or the request itself."""

    advice = "Compare the index's mapping with include/mapping.json."


class DocumentUnreadable(StoreError):
    """Elasticsearch can't say whether a document is there."""

    advice = "Check the index's health, and that the role has the right `read` on it."


class SpoolFull(StoreError):
    """Elasticsearch can't be written to, and the spool has reached its limit."""

    retriable = True
    advice = (
        "Mend Elasticsearch, or raise `[lag] spool_max_bytes`; `airflow-lag spool` shows what "
        "the spool holds."
    )


class SpoolUnusable(StoreError):
    """The spool, in which a document should wait, can't be written or read."""

    retriable = True
    advice = (
        "`[lag] spool_dir` must be a directory of this process's user alone (mode 0700), on a "
        "disk that has room."
    )
