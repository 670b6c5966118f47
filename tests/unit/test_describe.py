"""Golden outputs of real tools, and every message with the error it stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_lag_provider import errors
from airflow_lag_provider.describe import GroupDescription, Reading, parse
from airflow_lag_provider.snapshot import PartitionLag

FIXTURES = Path(__file__).parent / "fixtures" / "describe"
VERSIONS = ["2.6.2", "3.9.1", "4.3.1"]
WRITTEN = ["0.9.0", "0.10.1", "0.10.2", "1.0", "1.1", "2.2", "2.3", "3.8", "4.0"]
MM = "oasis-group"
MEMBERS = [
    ("oasis-group-0-d164a096-53d1-4bd5-8f64-3fb366dae9fe", "127.0.0.1", "oasis-group-0"),
    ("oasis-group-1-cbc08ed7-4416-45c7-acc5-216164cc86f7", "127.0.0.1", "oasis-group-1"),
]
HEADER = "GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID\n"
FAILED = "\nError: Executing consumer group command failed due to "
KAFKA = "org.apache.kafka.common.errors."


def golden(version: str, state: str, group: str) -> GroupDescription:
    out, err, code = (
        (FIXTURES / version / f"{state}.{kind}").read_bytes().decode()
        for kind in ("out", "err", "rc")
    )
    return parse(out, err, int(code), group=group)


def failure(stdout: str, stderr: str = "", code: int = 0, group: str = "g") -> errors.DescribeError:
    with pytest.raises(errors.DescribeError) as caught:
        parse(stdout, stderr, code, group=group)
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()
    return caught.value


def figures(found: GroupDescription, topic: str) -> list[tuple[int | None, ...]]:
    return [(row.partition, row.committed, row.end, row.lag) for row in found.topic(topic)]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_active_group(version: str) -> None:
    """All 54 partitions of three topics are there, with their owner, in order."""
    found = golden(version, "active", MM)
    assert found.state == "active"
    assert found.topics == ("orders", "orders_v2", "payments")
    for topic in found.topics:
        assert figures(found, topic) == [(n, 50 + 10 * n, 50 + 10 * n, 0) for n in range(18)]
    for row in found.partitions:
        assert (row.consumer, row.host, row.client) == MEMBERS[row.partition // 9]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_empty_group(version: str) -> None:
    """A group without members keeps its figures; nobody owns a partition."""
    found = golden(version, "empty", MM)
    assert found.state == "empty"
    for topic in found.topics:
        assert figures(found, topic) == [(n, 50 + 10 * n, 50 + 17 * n, 7 * n) for n in range(18)]
    assert {row.consumer for row in found.partitions} == {None}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_rebalancing_group(version: str) -> None:
    """A rebalancing group is told from an empty one by stderr."""
    found = golden(version, "rebalancing", "rebal-group")
    assert found.state == "rebalancing"
    assert figures(found, "payments") == [(n, 50 + 17 * n, 50 + 17 * n, 0) for n in range(18)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_lag_below_zero(version: str) -> None:
    """Committed beyond the end is a negative lag, not an unknown one."""
    found = golden(version, "negative", "neg-group")
    assert figures(found, "my.topic") == [(0, 100000, 50, -99950), (1, 10, 67, 57)]
    assert figures(found, "my_topic2") == [(1, 0, 60, 60)]


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_committed(version: str) -> None:
    """A dash is not known, never 0; members without a partition have no row."""
    found = golden(version, "idle-members", "idle-group")
    assert figures(found, "empty") == [(n, None, 0, None) for n in range(3)]
    assert [row.client for row in found.partitions] == ["mm"] * 3
    assert found.state == "active"


@pytest.mark.parametrize("version", VERSIONS)
def test_half_of_the_partitions(version: str) -> None:
    """The uncommitted partitions of an empty group are missing in its output."""
    found = golden(version, "partial", "partial-group")
    assert figures(found, "orders") == [(n, 10, 50 + 17 * n, 40 + 17 * n) for n in range(0, 18, 2)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_deleted_topic(version: str) -> None:
    """The rows of a deleted topic are gone; asking for it names group and topic."""
    found = golden(version, "deleted", "gone-group")
    assert figures(found, "orders") == [(0, 5, 50, 45)]
    with pytest.raises(errors.TopicNotInGroup, match=r"'doomed' .* 'gone-group', which has 1 top"):
        found.topic("doomed")


@pytest.mark.parametrize(
    ("version", "state"),
    [("3.9.1", "b4-newprotocol"), ("4.3.1", "b4-newprotocol"), ("4.3.1", "b4-newprotocol-verbose")],
)
def test_a_group_of_the_new_protocol(version: str, state: str) -> None:
    """Members of the new protocol have base64 ids; --verbose adds a column in the middle."""
    found = golden(version, state, "new-protocol")
    assert figures(found, "orders") == [(n, 100, 100, 0) for n in range(6)]
    assert {(row.consumer, row.client) for row in found.partitions} == {
        ("bRxA92JRQn6Cjhhv4+Nolg", "rdkafka")
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("state", "error", "says"),
    [
        ("refused", errors.BrokerUnreachable, "No broker"),
        ("hung", errors.BrokerUnreachable, "No broker answered"),
        ("sasl-missing", errors.BrokerUnreachable, "No broker answered"),
        ("unresolvable", errors.BrokerUnreachable, "could be resolved on the host"),
        ("sasl-wrong", errors.AuthenticationFailed, "Invalid username or password"),
        ("acl-group-denied", errors.AuthorizationDenied, "group 'oasis-group'"),
        ("acl-topic-denied", errors.NothingPrinted, "'oasis-group', which has no active members"),
        ("nogroup", errors.GroupNotFound, "'oasis-group' does not exist"),
        ("b4-nogroup", errors.GroupNotFound, "'oasis-group' does not exist"),
        ("noconfig", errors.CommandConfigNotFound, "/no/such/file"),
        ("badarg", errors.OptionRefused, "frobnicate is not a recognized option"),
    ],
)
def test_real_failures(
    version: str, state: str, error: type[errors.DescribeError], says: str
) -> None:
    """What the real tools print of a failure has the same error in every version."""
    with pytest.raises(errors.DescribeError) as caught:
        golden(version, state, MM)
    assert type(caught.value) is error
    assert says in caught.value.message


@pytest.mark.parametrize("version", WRITTEN)
def test_the_format_of_every_version(version: str) -> None:
    """Unknown, negative and 64-bit values, ids with blanks: the same figures in every format."""
    found = golden(version, "mixed", MM)
    assert found.state == "active"
    assert figures(found, "orders") == [
        (0, None, 12, None),
        (2, 90, None, None),
        (10, 1099511627776, 1099511627783, 7),
    ]
    assert figures(found, "payments") == [(0, 60, 50, -10), (1, 5, 5, 0)]
    owners = [(row.host, row.client) for row in found.partitions]
    first, second = ("10.1.2.3", "oasis-group-0"), ("10.1.2.4", "mm 1")
    assert owners == [second, first, first, second, (None, None)]


@pytest.mark.parametrize("version", WRITTEN)
def test_a_missing_group_in_every_version(version: str) -> None:
    """Every version's wording of a missing group is understood."""
    with pytest.raises(errors.GroupNotFound, match="'oasis-group' does not exist"):
        golden(version, "nogroup", MM)


