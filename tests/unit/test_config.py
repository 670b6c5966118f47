"""config: what mirrors.yaml may say, what comes out, and how mistakes are told."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_lag_provider import yaml_lines
from airflow_lag_provider.config import Configuration, Elasticsearch, Mirror, load
from airflow_lag_provider.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parent / "fixtures" / "config"
HOSTILE = ["orders; rm -rf /", "$(id)", "`id`", "a'b", 'a"b', "a\nb", "a\0b", "-x", "~/x", "a b"]


@pytest.fixture
def write(tmp_path):
    """Write a mirrors.yaml and return its path."""

    def write_text(text):
        path = tmp_path / "mirrors.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_text


@pytest.fixture
def load_mirror(write):
    """Load a file with one mirror `m` from its keys and those of its topic `t`."""

    def load_keys(mirror=None, topic=None, **top):
        keys = {"bootstrap_servers": ["a:9092"], "group": "g", "topics": {"t": topic}}
        return load(write(json.dumps({"mirrors": {"m": keys | (mirror or {})}} | top)))

    return load_keys


def lines(configuration: Configuration) -> list[str]:
    return [str(mistake) for mistake in configuration.mistakes]


def only(configuration: Configuration) -> str:
    (line,) = lines(configuration)
    assert not configuration.mirrors
    return line


def refused(path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    return caught.value.message


def test_example_file_is_right():
    """The file that is shipped loads without a mistake and holds the values of the design."""
    configuration = load(ROOT / "include" / "mirrors.yaml")
    configuration.raise_for_mistakes()
    (oasis,) = configuration.mirrors
    assert (oasis.name, oasis.ssh_conn_id, oasis.group) == (
        "oasis",
        "mirrormaker_oasis",
        "oasis-group",
    )
    assert oasis.bootstrap_servers == ("b-1.source:9092", "b-2.source:9092")
    assert [topic.name for topic in oasis.topics] == ["orders", "payments", "clicks"]
    payments = oasis.topics[1]
    assert (payments.allowed_lag, payments.max_lag, payments.max_lag_seconds) == (10, 5000, 120)
    assert payments.sla == timedelta(seconds=90)
    assert payments.timeout == timedelta(seconds=30)


def test_commented_keys_of_the_example_are_right(write):
    """Every optional key that the example shows in a comment is accepted as it is written."""
    text = (ROOT / "include" / "mirrors.yaml").read_text()
    keys = (
        "jvm_opts",
        "class_data_archive",
        "retries",
        "retry_delay",
        "deferrable",
        "owner",
        "pool",
        "paused",
    )
    keys += ("start_date", "tags", "access_control", "sla_miss_callback")
    for key in keys:
        assert f"# {key}: " in text
        text = text.replace(f"# {key}: ", f"{key}: ")
    text = text.replace("retries: 1", "retries: 0")
    (mirror,) = load(write(text)).mirrors
    assert mirror.access_control == {"Viewer": ("can_read",)}
    assert mirror.jvm_opts == "-Xmx128M -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData"
    assert mirror.class_data_archive == "/home/ec2-user/lag"


def test_defaults(load_mirror):
    """A mirror of the three required keys gets the documented value for everything else."""
    configuration = load_mirror()
    (mirror,) = configuration.mirrors
    (topic,) = mirror.topics
    assert configuration.elasticsearch.conn_id == "elasticsearch_default"
    assert configuration.elasticsearch.index == "consumer_lag"
    assert topic.retries == 1
    assert mirror.model_dump(exclude={"topics"}) == topic.model_dump(exclude={"name"}) | {
        "name": "m",
        "bootstrap_servers": ("a:9092",),
        "group": "g",
        "ssh_conn_id": "ssh_default",
        "tool": "kafka-consumer-groups.sh",
        "command_config": None,
        "layout": "topic",
        "jvm_opts": "-Xmx128M -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData",
        "class_data_archive": None,
    }
    assert topic.model_dump() == {
        "name": "t",
        "allowed_lag": None,
        "max_lag": None,
        "max_lag_seconds": None,
        "sla": None,
        "timeout": timedelta(seconds=25),
        "retries": 1,
        "retry_delay": timedelta(seconds=5),
        "owner": None,
        "pool": None,
        "deferrable": True,
        "paused": None,
        "start_date": datetime(2024, 1, 1, tzinfo=UTC),
        "tags": (),
        "access_control": None,
        "sla_miss_callback": None,
    }


def test_merge_order(load_mirror):
    """A mirror overrides the file's defaults and a topic its mirror, key by key, null too."""
    configuration = load_mirror(
        defaults={"max_lag": 1, "owner": "file", "pool": "file", "sla": "5m", "group": "unused"},
        mirror={"owner": "mirror", "pool": "mirror"},
        topic={"pool": "topic", "sla": None},
    )
    (mirror,) = configuration.mirrors
    (topic,) = mirror.topics
    assert (topic.max_lag, topic.owner, topic.pool, topic.sla) == (1, "mirror", "topic", None)
    assert (mirror.max_lag, mirror.owner, mirror.pool) == (1, "mirror", "mirror")
    assert (mirror.group, mirror.sla) == ("g", timedelta(minutes=5))


