"""Groups drawn at random, printed as each version prints them, and read back."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_lag_provider.describe import GroupDescription, parse
from airflow_lag_provider.errors import DescribeError
from airflow_lag_provider.snapshot import PartitionLag

INT64 = 2**63 - 1


class Described(NamedTuple):
    group: str
    rows: list[PartitionLag]


def shown(value: object, nothing: str = "-") -> str:
    return nothing if value is None else str(value)


def host_of(row: PartitionLag, nothing: str = "-") -> str:
    return nothing if row.host is None else f"/{row.host}"


def figures(row: PartitionLag, nothing: str = "-") -> list[str]:
    return [shown(n, nothing) for n in (row.committed, row.end, row.lag)]


def width(values: Sequence[str]) -> int:
    return max([15, *map(len, values)])


def owner_0_9(row: PartitionLag) -> str:
    return "none" if row.consumer is None else f"{row.client}_/{row.host}"


def print_0_9(described: Described) -> str:
    """Print with commas, `unknown` and `none`."""
    lines = ["GROUP, TOPIC, PARTITION, CURRENT OFFSET, LOG END OFFSET, LAG, OWNER"]
    for row in described.rows:
        cells = [described.group, row.topic, str(row.partition)]
        lines.append(", ".join([*cells, *figures(row, "unknown"), owner_0_9(row)]))
    return "\n".join(lines) + "\n"


def print_0_10_0(described: Described) -> str:
    """Print fixed widths that long values overflow, with an OWNER column."""
    form = "{:<30} {:<30} {:<10} {:<15} {:<15} {:<15} {}".format
    lines = [
        form("GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "OWNER")
    ]
    for row in described.rows:
        cells = (described.group, row.topic, row.partition)
        lines.append(form(*cells, *figures(row, "unknown"), owner_0_9(row)))
    return "\n".join(lines) + "\n"


COLUMNS = ("TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG")
OWNER = ("CONSUMER-ID", "HOST", "CLIENT-ID")


def cells_of(row: PartitionLag) -> list[str]:
    owner = [shown(row.consumer), host_of(row), shown(row.client)]
    return [row.topic, str(row.partition), *figures(row), *owner]


def print_0_10_2(described: Described) -> str:
    """Print without a group, the consumer id running into the host."""
    form = "{:<30} {:<10} {:<15} {:<15} {:<10} {:<50}{:<30} {}".format
    lines = ["", form(*COLUMNS, *OWNER), *(form(*cells_of(row)) for row in described.rows)]
    lines.append(form("-", "-", "-", "-", "-", "idle-" + "c" * 36, "/10.9.9.9", "idle"))
    return "\n".join(lines) + "\n"


def columns_of(rows: Sequence[PartitionLag]) -> str:
    topic = width([row.topic for row in rows])
    consumer, host = width([shown(r.consumer) for r in rows]), width([host_of(r) for r in rows])
    return f"{{:<{topic}}} {{:<10}} {{:<15}} {{:<15}} {{:<15}} {{:<{consumer}}} {{:<{host}}} {{}}"


def print_1_1(described: Described) -> str:
    """Print without a group, each text column as wide as its longest value."""
    form = columns_of(described.rows).format
    lines = ["", form(*COLUMNS, *OWNER), *(form(*cells_of(row)) for row in described.rows)]
    return "\n".join(lines) + "\n"


def print_2_3(described: Described) -> str:
    """Print the group first."""
    form = f"{{:<{width([described.group])}}} {columns_of(described.rows)}".format
    rows = [form(described.group, *cells_of(row)) for row in described.rows]
    return "\n".join(["", form("GROUP", *COLUMNS, *OWNER), *rows]) + "\n"


def print_3_8(described: Described) -> str:
    """Print each line's break before it, so that the last line has none."""
    return print_2_3(described).removesuffix("\n")


def print_4_0(described: Described) -> str:
    """Print a line break after each group again."""
    return print_3_8(described) + "\n"


def print_4_0_verbose(described: Described) -> str:
    """Print the leader's epoch in the middle."""
    form = columns_of(described.rows).replace("{:<10} ", "{:<10} {:<15} ", 1)
    form = f"{{:<{width([described.group])}}} {form}"
    lines = ["", form.format("GROUP", *COLUMNS[:2], "LEADER-EPOCH", *COLUMNS[2:], *OWNER)]
    for row in described.rows:
        cells = cells_of(row)
        epoch = shown(row.partition if row.partition % 2 else None)
        lines.append(form.format(described.group, *cells[:2], epoch, *cells[2:]))
    return "\n".join(lines) + "\n"