def test_an_old_tool_and_a_new_group() -> None:
    """A tool that can't see groups of the new protocol calls them missing; the advice says so."""
    with pytest.raises(errors.GroupNotFound, match=r"older than Kafka 3\.5 also says this"):
        golden("2.6.2", "b4-newprotocol", "new-protocol")


@pytest.mark.parametrize(
    ("state", "names"), [("refused", "127.0.0.1:9"), ("unresolvable", "no-such-host.invalid:9092")]
)
@pytest.mark.parametrize("version", ["2.6.2", "3.9.1"])
def test_an_unreachable_broker_is_named(version: str, state: str, names: str) -> None:
    """Where the client logs the address it failed to reach, the message has it."""
    with pytest.raises(errors.BrokerUnreachable) as caught:
        golden(version, state, MM)
    assert names in caught.value.message


CLIENT = "Failed to create new KafkaAdminClient"
CALL = "TimeoutException: Call(callName={}, deadlineMs=1, tries=48, nextAllowedTryMs=2) timed out"


@pytest.mark.parametrize(
    ("stdout", "error"),
    [
        ("Consumer group `g` does not exist or is rebalancing.", errors.GroupNotFound),
        ("Consumer group `g` does not exist.", errors.GroupNotFound),
        ("Consumer group `g` is rebalancing.", errors.NothingPrinted),
        ("Error: Consumer group 'g' does not exist.", errors.GroupNotFound),
        ("Error: The consumer group 'g' does not exist.", errors.GroupNotFound),
        (f"{FAILED}{KAFKA}GroupIdNotFoundException: Group g not found.", errors.GroupNotFound),
        (
            f"{FAILED}java.lang.IllegalArgumentException: GroupId g is not a consumer group (x).",
            errors.NotAConsumerGroup,
        ),
        (
            f"{FAILED}{KAFKA}GroupIdNotFoundException: Group g is not a consumer group.",
            errors.NotAConsumerGroup,
        ),
        (
            f"{FAILED}Expected a valid consumer group state, but found 'Assigning'.",
            errors.GroupStateUnknown,
        ),
        (
            f"{FAILED}{KAFKA}TimeoutException: Timed out waiting for a node assignment. "
            "Call: describeGroups(api=FIND_COORDINATOR)",
            errors.BrokerUnreachable,
        ),
        (
            f"{FAILED}{KAFKA}TimeoutException: Timed out waiting for a node assignment.",
            errors.BrokerUnreachable,
        ),
        (
            f"{FAILED}{KAFKA}TimeoutException: Timed out waiting for a node assignment. "
            "Call: listOffsets(api=METADATA)",
            errors.BrokerTimedOut,
        ),
        (f"{FAILED}{KAFKA}{CALL.format('findCoordinator')}", errors.CoordinatorNotAvailable),
        (
            f"{FAILED}{KAFKA}{CALL.format('describeConsumerGroups(api=FIND_COORDINATOR)')}",
            errors.CoordinatorNotAvailable,
        ),
        (
            f"{FAILED}{KAFKA}{CALL.format('findCoordinator').replace('=48', '=1')}",
            errors.BrokerUnreachable,
        ),
        (f"{FAILED}{KAFKA}{CALL.format('metadata')}", errors.BrokerTimedOut),
        (f"{FAILED}{KAFKA}{CALL.format('listOffsets')}", errors.BrokerTimedOut),
        (f"{FAILED}{KAFKA}DisconnectException: Cancelled", errors.BrokerTimedOut),
        (
            "Error: Executing consumer group command failed due to Request METADATA failed on "
            "brokers List(h:9092 (id: -1 rack: null))",
            errors.BrokerUnreachable,
        ),
        (
            f"{FAILED}The consumer group command timed out while waiting for group to initialize: ",
            errors.CoordinatorNotAvailable,
        ),
        (f"{FAILED}{KAFKA}CoordinatorNotAvailableException: x", errors.CoordinatorNotAvailable),
        (f"{FAILED}The coordinator is not available.", errors.CoordinatorNotAvailable),
        (f"{FAILED}Not authorized to access group: g", errors.AuthorizationDenied),
        (f"{FAILED}Group authorization failed.", errors.AuthorizationDenied),
        (
            f"{FAILED}FindCoordinator request for groupId `g` failed due to authorization failure",
            errors.AuthorizationDenied,
        ),
        (f"{FAILED}{KAFKA}TopicAuthorizationException: no", errors.AuthorizationDenied),
        (f"{FAILED}{KAFKA}ClusterAuthorizationException: no", errors.AuthorizationDenied),
        (f"{FAILED}{KAFKA}SaslAuthenticationException: no", errors.AuthenticationFailed),
        (f"{FAILED}{KAFKA}SslAuthenticationException: SSL h", errors.AuthenticationFailed),
        (f"{FAILED}{KAFKA}UnsupportedSaslMechanismException: m", errors.AuthenticationFailed),
        (f"{FAILED}java.nio.file.NoSuchFileException: /a b/c", errors.CommandConfigNotFound),
        (
            f"{FAILED}java.io.FileNotFoundException: /a/c (No such file or directory)",
            errors.CommandConfigNotFound,
        ),
        (f"{FAILED}java.nio.file.AccessDeniedException: /a/c", errors.CommandConfigNotReadable),
        (
            f"{FAILED}java.io.FileNotFoundException: /a/c (Permission denied)",
            errors.CommandConfigNotReadable,
        ),
        (f"{FAILED}java.io.IOException: Is a directory", errors.CommandConfigNotReadable),
        (
            f"{FAILED}Invalid value FOO for configuration security.protocol: not known",
            errors.ClientConfigInvalid,
        ),
        (f"{FAILED}{CLIENT}", errors.ClientConfigInvalid),
        (f"{FAILED}org/apache/kafka/clients/admin/AbstractOptions", errors.ToolBroken),
        (f"{FAILED}Java heap space", errors.JavaFailed),
        ("Error occurred during initialization of VM\nToo small maximum heap", errors.JavaFailed),
        ("#\n# There is insufficient memory for the Java Runtime\n", errors.JavaFailed),
        ("Terminating due to java.lang.OutOfMemoryError: Java heap space", errors.JavaFailed),
        ("Error while executing consumer group command odd\njava.x", errors.DescribeFailed),
        (f"{FAILED}something nobody has seen", errors.DescribeFailed),
        ("Error: something nobody has seen", errors.DescribeFailed),
    ],
)
@pytest.mark.parametrize("code", [0, 1])
def test_messages_on_stdout(stdout: str, error: type[errors.DescribeError], code: int) -> None:
    """Each reported message has its own error, whatever the exit code is."""
    caught = failure(f"{stdout}\n", code=code)
    # Without a report the exit code is the failure.
    nothing = code and error is errors.NothingPrinted
    assert type(caught) is (errors.DescribeFailed if nothing else error)