def test_required_keys_may_come_from_defaults(write):
    """Servers and group that all mirrors share need to be written once only."""
    text = "defaults: {group: g, bootstrap_servers: 'a:1'}\nmirrors: {m: {topics: {t: }}}"
    (mirror,) = load(write(text)).mirrors
    assert (mirror.group, mirror.bootstrap_servers) == ("g", ("a:1",))


def test_resolved_values_are_frozen(load_mirror):
    """Nobody can change a mirror or topic after it was loaded."""
    (mirror,) = load_mirror().mirrors
    for changed in (mirror, mirror.topics[0]):
        with pytest.raises(ValueError, match="frozen"):
            changed.retries = 9


def test_ten_mistakes_give_ten_messages():
    """Every mistake of a file is told at once, with its line, and the good mirror remains."""
    configuration = load(FIXTURES / "ten_mistakes.yaml")
    assert [(mistake.line, mistake.path) for mistake in configuration.mistakes] == [
        (11, "mirrors.oasis.bootstrap_servers[1]"),
        (12, "mirrors.oasis.group"),
        (13, "mirrors.oasis.tool"),
        (14, "mirrors.oasis.layout"),
        (15, "mirrors.oasis.max_leg"),
        (17, "mirrors.oasis.topics.orders.max_lag"),
        (20, "mirrors.oasis.topics.payments"),
        (22, 'mirrors.oasis.topics."a topic"'),
        (23, "mirrors.watch"),
        (27, "mirrors.watch.topics.clicks.retries"),
    ]
    assert [mirror.name for mirror in configuration.mirrors] == ["good"]
    with pytest.raises(ConfigurationError) as caught:
        configuration.raise_for_mistakes()
    assert caught.value.message.splitlines() == lines(configuration)
    assert lines(configuration)[5] == (
        "ten_mistakes.yaml:17: mirrors.oasis.topics.orders.max_lag: "
        '"30" is not a whole number; write one such as 100, without quotes'
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "mirrors.yaml:1: mirrors: names no mirror"),
        ("# nothing", "names no mirror"),
        ("mirrors:", "mirrors.yaml:1: mirrors: names no mirror"),
        ("[1, 2]", "mirrors.yaml:1: top level: a list is not a mapping"),
        ("just text", "top level"),
        ("mirrors: [oasis]", "mirrors.yaml:1: mirrors: a list is not a mapping"),
        ("mirrors:\n  a: {\n", "mirrors.yaml:3: is not YAML"),
        ("mirrors:\n\tm: 1\n", "mirrors.yaml:2: is not YAML"),
        ("mirrors:\n\tm: 1\n", "indent with spaces"),
        ("a: 1\n---\nb: 2\n", "mirrors.yaml:2: is not YAML"),
        ("a:\n  \x07", "mirrors.yaml:2: is not YAML"),
        (b"a:\n  \xff\xfe", "mirrors.yaml:2: is not UTF-8"),
        ("a: *b", "mirrors.yaml:1: is not YAML"),
        ("[" * 500, "nested too deeply"),
        ("x: !!python/object/apply:os.system [id]", "unknown tag"),
    ],
)
def test_file_that_cannot_be_used(write, text, said):
    """A file without any usable mirror raises at once and says where and why."""
    assert said in refused(write(text))