OLD = [print_0_9, print_0_10_0]
GROUPLESS = [print_0_10_2, print_1_1]
GROUPED = [print_2_3, print_3_8, print_4_0, print_4_0_verbose]
PRINTERS = [*OLD, *GROUPLESS, *GROUPED]
Printer = Callable[[Described], str]

words = st.text("abcXYZ019._-", min_size=1, max_size=12)
spaced = st.lists(words, min_size=1, max_size=3).map(" ".join)
topics = st.one_of(words, st.sampled_from(["orders", "0", "7", "-", "a.b_c-d", "t" * 249]))
groups = st.one_of(spaced, st.sampled_from(["g" * 60, "Error", "WARN", "12 34", "größe", "-"]))
offsets = st.one_of(st.integers(0, 10**6), st.sampled_from([0, 2**31, INT64]))
hosts = st.sampled_from(["10.1.2.3", "127.0.0.1", "0:0:0:0:0:0:0:1", "ip-10-0-0-1.internal"])


@st.composite
def members(draw: st.DrawFn, clients: st.SearchStrategy[str]) -> tuple[str, str, str]:
    client = draw(clients)
    identity = uuid.UUID(int=draw(st.integers(0, 2**128 - 1)))
    base64 = draw(st.sampled_from(["bRxA92JRQn6Cjhhv4+Nolg", "/RxA9/JRQn6Cjhhv4+Nolg"]))
    consumer = draw(st.sampled_from([f"{client}-{identity}", base64]))
    return consumer, draw(hosts), client


@st.composite
def described(draw: st.DrawFn, clients: st.SearchStrategy[str] = spaced) -> Described:
    keys = draw(st.sets(st.tuples(topics, st.integers(0, 2000)), min_size=1, max_size=6))
    pool = draw(st.lists(members(clients), min_size=1, max_size=3))
    rows = []
    for topic, partition in draw(st.permutations(sorted(keys))):
        committed = draw(st.none() | offsets)
        end = draw(st.none() | offsets)
        lag = None if committed is None or end is None else end - committed
        owner = draw(st.sampled_from([(None, None, None), *pool]))
        rows.append(PartitionLag(topic, partition, committed, end, lag, *owner))
    return Described(draw(groups), rows)


def sorted_rows(rows: list[PartitionLag]) -> tuple[PartitionLag, ...]:
    return tuple(sorted(rows, key=lambda row: (row.topic, row.partition)))


@pytest.mark.parametrize("printer", [*GROUPLESS, *GROUPED])
@given(described=described())
@settings(max_examples=25, deadline=None)
def test_every_format_reads_back(printer: Printer, described: Described) -> None:
    """What a version since 0.10.2 prints of a group is read back to the last field."""
    found = parse(printer(described), "", 0, group=described.group)
    assert found == GroupDescription(described.group, "active", sorted_rows(described.rows))


@pytest.mark.parametrize("printer", OLD)
@given(described=described(clients=words))
@settings(max_examples=25, deadline=None)
def test_formats_with_an_owner_column_read_back(printer: Printer, described: Described) -> None:
    """Kafka 0.9 and 0.10.0 name client and host of an owner, which stand for its id too."""
    found = parse(printer(described), "", 0, group=described.group)
    for row, expected in zip(found.partitions, sorted_rows(described.rows), strict=True):
        owner = None if expected.consumer is None else owner_0_9(expected)
        assert (row.consumer, row.host, row.client) == (owner, expected.host, expected.client)
        assert row.topic == expected.topic
        assert row.partition == expected.partition
        assert (row.committed, row.end, row.lag) == (expected.committed, expected.end, expected.lag)