def test_an_unknown_message_is_carried() -> None:
    """An error line that no rule knows stands in the message."""
    assert "something nobody has seen" in failure(f"{FAILED}something nobody has seen").message


@pytest.mark.parametrize(
    ("caused_by", "error", "says"),
    [
        (
            ["o.a.ConfigException: Invalid url in bootstrap.servers: nohost"],
            errors.ClientConfigInvalid,
            "nohost",
        ),
        (
            [
                "org.apache.kafka.common.KafkaException: Failed to create new NetworkClient",
                "org.apache.kafka.common.KafkaException: Failed to load SSL keystore /no/trust.jks",
                "java.nio.file.NoSuchFileException: /no/trust.jks",
            ],
            errors.ClientConfigInvalid,
            "Failed to load SSL keystore /no/trust.jks",
        ),
        (
            ["org.apache.kafka.common.config.ConfigException: No resolvable bootstrap urls given"],
            errors.BrokerUnreachable,
            "None of the bootstrap servers (b.x:9092)",
        ),
        (["java.lang.X: sasl password=geheim"], errors.ClientConfigInvalid, "password=***"),
    ],
)
@pytest.mark.parametrize("reported", [True, False])
def test_a_client_that_could_not_be_made(
    caused_by: list[str], error: type[errors.DescribeError], says: str, reported: bool
) -> None:
    """The cause stands in stderr: of a reported failure (3.8+) and of a crash (2.0 to 3.7)."""
    trace = "\n".join(f"Caused by: {line}\n\t... 6 more" for line in caused_by)
    log = "WARN Couldn't resolve server b.x:9092 from bootstrap.servers as DNS resolution failed"
    head = f"org.apache.kafka.common.KafkaException: {CLIENT}\n\tat a.b(C.java:1)"
    if reported:
        caught = failure(FAILED + CLIENT, f"{log}\n{head}\n{trace}")
    else:
        caught = failure("", f'{log}\nException in thread "main" {head}\n{trace}', 1)
    assert type(caught) is error
    assert says in caught.message