@pytest.mark.parametrize("path", [ROOT / "include/mirrors.yaml", FIXTURES / "ten_mistakes.yaml"])
def test_without_libyaml_a_file_says_the_same(path, monkeypatch):
    """Both loaders of YAML give one configuration, and the same mistakes in the same lines."""
    fast = load(path)
    monkeypatch.setattr(yaml_lines, "_Loader", yaml.SafeLoader)
    assert load(path) == fast


def test_nesting_that_would_overflow_the_stack_of_libyaml(write):
    """Nesting of any depth is an error, whatever the loader is written in."""
    assert "nested too deeply" in refused(write("[" * 100_000))


def test_missing_file_and_directory(tmp_path):
    """A file that can't be opened is named with its full path and the setting that moves it."""
    for path in (tmp_path / "mirrors.yaml", tmp_path, str(tmp_path / "x"), tmp_path / "a\0b"):
        message = refused(path)
        assert f"{path}: can't be read" in message
        assert "[lag] mirrors_file" in message


def test_file_level_mistakes_raise_with_all_others(write):
    """A mistake that concerns every mirror raises, and lists the mistakes of mirrors too."""
    message = refused(
        write(
            "elasticsearch: {index: Lag}\ndefaults: {timeout: 5s}\nmirors: {}\n"
            "mirrors:\n  m: {bootstrap_servers: 'a:1', group: g, topics: {t: {pool: 7}}}\n"
        )
    )
    assert [line.split(": ")[:2] for line in message.splitlines()] == [
        ["mirrors.yaml:1", "elasticsearch.index"],
        ["mirrors.yaml:2", "defaults.timeout"],
        ["mirrors.yaml:3", "mirors"],
        ["mirrors.yaml:5", "mirrors.m.topics.t.pool"],
    ]
    assert "did you mean mirrors?" in message


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("max_lag", "30", "not a whole number"),
        ("max_lag", 1.5, "not a whole number"),
        ("max_lag", True, "not a whole number"),
        ("max_lag", -1, "too small"),
        ("max_lag", 2**63, "too big"),
        ("max_lag", 2**300, "too big"),
        ("max_lag", float("nan"), "not a whole number"),
        ("max_lag", [1], "a list is not a whole number"),
        ("max_lag_seconds", "2 minutes", "not a whole number"),
        ("sla", 30, "90s, 5m or 2h"),
        ("sla", "30", "90s, 5m or 2h"),
        ("sla", "0s", "90s, 5m or 2h"),
        ("sla", "-5m", "90s, 5m or 2h"),
        ("sla", "1d", "90s, 5m or 2h"),
        ("sla", "99999999999h", "90s, 5m or 2h"),
        ("timeout", "9s", "from 10s to 55s"),
        ("timeout", "56s", "from 10s to 55s"),
        ("timeout", None, "90s, 5m or 2h"),
        ("retries", -1, "too small"),
        ("retry_delay", {}, "a mapping is not a duration"),
        ("owner", "", "is empty"),
        ("owner", "a\nb", "line break"),
        ("pool", "p" * 251, "at most 250"),
        ("deferrable", "yes", "not true or false"),
        ("paused", 1, "not true or false"),
        ("start_date", "soon", "2024-01-31"),
        ("start_date", 2024, "2024-01-31"),
        ("start_date", "0001-01-01T00:00:00+14:00", "2024-01-31"),
        ("tags", "one", "not a list"),
        ("tags", ["t" * 101], "at most 100"),
        ("tags", [7], "is not text"),
        ("access_control", ["Viewer"], "not a mapping"),
        ("access_control", {"Viewer": "can_read"}, "not a list"),
        ("access_control", {"Viewer": ["can_fly"]}, "'can_read', 'can_edit' or 'can_delete'"),
        ("access_control", {"": ["can_read"]}, "is empty"),
        ("sla_miss_callback", "function", "package.module.function"),
        ("sla_miss_callback", "os.system('id')", "package.module.function"),
        ("sla_miss_callback", "a.import.b", "package.module.function"),
        ("max_lagg", 1, "did you mean max_lag?"),
        ("retention", "2h", "not a known key; leave it out, or write one of"),
        ("group", "g", "move it to its mirror"),
    ],
)
def test_wrong_topic_key(load_mirror, key, value, said):
    """A wrong key of a topic is told with its path, the value and what to write."""
    line = only(load_mirror(topic={key: value}))
    assert line.startswith(f"mirrors.yaml:1: mirrors.m.topics.t.{key}")
    assert said in line


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("ssh_conn_id", "my conn", "connection id"),
        ("ssh_conn_id", "c" * 201, "connection id"),
        ("group", "", "is empty"),
        ("group", "a\tb", "control character"),
        ("group", 7, "is not text"),
        ("group", "\ud800", "half a character"),
        ("tool", "bin/tool.sh", "absolute path"),
        ("tool", "$HOME/bin/tool.sh", "absolute path"),
        ("tool", "/bin/", "absolute path"),
        ("command_config", "source.properties", "absolute path"),
        ("layout", "cluster", "'topic', 'mirror' or 'group'"),
        ("jvm_opts", "-Xmx1G rm", "word that is no flag"),
        ("jvm_opts", "-Xmx1G\n-Xms1G", "line break"),
        ("class_data_archive", "", "is empty"),
        ("class_data_archive", "lag", "absolute path"),
        ("class_data_archive", "~/lag", "~ and $ are not replaced"),
        ("class_data_archive", "/", "absolute path"),
        ("class_data_archive", "/var/lag/", "no / at its end"),
        ("class_data_archive", "/var/my lag", "without spaces"),
        ("class_data_archive", "/var/lag:/tmp", "absolute path"),
        ("class_data_archive", "/var/*", "absolute path"),
        ("class_data_archive", True, "is not text"),
        ("bootstrap_servers", [], "at least one"),
        ("bootstrap_servers", "", "host:port"),
        ("bootstrap_servers", {"a": 1}, "not a list"),
        ("topics", {}, "names no topic"),
        ("topics", ["orders"], "a list is not a mapping"),
        ("topics", "orders", '"orders" is not a mapping'),
        ("notifiers", [], "not a known key"),
        ("Timeout", "5s", "did you mean timeout?"),
    ],
)
def test_wrong_mirror_key(load_mirror, key, value, said):
    """A wrong key of a mirror is told with its path, the value and what to write."""
    found = load_mirror(mirror={key: value})
    assert any(f" mirrors.m.{key}" in line and said in line for line in lines(found))
    assert not found.mirrors


