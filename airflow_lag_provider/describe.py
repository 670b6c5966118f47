"""The output of ``kafka-consumer-groups.sh --describe`` -> ``GroupDescription``.

Understands every format from Kafka 0.9 to 4.x, by the header that each of them prints, and says
``OutputNotUnderstood`` of whatever it can't place. Pure text work: no Airflow, no clock, no I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from airflow_lag_provider import describe_failures, describe_lines
from airflow_lag_provider.describe_layout import Layout, Row
from airflow_lag_provider.describe_lines import clean, quoted
from airflow_lag_provider.errors import DescribeError, OutputNotUnderstood, TopicNotInGroup
from airflow_lag_provider.snapshot import GroupState, PartitionLag

_INT32 = 2**31
_INT64 = 2**63
_LONGEST_NUMBER = 25  # digits; Python refuses to read thousands of them
_SHORT = 19  # a number of fewer characters fits into 64 bits, whatever it is
_LINE_CHARS = 200
_LINES_A_TURN = 250
_UNKNOWN = ("-", "unknown", "none")


@dataclass(frozen=True)
class GroupDescription:
    """What one describe says of a consumer group.

    :param group: the group's id.
    :param state: ``active``, ``empty`` (no members) or ``rebalancing``.
    :param partitions: one entry a partition, sorted by topic and partition number. An empty
        group's uncommitted partitions are not among them: the tool does not print those.
    """

    group: str
    state: GroupState
    partitions: tuple[PartitionLag, ...]

    @cached_property
    def _by_topic(self) -> dict[str, tuple[PartitionLag, ...]]:
        """The rows by topic: many callers share a description, each for a topic of its own."""
        rows: defaultdict[str, list[PartitionLag]] = defaultdict(list)
        for row in self.partitions:
            rows[row.topic].append(row)
        return {topic: tuple(found) for topic, found in rows.items()}

    @cached_property
    def topics(self) -> tuple[str, ...]:
        """The names of the topics that have rows, sorted."""
        return tuple(self._by_topic)

    def topic(self, name: str) -> tuple[PartitionLag, ...]:
        """Return the partitions of one topic, sorted by number.

        :raises TopicNotInGroup: when there is none.
        """
        rows = self._by_topic.get(name)
        if not rows:
            raise TopicNotInGroup(
                f"Topic {quoted(name)} is not in the description of group {quoted(self.group)}, "
                f"which has {len(self.topics)} topics."
            )
        return rows


def parse(stdout: str, stderr: str, exit_code: int, *, group: str) -> GroupDescription:
    """Return what one run of the tool says of ``group``.

    :param stdout: the tool's standard output, without this package's end marker.
    :param stderr: its standard error, where it tells the group's state.
    :param exit_code: of the remote command; 124 when ``timeout`` ended it.
    :param group: the id of the group asked for; rows of other groups are left out.
    :raises DescribeError: when the tool failed or its output can't be trusted whole.
    """
    reading = Reading(stdout, stderr, exit_code, group=group)
    for _ in reading.turns():
        pass
    return reading.description()


class Reading:
    """One output that is read turn by turn; its parameters are those of :func:`parse`.

    The first problem is kept, because the report of a failure may follow.
    """

    def __init__(self, stdout: str, stderr: str, exit_code: int, *, group: str) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._exit_code = exit_code
        self._group = group
        self._layout: Layout | None = None
        # By topic and partition number: the line it first stood in, and the row.
        self._rows: defaultdict[str, dict[int, tuple[int, PartitionLag]]] = defaultdict(dict)
        self._state: GroupState = "active"
        self._problem: DescribeError | None = None

    def turns(self) -> Iterator[None]:
        """Read the lines; yield after each millisecond or two of work.

        Tens of thousands of lines would otherwise hold up an event loop.

        :raises DescribeError: the tool reported a failure.
        """
        lines = self._stdout.split("\n")
        for number, line in enumerate(lines, start=1):
            if number % _LINES_A_TURN == 0:
                yield
            text = line.rstrip("\r \t")
            if not text or self._take(number, text):
                continue
            if describe_lines.is_report(text):
                raise describe_failures.reported(lines[number - 1 :], self._stderr, self._group)
            self._pass_by(number, text)
        for line in self._stderr.split("\n"):
            self._take_state(line.strip())

    def description(self) -> GroupDescription:
        """Return what all lines together say.

        :raises DescribeError: the tool failed, or its output can't be trusted whole.
        """
        rows = tuple(
            by_number[partition][1]
            for _, by_number in sorted(self._rows.items())
            for partition in sorted(by_number)
        )
        if self._exit_code != 0:
            raise describe_failures.ended(
                self._exit_code, self._stdout, self._stderr, self._group, len(rows)
            )
        if self._problem is not None:
            raise self._problem
        if self._layout is None:
            raise describe_failures.nothing_printed(self._state, self._stderr, self._group)
        return GroupDescription(self._group, self._state, rows)

    def _take(self, number: int, line: str) -> bool:
        """Take the line in if it is a row or a header; tell whether it was."""
        row = self._layout.read(line) if self._layout else None
        if row is not None:
            if not isinstance(row, str):
                self._add(number, line, row)
            return True
        layout = Layout.of_header(line, self._group)
        self._layout = layout or self._layout
        return layout is not None

    def _take_state(self, line: str) -> bool:
        """Take the line in if it tells a group's state; tell whether it did."""
        told = describe_lines.stated(line)
        if told is not None and told[0] == self._group:
            self._state = told[1]
        return told is not None

    def _pass_by(self, number: int, line: str) -> None:
        """Let a line go that is neither row, header nor report, if it is known to mean nothing."""
        # Below a GROUP column, what starts with the group's name is a row, whatever it is called.
        spoilt = (
            self._layout is not None
            and self._layout.has_group
            and line.startswith((f"{self._group} ", f"{self._group},"))
        )
        if self._take_state(line) or (describe_lines.is_noise(line) and not spoilt):
            return
        self._not_understood(number, line)

    def _add(self, number: int, line: str, row: Row) -> None:
        (topic, partition, *figures), owner = row
        if partition == "-" and {topic, *figures} == {"-"}:
            return  # a member without partitions; since Kafka 1.1 the tool prints none of these
        committed, end, lag = figures
        try:
            new = PartitionLag(
                topic,
                _integer(partition, _INT32),
                _offset(committed),
                _offset(end),
                _figure(lag),
                *owner,
            )
        except ValueError:
            self._not_understood(number, line)
            return
        self._keep(number, new)

    def _keep(self, number: int, new: PartitionLag) -> None:
        """Keep the partition, once; two rows of it must agree."""
        rows = self._rows[new.topic]
        first, old = rows.setdefault(new.partition, (number, new))
        if old is new:
            return
        if (old.committed, old.end, old.lag) != (new.committed, new.end, new.lag):
            self._problem = self._problem or OutputNotUnderstood(
                f"Lines {first} and {number} of the output for group {quoted(self._group)} differ "
                f"about partition {new.partition} of topic {quoted(new.topic)}."
            )
        elif old.consumer is None:
            rows[new.partition] = (first, new)

    def _not_understood(self, number: int, line: str) -> None:
        self._problem = self._problem or OutputNotUnderstood(
            f"Line {number} of the output for group {quoted(self._group)} is not understood: "
            f"'{clean(line, _LINE_CHARS)}'."
        )


def _offset(text: str) -> int | None:
    """Return the offset; below 0 there is none: Kafka uses -1 for "not known"."""
    number = _figure(text)
    return None if number is None or number < 0 else number


def _figure(text: str) -> int | None:
    """Return the number of 64 bits, ``None`` where the tool printed none.

    :raises ValueError: it is longer.
    """
    if text in _UNKNOWN:
        return None
    return int(text) if len(text) < _SHORT else _integer(text, _INT64)


def _integer(text: str, limit: int) -> int:
    """Return the number.

    :raises ValueError: when it is none, or does not lie within ``limit``.
    """
    number = int(text) if len(text) <= _LONGEST_NUMBER else limit
    if not -limit <= number < limit:
        raise ValueError(text)
    return number