def test_a_coordinator_behind_a_time_out() -> None:
    """Brokers that answered all the time but had no coordinator are not unreachable."""
    cause = f"Caused by: {KAFKA}CoordinatorNotAvailableException: The coordinator is not available."
    caught = failure(f"{FAILED}{KAFKA}{CALL.format('findCoordinator')}", cause)
    assert type(caught) is errors.CoordinatorNotAvailable


def test_a_tls_listener_behind_a_time_out() -> None:
    """A TLS answer read as a length exhausts the heap; the settings are wrong, not the heap."""
    log = "java.lang.OutOfMemoryError: Java heap space\n\tat o.a.k.network.NetworkReceive.read()"
    caught = failure(f"{FAILED}{KAFKA}TimeoutException: The AdminClient thread has exited.", log)
    assert type(caught) is errors.ClientConfigInvalid
    assert "TLS" in caught.message


RUN_CLASS = "/opt/kafka/bin/kafka-run-class.sh"
NO_CLASS = "java.lang.NoClassDefFoundError: joptsimple/OptionException"


@pytest.mark.parametrize(
    ("code", "stderr", "error"),
    [
        (124, "", errors.DescribeTimedOut),
        (125, "timeout: invalid time interval 'x'", errors.DescribeFailed),
        (
            127,
            "timeout: failed to run command '/opt/java/t.sh': No such file or directory",
            errors.ToolNotFound,
        ),
        (127, "timeout: failed to run command ‘t.sh’: Datei nicht gefunden", errors.ToolNotFound),
        (127, "sh: 1: /opt/t.sh: not found", errors.ToolNotFound),
        (127, "", errors.ToolNotFound),
        (127, "bash: timeout: command not found", errors.ToolNotFound),
        (126, "timeout: failed to run command 't.sh': Permission denied", errors.ToolNotExecutable),
        (126, "timeout: failed to run command 'a/t.sh': Not a directory", errors.ToolNotFound),
        (127, f"{RUN_CLASS}: line 342: exec: java: not found", errors.JavaNotFound),
        (127, f"{RUN_CLASS}: line 309: /no/bin/java: No such file or d", errors.JavaNotFound),
        (127, f"{RUN_CLASS}: line 9: java: command not found", errors.JavaNotFound),
        (126, f"{RUN_CLASS}: line 309: /no/bin/java: Permission denied", errors.JavaNotFound),
        (127, f"/a/t.sh: line 17: {RUN_CLASS}: No such file or directory", errors.ToolBroken),
        (126, f"/a/t.sh: line 17: {RUN_CLASS}: Permission denied", errors.ToolNotExecutable),
        (137, "", errors.DescribeKilled),
        (139, "Segmentation fault", errors.DescribeKilled),
        (143, "", errors.DescribeKilled),
        (-9, "", errors.DescribeKilled),
        (1, "Unrecognized VM option 'Nope'\nError: Could not create the J", errors.JavaFailed),
        (1, "Invalid maximum heap size: -Xmxfoo\nError: Could not create", errors.JavaFailed),
        (1, "Error: Could not create the Java Virtual Machine.", errors.JavaFailed),
        (1, 'Exception in thread "main" java.lang.OutOfMemoryError: x', errors.JavaFailed),
        (1, "Error: Could not find or load main class kafka.admin.Cons", errors.ToolBroken),
        (1, "Error: LinkageError occurred while loading main class x", errors.ToolBroken),
        (1, f"Error: Unable to initialize main class x\nCaused by: {NO_CLASS}", errors.ToolBroken),
        (1, 'Missing required argument "[bootstrap-server]"\nOption', errors.OptionRefused),
        (
            1,
            'Exception in thread "main" java.nio.file.AccessDeniedException: /c',
            errors.CommandConfigNotReadable,
        ),
        (1, "Malformed \\uxxxx encoding.\nOption   Description", errors.ClientConfigInvalid),
        (1, "what is this", errors.DescribeFailed),
        (1, "", errors.DescribeFailed),
        (255, "", errors.DescribeFailed),
    ],
)
def test_endings_without_a_report(
    code: int, stderr: str, error: type[errors.DescribeError]
) -> None:
    """Exit code and stderr tell what shell, timeout, launcher and JVM met."""
    assert type(failure("", stderr, code)) is error