@pytest.mark.parametrize("key", ["bootstrap_servers", "group", "topics"])
def test_missing_key_stands_at_the_mirror(write, key):
    """A required key that isn't there has the line of its mirror's name."""
    keys = {"bootstrap_servers": "a:1", "group": "g", "topics": {"t": None}}
    del keys[key]
    text = "mirrors:\n\n" + yaml.safe_dump({"m": keys}).replace("m:", "  m:").replace("\n", "\n  ")
    assert only(load(write(text))).startswith(f"mirrors.yaml:3: mirrors.m.{key}: ")


@pytest.mark.parametrize("server", ["a:0", "a:65536", "a", ":9092", "a b:1", " a:1", "a:1 ", "a:٣"])
@pytest.mark.parametrize("wrong", ["1.2.3:1", "256.1.1.1:1", "[::g]:1", "::1:1", "x://a:1", "-a:1"])
def test_wrong_servers(load_mirror, server, wrong):
    """Each server that is no host and port is a mistake of its own."""
    found = lines(load_mirror(mirror={"bootstrap_servers": [server, "right:9092", wrong]}))
    assert len(found) == 2
    assert "bootstrap_servers[0]: " in found[0]
    assert "bootstrap_servers[2]: " in found[1]


@pytest.mark.parametrize("server", ["a:1", "b-1.x_y.z:65535", "10.0.0.1:9092", "[fe80::1]:9092"])
def test_right_servers(load_mirror, server):
    """Names, IPv4 and bracketed IPv6 addresses come out the same from a list and from a text."""
    for servers in ([server, "b:2"], f"{server},b:2"):
        (mirror,) = load_mirror(mirror={"bootstrap_servers": servers}).mirrors
        assert mirror.bootstrap_servers == (server, "b:2")


