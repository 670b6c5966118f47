"""docs/failures.md keeps up with the code."""

from __future__ import annotations

import pytest

from airflow_lag_provider import errors, recall
from airflow_lag_provider.errors import LagError
from lab import failures_page

KINDS = list(failures_page.kinds(LagError))


def test_the_page_is_what_the_error_types_say() -> None:
    """Whoever changes an error writes the page anew."""
    written = failures_page.PAGE.read_text(encoding="utf-8")
    assert written == failures_page.page(written), f"run: {failures_page.COMMAND}"


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"LagError"}))
def test_every_error_is_on_the_page(name: str) -> None:
    """Also those that only hold others, as a heading or not at all."""
    kind = getattr(errors, name)
    written = failures_page.PAGE.read_text(encoding="utf-8")
    holds_others = kind in {errors.DescribeError, errors.SSHError, errors.StoreError}
    assert (kind in KINDS) is not holds_others
    assert holds_others or f"| `{name}` |" in written


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_says_what_happened_and_what_to_do(kind: type[LagError]) -> None:
    """A row without a cause or without advice helps nobody at night."""
    cells = [cell.strip() for cell in failures_page._row(kind).strip("|").split(" | ")]
    assert len(cells) == 5
    assert all(cells)
    assert cells[2] == ("yes" if kind.retriable else "no")


def test_the_page_has_the_limit_of_asking_for_earlier_snapshots() -> None:
    """What was written by hand keeps up too where it names a number of the code."""
    written = failures_page.PAGE.read_text(encoding="utf-8")
    assert f"and for {recall._PATIENCE_SECONDS:g} seconds at most" in written


def test_a_page_without_marks_is_not_written() -> None:
    """The frame that was written by hand is never lost."""
    with pytest.raises(ValueError, match="marks"):
        failures_page.page("# Something else\n")