def test_what_the_logger_showed_before_the_end() -> None:
    """What ended the tool counts, not an exception that it logged and went on from."""
    caught = failure(
        "",
        "[2026-11-24 21:17:56,488] ERROR Modification time could not be obtained: /a.jks (x)\n"
        "java.nio.file.NoSuchFileException: /a.jks\n\tat x\n"
        'Exception in thread "main" org.apache.kafka.common.KafkaException: Failed to create new '
        "KafkaAdminClient\n\tat x\nCaused by: o.a.KafkaException: Failed to load SSL keystore "
        "/a.jks of type JKS\n",
        1,
    )
    assert type(caught) is errors.ClientConfigInvalid
    assert "Failed to load SSL keystore /a.jks" in caught.message


@pytest.mark.parametrize(
    ("code", "says"),
    [(137, "signal 9 (SIGKILL)"), (143, "signal 15 (SIGTERM)"), (-11, "signal 11 (SIGSEGV)")],
)
def test_a_signal_is_named(code: int, says: str) -> None:
    """An ending by a signal names it."""
    assert says in failure("", "", code).message


def test_rows_and_a_failing_exit_code() -> None:
    """Rows are not trusted when the tool ended with a failure that it doesn't name."""
    caught = failure(f"{HEADER}g t 0 1 2 1 - - -\n", "", 3)
    assert type(caught) is errors.DescribeFailed
    assert "exit code 3 after 1 rows" in caught.message