@pytest.mark.parametrize(
    "flag",
    ["-Djavax.net.ssl.keyStorePassword=hush", "-Dclient.SECRET=hush", "-Dsasl.jaas.config=hush"],
)
def test_secrets_in_jvm_opts(load_mirror, flag):
    """A secret on the command line is refused, and not repeated in the message."""
    line = only(load_mirror(mirror={"jvm_opts": f"-Xmx64M {flag}"}))
    assert "put it into the command_config file" in line
    assert "hush" not in line


@pytest.mark.parametrize("index", ["lag", "lag-%Y.%m.%d-%H", "a" * 255, "lag-%Y" + "a" * 247])
def test_right_index_names(load_mirror, index):
    """An index name may hold date fields, whose real length counts."""
    assert load_mirror(elasticsearch={"index": index}).elasticsearch.index == index


@pytest.mark.parametrize("index", [*"-_+.", "..", "Lag", "a b", "a,b", "a:b", "%y", "%", "a" * 256])
def test_wrong_index_names(load_mirror, index):
    """A name that Elasticsearch would refuse is refused here, for all mirrors."""
    with pytest.raises(ConfigurationError, match="elasticsearch.index: "):
        load_mirror(elasticsearch={"index": index})


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("2024-05-01 06:00:00", datetime(2024, 5, 1, 6, tzinfo=UTC)),
        ("2024-05-01T06:00:00Z", datetime(2024, 5, 1, 6, tzinfo=UTC)),
        ("2024-05-01T06:00:00+02:00", datetime(2024, 5, 1, 4, tzinfo=UTC)),
    ],
)
def test_start_date(write, written, means):
    """Dates and instants, quoted or not, become UTC instants."""
    for value in (written, f'"{written}"'):
        text = f"mirrors:\n m:\n  bootstrap_servers: a:1\n  group: g\n  start_date: {value}\n"
        (mirror,) = load(write(text + "  topics: {t: }")).mirrors
        assert mirror.topics[0].start_date == means
        assert mirror.start_date.tzinfo is UTC


def test_max_lag_seconds_as_duration(load_mirror):
    """Seconds may be written as a number or as a duration."""
    for written in (120, "120s", "2m"):
        (mirror,) = load_mirror(topic={"max_lag_seconds": written}).mirrors
        assert mirror.topics[0].max_lag_seconds == 120


@pytest.mark.parametrize(
    ("keys", "retries"),
    [({}, 1), ({"timeout": "27s"}, 1), ({"timeout": "28s"}, 0), ({"retry_delay": "10s"}, 0)],
)
def test_default_retries(load_mirror, keys, retries):
    """One retry is the default where it ends before the next minute, none otherwise."""
    (mirror,) = load_mirror(topic=keys).mirrors
    assert mirror.topics[0].retries == retries