LOG_LINES = [
    "[2026-11-22 18:46:59,793] WARN [AdminClient clientId=a] Connection to node -1 failed (o.a.k)",
    "[2026-11-22 18:46:59,793] ERROR Uncaught exception (org.apache.kafka.common.utils.Kafka)",
    "2026-11-22 18:46:59 INFO AdminClientConfig values:",
    "\tbootstrap.servers = [127.0.0.1:9092]",
    "java.lang.IllegalStateException: odd",
    "\tat kafka.admin.ConsumerGroupCommand.main(ConsumerGroupCommand.scala)",
    "Caused by: java.io.IOException: Broken pipe",
    "log4j:WARN No appenders could be found for logger (kafka.utils).",
    'SLF4J: Failed to load class "org.slf4j.impl.StaticLoggerBinder".',
    "OpenJDK 64-Bit Server VM warning: Option UseConcMarkSweepGC was deprecated in version 9.0.",
    "Java HotSpot(TM) 64-Bit Server VM warning: ignoring option MaxPermSize=256m",
    "Picked up JAVA_TOOL_OPTIONS: -Dfile.encoding=UTF-8",
    "NOTE: Picked up JDK_JAVA_OPTIONS: -Xmx64m",
    "WARNING: An illegal reflective access operation has occurred",
    "[0.004s][warning][cds] Archived non-system classes are disabled",
    "Note: This will not show information about old Zookeeper-based consumers.",
    "Warning: Consumer group 'somebody else' is rebalancing.",
    "",
]


@pytest.mark.parametrize("printer", PRINTERS)
@given(described=described(), data=st.data(), crlf=st.booleans())
@settings(max_examples=12, deadline=None)
def test_log_lines_and_line_ends_change_nothing(
    printer: Printer, described: Described, data: st.DataObject, crlf: bool
) -> None:
    """Log, JVM and trace lines between the rows and CRLF line ends change no figure."""
    plain = printer(described)
    lines = plain.split("\n")
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(lines)))
        lines.insert(at, data.draw(st.sampled_from(LOG_LINES)))
    mixed = ("\r\n" if crlf else "\n").join(lines)
    expected = parse(plain, "", 0, group=described.group)
    assert parse(mixed, "", 0, group=described.group) == expected


@pytest.mark.parametrize("printer", [print_2_3, print_3_8, print_4_0, print_4_0_verbose])
@given(ours=described(), other=described())
@settings(max_examples=12, deadline=None)
def test_other_groups_are_left_out(printer: Printer, ours: Described, other: Described) -> None:
    """Of several groups in one output only the rows of the group asked for are taken."""
    both = f"{printer(other._replace(group=f'{ours.group} b'))}\n{printer(ours)}"
    found = parse(both, "", 0, group=ours.group)
    assert found.partitions == sorted_rows(ours.rows)


@pytest.mark.parametrize("printer", PRINTERS)
@given(described=described(), data=st.data())
@settings(max_examples=12, deadline=None)
def test_a_damaged_output_loses_no_row_silently(
    printer: Printer, described: Described, data: st.DataObject
) -> None:
    """A row whose partition number is destroyed is an error, never one row less."""
    at = data.draw(st.integers(0, len(described.rows) - 1))
    rows = [*described.rows]
    rows[at] = replace(rows[at], partition=1987654321)
    printed = printer(described._replace(rows=rows)).replace("1987654321", "x987654321")
    with pytest.raises(DescribeError):
        parse(printed, "", 0, group=described.group)


fragments = st.one_of(
    st.text(max_size=30),
    st.sampled_from(LOG_LINES),
    st.sampled_from(
        ["GROUP", "TOPIC", "PARTITION", *COLUMNS, *OWNER, "OWNER", "Error: ", "g", "-"]
    ),
    st.sampled_from(["\n", "\r\n", "   ", "\t", ",", "/10.0.0.1", "9" * 5000, "-5", "\x00", "'"]),
    st.sampled_from([print_2_3(Described("g", [PartitionLag("t", 0, 1, 3, 2)]))]),
)
outputs = st.lists(fragments, max_size=12).map("".join) | st.lists(fragments, max_size=9).map(
    " ".join
)


@given(outputs, outputs, st.integers(-70, 300), st.one_of(groups, st.text(max_size=20)))
@settings(max_examples=120, deadline=None)
def test_arbitrary_text_gives_a_result_or_a_describe_error(
    stdout: str, stderr: str, exit_code: int, group: str
) -> None:
    """Whatever the streams hold: figures that stood there, or a bounded, printable error."""
    try:
        found = parse(stdout, stderr, exit_code, group=group)
    except DescribeError as error:
        message = error.message
    else:
        message = "none"
        assert exit_code == 0
        assert found.partitions == sorted_rows(list(found.partitions))
        printed = {int(digits) for digits in re.findall("-?[0-9]{1,20}", stdout)}
        for row in found.partitions:
            assert {row.partition, row.committed, row.end, row.lag} <= {None, *printed}
    assert 0 < len(message) < 500
    assert message.isprintable()