@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        ("", "printed no partition of group 'g'."),
        ("\nConsumer group 'g' has no active members.", "'g', which has no active members."),
        ("Warning: Consumer group 'g' is rebalancing.", "'g', which is rebalancing."),
        ("SLF4J: x\nsomething odd", "stderr says: something odd."),
    ],
)
def test_nothing_printed(stderr: str, says: str) -> None:
    """No output and no error is a failure of its own; the message has what stderr says."""
    caught = failure("\n", stderr)
    assert type(caught) is errors.NothingPrinted
    assert says in caught.message
    assert caught.retriable


def test_a_header_without_rows() -> None:
    """A header alone describes a group without partitions; asking for a topic fails."""
    found = parse(HEADER, "", 0, group="g")
    assert found == GroupDescription("g", "active", ())
    with pytest.raises(errors.TopicNotInGroup, match="which has 0 topics"):
        found.topic("orders")


def test_state_lines_on_stdout_and_of_other_groups() -> None:
    """The state may stand among the rows; that of another group says nothing of ours."""
    rows = f"{HEADER}g t 0 1 2 1 - - -\n"
    other = "Consumer group 'other' has no active members.\n"
    assert parse(rows, other, 0, group="g").state == "active"
    ours = "Warning: Consumer group 'g' is rebalancing.\n"
    assert parse(f"{ours}{rows}", other, 0, group="g").state == "rebalancing"


@pytest.mark.parametrize(
    "line",
    [
        "g t 0 1 2",
        "g t x 1 2 1 - - -",
        "g t 0 1 2 1.5 - - -",
        "g t 0 1 2 1 - -",
        "g t -1 1 2 1 - - -",
        "g t - 1 2 1 - - -",
        "g t 2147483648 1 2 1 - - -",
        "g t 0 1 9223372036854775808 1 - - -",
        "g t 0 1 2 -9223372036854775809 - - -",
        "g t 0 1 " + "9" * 5000 + " 1 - - -",
        "g bad/topic 0 1 2 1 - - -",
        "g WARN t 0 1 2 1 - -",
        "Welcome to this host",
        "\x1b[31mg t 0 1 2 1 - - -",
    ],
)
def test_a_line_that_is_not_understood(line: str) -> None:
    """What no version prints is an error with the line and its number, never a row less."""
    caught = failure(f"\r\n{HEADER}g t 7 1 2 1 - - -\n{line}\n")
    assert type(caught) is errors.OutputNotUnderstood
    assert caught.message.startswith("Line 4 of the output for group 'g' is not understood: ")


JAAS = 'PlainLoginModule required username="me" password='


@pytest.mark.parametrize(
    "line",
    [
        f'sasl.jaas.config={JAAS}"geheim";',
        f'sasl.jaas.config={JAAS}"a \\" geheim";',
        f"+ export 'KAFKA_OPTS={JAAS}\"geheim\";'",
        f"+ export 'KAFKA_OPTS={JAAS}'\\''ge geheim'\\'';'",
        "ssl.key.password = geheim",
        '{"password": "geheim"}',
        "sasl.oauthbearer.client.credentials.client.secret=a;geheim",
        "WARN ignored\nlogin with Password:\tgeheim",
    ],
)
@pytest.mark.parametrize("code", [0, 1, 127])
def test_no_secret_of_a_line_that_a_script_of_the_host_prints_is_shown(
    line: str, code: int
) -> None:
    """On whichever stream a wrapper or `set -x` prints it, and however the command ends."""
    for caught in (failure(f"{line}\n{HEADER}", code=code), failure("", line, code)):
        assert "geheim" not in str(caught)
    assert "***" in failure("" if code else line, line, code).message