@pytest.mark.parametrize(
    ("keys", "right"),
    [
        ({"timeout": "27s", "retries": 1, "retry_delay": "5s"}, True),
        ({"timeout": "27s", "retries": 1, "retry_delay": "6s"}, False),
        ({"timeout": "10s", "retries": 3, "retry_delay": "6s"}, True),
        ({"timeout": "10s", "retries": 3, "retry_delay": "7s"}, False),
        ({"timeout": "55s", "retries": 0, "retry_delay": "1h"}, True),
        ({"timeout": "10s", "retries": 5, "retry_delay": "1s"}, False),
    ],
)
def test_all_tries_end_before_the_next_minute_is_due(load_mirror, keys, right):
    """59 seconds are right and 60 are not, however they are made up; a pause needs a retry."""
    found = load_mirror(topic=keys)
    assert bool(found.mirrors) is right
    assert bool(found.mistakes) is not right


def test_timing_names_the_sum_at_the_most_specific_key(load_mirror):
    """Tries that can't end within the minute are told where the topic, then the mirror says it."""
    line = only(load_mirror(mirror={"timeout": "30s"}, topic={"retries": 1}))
    assert "topics.t.retries: timeout 30s, retries 1 and retry_delay 5s can take 65 s" in line
    found = load_mirror(mirror={"timeout": "30s", "retries": 1, "topics": {"t": {}, "u": {}}})
    assert " mirrors.m.retries: " in only(found)


def test_timing_in_defaults_spoils_only_mirrors_that_keep_it(write):
    """A mirror that overrides bad defaults isn't taken out with those that don't."""
    configuration = load(
        write(
            "defaults: {bootstrap_servers: a:1, group: g, retries: 3}\n"
            "mirrors:\n  bad: {topics: {t: , u: }}\n  good: {timeout: 10s, topics: {t: }}\n"
        )
    )
    assert [mirror.name for mirror in configuration.mirrors] == ["good"]
    (line,) = lines(configuration)
    assert line.startswith("mirrors.yaml:1: defaults.retries: in mirror bad, timeout 25s")


def test_wrong_timing_value_makes_no_second_mistake(load_mirror):
    """A value that is wrong by itself isn't judged together with others as well."""
    found = load_mirror(mirror={"timeout": "30s"}, topic={"retries": 1, "retry_delay": 5})
    assert "retry_delay" in only(found)


def test_allowed_lag_above_max_lag(load_mirror):
    """A lag can't be allowed and too much at once, whichever level says so."""
    assert "topics.t.allowed_lag: allowed_lag 2 is above max_lag 1" in only(
        load_mirror(mirror={"max_lag": 1}, topic={"allowed_lag": 2})
    )
    assert load_mirror(topic={"allowed_lag": 1, "max_lag": 1}).mirrors


def test_dag_keys_in_layout_mirror(load_mirror):
    """Topics that share a DAG can't have its keys; the mirror can."""
    line = only(load_mirror(mirror={"layout": "mirror"}, topic={"tags": ["a"]}))
    assert "move it to the mirror" in line
    (mirror,) = load_mirror(mirror={"layout": "mirror", "tags": ["a"]}).mirrors
    assert mirror.tags == ("a",)


@pytest.mark.parametrize(
    "name", ["007", "1e3", "null", "on", "yes", "0x10", "2024-01-01", "_", "="]
)
def test_names_stay_as_written(write, name):
    """YAML's own reading of a key never changes a topic's or mirror's name."""
    text = f"mirrors:\n  {name}: {{bootstrap_servers: a:1, group: g, topics: {{{name}: }}}}\n"
    if name == "=":
        assert len(load(write(text)).mistakes) == 2
        return
    (mirror,) = load(write(text)).mirrors
    assert (mirror.name, mirror.topics[0].name) == (name, name)


@pytest.mark.parametrize("name", [".", "..", "", "a/b", "ä", "t" * 250, *HOSTILE[:-4], "a b"])
def test_names_that_kafka_refuses(load_mirror, name):
    """A topic's name is Kafka's or a mistake, on one line whatever the name holds."""
    line = only(load_mirror(mirror={"topics": {name: None}}))
    assert "is no topic name of Kafka" in line
    assert line.isprintable()


