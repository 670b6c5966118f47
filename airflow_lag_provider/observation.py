"""What became of the topics of one task: which snapshots are stored, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_lag_provider import remarks
from airflow_lag_provider.documents import Document, Failed
from airflow_lag_provider.errors import LagError
from airflow_lag_provider.snapshot import TopicSnapshot

if TYPE_CHECKING:
    from airflow_lag_provider.hooks.elasticsearch_spool import Waits


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot whose document is in Elasticsearch, or waits for it in the spool.

    :param document_id: the document's ``_id``.
    :param index: its index.
    :param waits: whether it waits in the spool.
    """

    snapshot: TopicSnapshot
    document_id: str
    index: str
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What became of the topics of one task.

    :param stored: the snapshots whose documents are in Elasticsearch or wait for it.
    :param failed: the other topics.
    :param error: why they are among them: the first topic's, with notes on the others; ``None``
        when all are stored.
    :param others: all that went wrong besides, each once: with other topics, and with their
        documents.
    """

    # Not shown: asyncio.run makes the text of a result twice, for nobody.
    stored: tuple[StoredSnapshot, ...] = field(repr=False)
    failed: tuple[str, ...] = ()
    error: LagError | None = None
    others: tuple[LagError, ...] = field(default=(), repr=False)

    @property
    def retry_helps(self) -> bool:
        """Whether another try may store more: a snapshot, or the document of a failure."""
        return any(one.retriable for one in (self.error, *self.others) if one)

    @classmethod
    def of(
        cls,
        results: Sequence[TopicSnapshot | Failed],
        documents: Sequence[Document],
        fates: Sequence[Waits | LagError | None],
        *,
        index: str,
    ) -> Observation:
        """Return what became of the topics.

        :param documents: one for each result.
        :param fates: of each document why it could not be written, ``None`` for one that was, or
            that it waits.
        :param index: that of the documents.
        """
        stored: list[StoredSnapshot] = []
        errors: dict[str, LagError] = {}
        for result, document, fate in zip(results, documents, fates, strict=True):
            if isinstance(result, Failed):
                errors[result.topic] = result.error
            elif isinstance(fate, LagError):
                errors[result.topic] = fate
            else:
                waits = fate is not None
                stored.append(StoredSnapshot(result, document.id, index, waits=waits))
        error = _shown(errors, results, fates)
        refused = (fate for fate in fates if isinstance(fate, LagError))
        others = [one for one in dict.fromkeys((*errors.values(), *refused)) if one is not error]
        return cls(tuple(stored), tuple(errors), error, tuple(others))


def _shown(
    errors: dict[str, LagError],
    results: Sequence[TopicSnapshot | Failed],
    fates: Sequence[Waits | LagError | None],
) -> LagError | None:
    """Return the error that the task shows, with notes on what else went wrong.

    :param errors: by topic.
    """
    # A missing snapshot says more than a document that wasn't written.
    taken = {one.topic for one in results if isinstance(one, TopicSnapshot)}
    error = next((errors[topic] for topic in sorted(errors, key=taken.__contains__)), None)
    if error is None:
        return None
    if len(errors) > 1:
        named = remarks.named(list(errors))
        error.add_note(f"Failed topics, {len(errors)} of {len(results)}: {named}.")
    failures = (fate for one, fate in zip(results, fates, strict=True) if isinstance(one, Failed))
    if unwritten := next((fate for fate in failures if isinstance(fate, LagError)), None):
        error.add_note(f"The failure document could not be written either: {unwritten}")
    return error