def test_the_range_of_64_bits() -> None:
    """Offsets and lag may use all of their 64 bits."""
    top = 2**63 - 1
    found = parse(f"{HEADER}g t 0 {top} {top} -{top + 1} - - -", "", 0, group="g")
    assert found.partitions == (PartitionLag("t", 0, top, top, -top - 1),)


def test_an_offset_below_zero_is_none() -> None:
    """Kafka's -1 for "not known" is no offset; the tool's lag stays as printed."""
    found = parse(f"{HEADER}g t 0 -1 -1 - - - -\n", "", 0, group="g")
    assert found.partitions == (PartitionLag("t", 0, None, None, None),)


def test_a_partition_printed_twice() -> None:
    """Two rows that agree are one, with its owner; two that differ are an error."""
    first, second = "g t 0 1 2 1 - - -", "g t 0 1 2 1 c-1 /10.0.0.1 c"
    for rows in (f"{first}\n{second}", f"{second}\n{first}"):
        found = parse(HEADER + rows, "", 0, group="g")
        assert found.partitions == (PartitionLag("t", 0, 1, 2, 1, "c-1", "10.0.0.1", "c"),)
    caught = failure(f"{HEADER}{first}\ng t 0 1 3 2 - - -\n")
    assert type(caught) is errors.OutputNotUnderstood
    assert "Lines 2 and 3" in caught.message


@pytest.mark.parametrize(("group", "topic"), [("a", "mine"), ("a b", "theirs")])
def test_a_group_beside_one_that_starts_alike(group: str, topic: str) -> None:
    """The rows of "a b" are not those of "a", nor the reverse."""
    rows = "a mine 0 1 2 1 - - -\na b theirs 0 1 3 2 - - -\n"
    assert parse(HEADER + rows, "", 0, group=group).topics == (topic,)


def test_a_column_nobody_knows() -> None:
    """Columns that a later version may add change nothing, wherever they stand."""
    header = (
        "GROUP TYPE TOPIC PARTITION NEW CURRENT-OFFSET LOG-END-OFFSET LAG X CONSUMER-ID HOST "
        "CLIENT-ID Y\n"
    )
    found = parse(f"{header}g k t 0 7 1 2 1 x c d-1 /h c d y\n", "", 0, group="g")
    assert found.partitions == (PartitionLag("t", 0, 1, 2, 1, "c d-1", "h", "c d"),)


def test_an_id_glued_to_its_host() -> None:
    """Kafka 0.10.2 to 1.0 leave no blank between a long consumer id and the host."""
    form = "{:<30} {:<10} {:<15} {:<15} {:<10} {:<50}{:<30} {}\n".format
    header = form(*HEADER.split()[1:])
    member = "mirror/1 x-" + "0" * 60
    row = form("t", 3, 10, 15, 5, member, "/10.1.2.3", "mirror/1 x")
    found = parse(header + row, "", 0, group="g")
    assert found.partitions == (PartitionLag("t", 3, 10, 15, 5, member, "10.1.2.3", "mirror/1 x"),)


def test_a_zookeeper_group_has_no_host() -> None:
    """Groups in ZooKeeper are printed with the consumer id alone."""
    header = "TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID\n"
    found = parse(f"{header}t 0 1 2 1 g_host-1-0\nt 1 1 2 1 -\n", "", 0, group="g")
    assert [row.consumer for row in found.partitions] == ["g_host-1-0", None]


def test_a_member_without_client_id() -> None:
    """An empty client id leaves the last column blank."""
    header = f"{'GROUP':15} {'TOPIC':15} PARTITION  CURRENT-OFFSET LOG-END-OFFSET LAG "
    header += f"{'CONSUMER-ID':40} {'HOST':15} CLIENT-ID\n"
    row = f"{'g':15} {'t':15} 0          1 2 1 {'-' + 'a' * 36:40} {'/10.0.0.1':15} \n"
    found = parse(header + row, "", 0, group="g")
    assert found.partitions == (PartitionLag("t", 0, 1, 2, 1, "-" + "a" * 36, "10.0.0.1", None),)


def test_an_output_is_read_in_turns() -> None:
    """Whoever reads it turn by turn learns the same, and no turn has very many lines."""
    output = HEADER + "".join(f"g t-{number % 7} {number} 1 2 1 - - -\n" for number in range(2000))
    reading = Reading(output, "", 0, group="g")
    assert len(list(reading.turns())) >= 4
    assert reading.description() == parse(output, "", 0, group="g")