@pytest.mark.parametrize("name", ["watch", "a.b", "m" * 61, "", *HOSTILE[:-3]])
def test_wrong_mirror_names(write, name):
    """A mirror's name that can't be part of a DAG id is a mistake."""
    keys = {"bootstrap_servers": "a:1", "group": "g", "topics": {"t": None}}
    (line,) = lines(load(write(json.dumps({"mirrors": {name: keys}}))))
    assert "write" in line
    assert line.isprintable()


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_tools_and_groups(load_mirror, value):
    """A tool's name that a shell would act on is refused; a group keeps every plain character."""
    assert ".tool: " in only(load_mirror(mirror={"tool": value}))
    found = load_mirror(mirror={"group": value})
    if value.isprintable():
        assert found.mirrors[0].group == value
    else:
        assert "control character" in only(found)


def test_duplicates_name_both_lines(write):
    """A key that stands twice is told at the second place, with the line of the first."""
    text = "mirrors:\n  m: {bootstrap_servers: a:1, topics: {t: },\n   group: g,\n   group: h}\n"
    line = only(load(write(text)))
    assert line.startswith("mirrors.yaml:4: mirrors.m.group: stands here again, first in line 3")
    assert "mirrors.yaml:2: mirrors: stands here again" in refused(write("mirrors:\nmirrors:\n"))


def test_yaml_traps_inside_a_mirror(write):
    """Merge keys, odd tags, odd keys and endless aliases spoil their mirror and nothing else."""
    good = "  good: &g {bootstrap_servers: 'a:1', group: g, topics: {t: }}\n"
    for wrong, said in {
        "{<<: *g}": "merge keys are not supported",
        "{tags: !odd [a]}": "unknown tag",
        "{retries: !!int many}": "is no plain number",
        "{retries: 010}": "is no plain number",
        "{start_date: 2024-13-45}": "is no timestamp that can be read",
        "{retries: 1" + "0" * 5000 + "}": "is no int that can be read",
        "{retries: 0x" + "f" * 5000 + "}": "is no plain number",
        "{max_lag: .inf}": "not a whole number",
        "{max_lag: 1:30:00}": "is no plain number",
        "{[a, b]: 1}": "a key has to be plain text",
        "&self {topics: *self}": "alias of something it is part of",
        "[a]": "a list is not a mapping",
        "": "is missing",
    }.items():
        configuration = load(write(f"mirrors:\n{good}  bad: {wrong}\n"))
        assert [mirror.name for mirror in configuration.mirrors] == ["good"]
        assert any(said in line for line in lines(configuration)), wrong


def test_a_value_wrong_as_a_whole_is_one_mistake(load_mirror, write):
    """What can't be read because of a mistake above it isn't told as well."""
    assert "a list is not a mapping" in only(load_mirror(mirror={"topics": ["orders"]}))
    assert "a list is not a mapping" in only(load(write("mirrors: {m: [a]}")))
    for text in ("[1]", "mirrors: [oasis]", "mirrors: !odd {}", ""):
        assert len(refused(write(text)).splitlines()) == 1


def test_aliases_are_followed(write):
    """An alias stands for the value it names, with the line of its own place."""
    text = (
        "mirrors:\n"
        "  a: {bootstrap_servers: &s [a:1], group: g, topics: &t {x: {pool: p}}}\n"
        "  b: {bootstrap_servers: *s, group: g, topics: *t}\n"
    )
    assert [mirror.topics[0].pool for mirror in load(write(text)).mirrors] == ["p", "p"]
    found = load(write(text.replace("pool: p", "pool: 1")))
    assert [mistake.path for mistake in found.mistakes] == [
        "mirrors.a.topics.x.pool",
        "mirrors.b.topics.x.pool",
    ]


