"""Every captured output: all of them have their result, and damaged ones never a made-up figure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_lag_provider import errors
from airflow_lag_provider.describe import GroupDescription, parse
from airflow_lag_provider.errors import DescribeError

FIXTURES = Path(__file__).parent / "fixtures" / "describe"
CAPTURES = sorted(path.with_suffix("") for path in FIXTURES.glob("*/*.out"))
GROUPS = {
    "b4-newprotocol": "new-protocol",
    "b4-newprotocol-verbose": "new-protocol",
    "deleted": "gone-group",
    "idle-members": "idle-group",
    "negative": "neg-group",
    "partial": "partial-group",
    "rebalancing": "rebal-group",
}
# Error type and state of a failure, or the state and the number of partitions.
EXPECTED: dict[str, type[DescribeError] | tuple[str, int]] = {
    "acl-group-denied": errors.AuthorizationDenied,
    "acl-topic-denied": errors.NothingPrinted,
    "active": ("active", 54),
    "b4-newprotocol": ("active", 6),
    "b4-newprotocol-verbose": ("active", 6),
    "b4-nogroup": errors.GroupNotFound,
    "badarg": errors.OptionRefused,
    "deleted": ("empty", 1),
    "empty": ("empty", 54),
    "hung": errors.BrokerUnreachable,
    "idle-members": ("active", 3),
    "mixed": ("active", 5),
    "negative": ("empty", 3),
    "noconfig": errors.CommandConfigNotFound,
    "nogroup": errors.GroupNotFound,
    "partial": ("empty", 9),
    "rebalancing": ("rebalancing", 18),
    "refused": errors.BrokerUnreachable,
    "sasl-missing": errors.BrokerUnreachable,
    "sasl-wrong": errors.AuthenticationFailed,
    "unresolvable": errors.BrokerUnreachable,
}
# What the old tool can't see of a 4.x broker's groups.
OLD_TOOL = {"2.6.2/b4-newprotocol": errors.GroupNotFound} | {
    "2.6.2/b4-newprotocol-verbose": errors.GroupNotFound
}


def streams(capture: Path) -> tuple[str, str, int]:
    out, err, code = (
        capture.with_name(f"{capture.name}.{kind}").read_bytes().decode()
        for kind in ("out", "err", "rc")
    )
    return out, err, int(code)


def name_of(capture: Path) -> str:
    return f"{capture.parent.name}/{capture.name}"


def group_of(capture: Path) -> str:
    return GROUPS.get(capture.name, "oasis-group")


def read(out: str, err: str, code: int, *, group: str) -> GroupDescription | DescribeError:
    try:
        return parse(out, err, code, group=group)
    except DescribeError as error:
        return error


@pytest.mark.parametrize("capture", CAPTURES, ids=name_of)
def test_every_capture_has_its_meaning(capture: Path) -> None:
    """What a state is called by one version it is called by all, and each error says what to do."""
    expected = OLD_TOOL.get(name_of(capture)) or EXPECTED[capture.name]
    found = read(*streams(capture), group=group_of(capture))
    if isinstance(found, DescribeError):
        assert type(found) is expected
        assert found.__doc__
        assert found.advice
    else:
        assert (found.state, len(found.partitions)) == expected


def damaged(draw: st.DrawFn, text: str) -> str:
    """Return a text with lines lost, doubled, cut, joined or changed in one character."""
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        place = draw(st.integers(0, len(line)))
        kind = draw(st.sampled_from(["cut", "lost", "doubled", "joined", "changed", "inserted"]))
        if kind == "cut":
            lines[at] = line[:place]
        elif kind == "lost":
            lines[at] = ""
        elif kind == "doubled":
            lines.insert(at, line)
        elif kind == "joined" and at + 1 < len(lines):
            lines[at] += lines[at + 1]
        elif kind == "changed":
            lines[at] = line[:place] + draw(st.characters(codec="utf-8")) + line[place + 1 :]
        else:
            lines[at] = line[:place] + draw(st.sampled_from([" ", "-", "0", "\t"])) + line[place:]
    return "\n".join(lines)


@given(data=st.data(), capture=st.sampled_from(CAPTURES))
@settings(max_examples=150, deadline=None)
def test_a_damaged_capture_gives_a_result_or_a_describe_error(
    data: st.DataObject, capture: Path
) -> None:
    """Never another exception, and every figure of a result stood in the output as a number."""
    out, err, code = streams(capture)
    out = data.draw(st.composite(damaged)(out))
    err = data.draw(st.just(err) | st.composite(damaged)(err))
    found = read(out, err, code, group=group_of(capture))
    if isinstance(found, DescribeError):
        assert 0 < len(found.message) < 500
        assert found.message.isprintable()
    else:
        assert code == 0
        _assert_printed(found, out)


def _assert_printed(found: GroupDescription, out: str) -> None:
    printed = {int(number) for number in re.findall(r"-?[0-9]+", out)}
    for row in found.partitions:
        for figure in (row.partition, row.committed, row.end, row.lag):
            assert figure is None or figure in printed
        assert row.topic in out


@pytest.mark.parametrize("version", ["2.6.2", "3.9.1", "4.3.1"])
def test_an_output_cut_anywhere_has_no_figure_that_the_whole_one_lacks(version: str) -> None:
    """A prefix may have fewer rows, or an error; a row of it is a row of the whole output.

    (An output that was cut has no end marker and is not read at all.)
    """
    out, err, code = streams(FIXTURES / version / "negative")
    whole = parse(out, err, code, group="neg-group")
    last_line = out.rstrip("\n").rindex("\n")
    for end in range(last_line + 1):
        found = read(out[:end], err, code, group="neg-group")
        if isinstance(found, DescribeError):
            continue
        for row in found.partitions:
            figures = (row.topic, row.partition, row.committed, row.end, row.lag)
            assert any(
                figures == (one.topic, one.partition, one.committed, one.end, one.lag)
                for one in whole.partitions
            ), out[:end]