def test_alias_bomb_ends(write):
    """Aliases of aliases that would fill the memory end in an error."""
    rows = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "once its aliases are followed" in refused(write("\n".join(["a0: &a0 x", *rows])))


def test_configured_topics(write):
    """Topics of a group are those of all mirrors on it, whatever order and mistakes they have."""
    configuration = load(
        write(
            "defaults: {group: g}\n"
            "mirrors:\n"
            "  one: {bootstrap_servers: [a:1, b:1], topics: {x: }}\n"
            "  two: {bootstrap_servers: 'b:1,a:1', topics: {y: , z: {pool: 1}}}\n"
            "  three: {bootstrap_servers: a:1, topics: {far: }}\n"
            "  four: {bootstrap_servers: a:1, group: other, topics: {w: }}\n"
        )
    )
    one, three, four = configuration.mirrors
    assert configuration.configured_topics(one) == {"x", "y", "z"}
    assert configuration.configured_topics(three) == {"far"}
    assert configuration.configured_topics(four) == {"w"}


def test_import_is_light():
    """Reading the configuration pulls in neither Airflow nor a client."""
    code = (
        "import sys, airflow_lag_provider.config; "
        "print([m for m in ('airflow', 'elasticsearch', 'asyncssh') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_secrets_do_not_reach_the_message_of_another_type(load_mirror):
    """JVM flags given as a list aren't repeated either."""
    assert "hush" not in only(load_mirror(mirror={"jvm_opts": ["-Dpassword=hush"]}))


def load_or_refuse(tmp_path_factory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    try:
        load(path).raise_for_mistakes()
    except ConfigurationError as error:
        told = error.message.splitlines()
    else:
        return
    assert told
    assert all(line.isprintable() for line in told)


KEYS = st.sampled_from(
    ["elasticsearch", "defaults", "mirrors", *Elasticsearch.model_fields, *Mirror.model_fields]
    + ["m", "t", "<<"]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    st.datetimes(),
    st.binary(max_size=4),
    st.text(max_size=8),
    st.sampled_from(["30s", "5m", "a:9092", "mirror", "topic", "/x", "%Y", "a.b"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=4),
    max_leaves=12,
)
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(text=st.text(alphabet="ab:- \n\t[]{}&*!<'\"#|>%@?,~01.e\\", max_size=40) | st.text())
@example(text="? [a]\n: b")
@example(text="mirrors: {? {a: b} : c}")
@example(text="!!bool x")
@example(text="mirrors: {m: !!timestamp x}")
@example(text='mirrors: {m: !!int ""}')
@example(text="mirrors: {m: {start_date: 2024-13-45}}")
def test_any_text_loads_or_is_refused(tmp_path_factory, text):
    """Whatever text the file holds, the only error is ConfigurationError."""
    load_or_refuse(tmp_path_factory, text.encode(errors="surrogatepass"))


@QUICK
@given(mirror=st.dictionaries(KEYS, VALUES, max_size=8), top=st.dictionaries(KEYS, VALUES))
def test_any_structure_loads_or_is_refused(tmp_path_factory, mirror, top):
    """Whatever stands where something else is expected, the only error is ConfigurationError."""
    whole = top | {"mirrors": {"m": mirror, "n": {"group": "g", "topics": {"t": mirror}}}}
    for content in (whole, top):
        load_or_refuse(tmp_path_factory, yaml.safe_dump(content).encode())


@pytest.mark.parametrize(
    "key", ["group", "tool", "command_config", "jvm_opts", "class_data_archive", "pool"]
)
@pytest.mark.parametrize("mark", ["{{7*7}}", "{%x", "{#x"])
def test_what_airflow_would_render_is_refused(load_mirror, key, mark):
    """A value with a mark of a template would become another one before it is used."""
    start = {"group": "g", "jvm_opts": "-Da=", "pool": "p"}.get(key, "/a/")
    line = only(load_mirror(mirror={key: start + mark}))
    assert f"mirrors.m.{key}: " in line
    assert "as a template" in line
