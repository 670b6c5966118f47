"""The class data archive: the real command line in real shells, with a tool and a Java of scripts.

The tool writes down how its JVM would have been started, and does as the file ``way`` says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_lag_provider.command import describe_command, split_end_marker

SHELLS = [name for name in ("dash", "bash", "busybox", "mksh") if shutil.which(name)]
TOOL = """#!/bin/sh
home=${0%/bin/*}
way=$(cat "$home/way")
printf '%s|%s\\n' "$KAFKA_OPTS" "$*" >>"$home/starts"
for option in $KAFKA_OPTS; do
    case $way,$option in
    "no archive",-XX:ArchiveClassesAtExit=*) echo "Unrecognized VM option"; exit 1 ;;
    "half of it",-XX:ArchiveClassesAtExit=*) echo half >"${option#*=}"; exit 1 ;;
    "nothing",-XX:ArchiveClassesAtExit=*) ;;
    *,-XX:ArchiveClassesAtExit=*) echo archive >"${option#*=}" ;;
    "unusable",-Xshare:on) echo "An error has occurred"; exit 1 ;;
    "crashes",-XX:SharedArchiveFile=*) kill -ABRT $$ ;;
    esac
done
case $way in
"no broker") printf '\\nError: Executing consumer group command failed due to a broker\\n' ;;
"hangs") trap '' TERM; while :; do sleep 1; done ;;
*) printf '\\nGROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID' ;;
esac
echo "Consumer group 'g' has no active members." >&2
[ "$way" != fails ] || exit 3
"""


@dataclass
class Host:
    """A host with a tool and a Java, and a directory for archives that isn't there yet."""

    home: Path
    java: Path
    archives: Path
    shell: Path

    def command(self, **changes: Any) -> str:
        arguments: dict[str, Any] = {
            "bootstrap_servers": ["b:9092"],
            "group": "g",
            "timeout": 20.0,
            "tool": str(self.home / "bin" / "kafka-consumer-groups.sh"),
            "class_data_archive": str(self.archives),
        }
        return describe_command(**{**arguments, **changes})

    def start(self, **changes: Any) -> subprocess.Popen[str]:
        path = f"{self.shell}:/usr/bin:/bin"
        return subprocess.Popen(
            ["sh", "-c", self.command(**changes)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": path, "JAVA_HOME": str(self.java)},
        )

    def run(self, **changes: Any) -> tuple[str, str, int]:
        """Run the command; return the tool's stdout, its stderr and its exit code."""
        stdout, stderr = self.start(**changes).communicate(timeout=60)
        stdout, code = split_end_marker(stdout)
        return stdout, stderr, code

    def behaves(self, way: str) -> None:
        (self.home / "way").write_text(way)

    def starts(self) -> list[str]:
        """Return the JVM options of every start of the tool, oldest first."""
        file = self.home / "starts"
        return [line.partition("|")[0].strip() for line in file.read_text().splitlines()]

    def files(self) -> set[str]:
        """Return the endings of the files in the directory for archives."""
        return {path.suffix for path in self.archives.glob("consumer-lag-*")}

    def archive(self) -> Path:
        (archive,) = self.archives.glob("*.jsa")
        return archive

    def make(self) -> None:
        """Run until the archive is there, then forget how the tool was started."""
        self.run()
        self.wait(lambda: ".txt" in self.files())
        (self.home / "starts").unlink()

    def wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not done():
            assert time.monotonic() < deadline, (self.files(), self.starts())
            time.sleep(0.02)

    def settle(self, starts: int) -> None:
        """Wait until the tool was started so often and no try for an archive is under way."""
        self.wait(lambda: len(self.starts()) >= starts and self.quiet())

    def quiet(self) -> bool:
        listed = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True)
        return str(self.home) not in listed.stdout

    def an_hour_later(self) -> None:
        for tried in self.archives.glob("*.tried"):
            os.utime(tried, (time.time() - 3700,) * 2)

    def uses_archive(self) -> bool:
        """Run once, which must go well; return whether that was with the archive."""
        before = len(self.starts()) if (self.home / "starts").exists() else 0
        stdout, _, code = self.run()
        assert "LOG-END-OFFSET" in stdout
        assert code == 0
        # Not the last one: the archive may be in the making by now, which ends with a try of it.
        return "-XX:SharedArchiveFile=" in self.starts()[before]


def make_host(folder: Path, shell: str = "sh") -> Host:
    home, java = folder / "kafka", folder / "jdk"
    for directory in (home / "bin", home / "libs", java / "bin", java / "lib" / "server"):
        directory.mkdir(parents=True)
    (home / "libs" / "clients.jar").write_text("jar")
    (home / "libs" / "tools.jar").write_text("jar")
    (java / "lib" / "server" / "libjvm.so").write_text("jvm")
    for program, text in (
        (home / "bin" / "kafka-consumer-groups.sh", TOOL),
        (java / "bin/java", ""),
    ):
        program.write_text(text)
        program.chmod(0o755)
    shells = folder / "shell"
    shells.mkdir()
    (shells / "sh").symlink_to(shutil.which(shell) or "/bin/sh")
    host = Host(home, java, folder / "made-for-it" / "archives", shells)
    host.behaves("as it should")
    return host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return make_host(tmp_path)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_first_use_makes_it_and_the_next_ones_use_it(tmp_path: Path, shell: str) -> None:
    """The archive comes after the describe, from a second one, and is tried before it counts."""
    host = make_host(tmp_path, shell)
    assert host.run()[2] == 0
    host.wait(lambda: ".txt" in host.files())
    described, made, tried = host.starts()
    assert described == ""
    assert made.startswith("-XX:ArchiveClassesAtExit=")
    assert tried.startswith("-Xshare:on -XX:SharedArchiveFile=")
    assert host.files() == {".jsa", ".txt", ".tried"}
    assert host.uses_archive()
    assert host.uses_archive()
    assert len(host.starts()) == 5
    assert f"-XX:SharedArchiveFile={host.archive()} " in host.starts()[-1]
    assert host.archives.stat().st_mode & 0o777 == 0o700
    assert host.archive().stat().st_mode & 0o777 == 0o600


def test_the_describe_is_the_same_with_and_without(host: Host) -> None:
    """The output, the messages, the exit code and the tool's words don't change."""
    without = host.run(class_data_archive=None)
    assert not host.archives.exists()
    assert host.run() == without
    host.wait(lambda: ".txt" in host.files())
    assert host.run() == without
    words = {line.partition("|")[2] for line in (host.home / "starts").read_text().splitlines()}
    assert words == {"--bootstrap-server b:9092 --describe --group g --timeout 9600"}


@pytest.mark.parametrize(
    "changed",
    ["kafka/libs/tools.jar", "kafka/bin/kafka-consumer-groups.sh", "jdk/lib/server/libjvm.so"],
)
def test_another_file_of_the_same_name_brings_another_archive(
    tmp_path: Path, host: Host, changed: str
) -> None:
    """A tool or Java that was replaced, even by one of equal size and time, gets its own."""
    host.make()
    old = host.archive().stat().st_ino
    file = tmp_path / changed
    copy = shutil.copy2(file, tmp_path / "copy")
    Path(copy).replace(file)
    assert not host.uses_archive()
    host.an_hour_later()
    assert not host.uses_archive()
    host.wait(lambda: host.archive().stat().st_ino != old and host.quiet())
    assert host.uses_archive()


@pytest.mark.parametrize("change", ["a jar more", "a jar less", "another Java"])
def test_other_files_are_noticed(tmp_path: Path, host: Host, change: str) -> None:
    """The list of jars and the way to Java count as well."""
    host.make()
    if change == "a jar more":
        (host.home / "libs" / "more.jar").write_text("jar")
    elif change == "a jar less":
        (host.home / "libs" / "tools.jar").unlink()
    else:
        host.java = Path(shutil.copytree(host.java, tmp_path / "jdk2"))
    assert not host.uses_archive()


@pytest.mark.parametrize("damage", ["cut off", "longer", "emptied", "another", "gone", "list gone"])
def test_an_archive_that_was_touched_is_not_used(host: Host, damage: str) -> None:
    """A JVM may crash on a damaged archive, so it never gets to see one."""
    host.make()
    archive = host.archive()
    if damage == "cut off":
        os.truncate(archive, 3)
    elif damage == "longer":
        archive.write_text("archive and more")
    elif damage == "emptied":
        archive.write_text("")
    elif damage == "another":
        copy = shutil.copy2(archive, archive.with_name("copy"))
        Path(copy).replace(archive)
    elif damage == "gone":
        archive.unlink()
    else:
        archive.with_suffix(".txt").unlink()
    assert not host.uses_archive()
    host.an_hour_later()
    host.run()
    host.wait(lambda: host.quiet() and ".jsa" in host.files())
    assert host.uses_archive()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_may_write_is_not_used(host: Host, mode: int) -> None:
    """Java runs what an archive holds, so nobody else may be able to put one there."""
    host.make()
    host.archives.chmod(mode)
    assert not host.uses_archive()
    host.archive().unlink()
    host.an_hour_later()
    assert not host.uses_archive()
    assert len(host.starts()) == 2
    assert host.files() == {".txt", ".tried"}


def test_a_directory_of_another_user_is_not_used(tmp_path: Path, host: Host) -> None:
    """Its owner could replace the archive at any time."""
    if os.getuid() == 0:
        host.archives.mkdir(parents=True)
        os.chown(host.archives, 65534, 65534)
    else:
        host.archives = Path("/usr")
    assert not host.uses_archive()
    assert not host.uses_archive()
    assert len(host.starts()) == 2
    assert host.files() == set()


def test_a_link_to_a_directory_is_not_used(tmp_path: Path, host: Host) -> None:
    """In a directory that others may write, such as /tmp, a link could lead anywhere."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    host.archives.parent.mkdir()
    host.archives.symlink_to(tmp_path / "elsewhere")
    assert not host.uses_archive()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_directory_that_can_not_be_made_costs_nothing(tmp_path: Path, host: Host) -> None:
    """The describes go on as if nobody had asked for an archive, without a second JVM."""
    (tmp_path / "made-for-it").write_text("a file")
    without = host.run(class_data_archive=None)
    assert [host.run(), host.run()] == [without, without]
    assert host.starts() == ["", "", ""]


@pytest.mark.parametrize(
    ("way", "starts"), [("no archive", 2), ("half of it", 2), ("nothing", 2), ("unusable", 3)]
)
def test_a_java_that_makes_none_is_asked_once_an_hour(host: Host, way: str, starts: int) -> None:
    """Nothing half-made stays, and the describe is as good as without."""
    host.behaves(way)
    assert not host.uses_archive()
    host.settle(starts)
    assert host.files() == {".tried"}
    assert not host.uses_archive()
    assert len(host.starts()) == starts + 1
    host.an_hour_later()
    assert not host.uses_archive()
    host.settle(2 * starts + 1)
    assert host.files() == {".tried"}


def test_no_archive_comes_from_a_describe_that_brings_no_rows(host: Host) -> None:
    """It would lack the classes that print them."""
    host.behaves("no broker")
    assert "Error:" in host.run()[0]
    host.settle(2)
    assert host.files() == {".tried"}


def test_a_tool_that_fails_is_not_started_again_for_an_archive(host: Host) -> None:
    """Its exit code comes through, and the next run may try."""
    host.behaves("fails")
    assert host.run()[2] == 3
    assert host.files() == set()
    assert host.run()[2] == 3
    assert host.starts() == ["", ""]


def test_a_tool_that_is_not_there_is_not_found(host: Host) -> None:
    """The exit code is that of a missing program."""
    stdout, _, code = host.run(tool="/nowhere/kafka-consumer-groups.sh")
    assert (stdout, code) == ("", 127)


@pytest.mark.parametrize("missing", ["jars", "jvm", "java"])
def test_without_files_to_know_it_by_no_archive_is_made(host: Host, missing: str) -> None:
    """What can't be told from another tool or Java gets no archive."""
    if missing == "jars":
        shutil.rmtree(host.home / "libs")
    else:
        shutil.rmtree(host.java / {"jvm": "lib", "java": "bin"}[missing])
    assert not host.uses_archive()
    assert not host.archives.exists()


def test_the_jars_of_a_package_are_found_too(host: Host) -> None:
    """Kafka from a package has its scripts in bin and its jars in share/java/kafka."""
    (host.home / "share" / "java").mkdir(parents=True)
    (host.home / "libs").rename(host.home / "share" / "java" / "kafka")
    host.make()
    assert "share/java/kafka/clients.jar" in host.archive().with_suffix(".txt").read_text()
    assert host.uses_archive()


def test_several_at_once_make_it_once(host: Host) -> None:
    """They don't wait for each other, and none sees a half-made archive."""
    running = [host.start(group=f"g{number}") for number in range(6)]
    for one in running:
        stdout, code = split_end_marker(one.communicate(timeout=60)[0])
        assert "LOG-END-OFFSET" in stdout
        assert code == 0
    host.wait(lambda: ".txt" in host.files())
    assert sum("ArchiveClassesAtExit" in options for options in host.starts()) == 1
    assert host.uses_archive()


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("shell", SHELLS)
def test_a_tool_that_hangs_is_ended_on_the_host(tmp_path: Path, shell: str, there: bool) -> None:
    """The shell in between doesn't keep `timeout` from killing the tool."""
    host = make_host(tmp_path, shell)
    if there:
        host.make()
    host.behaves("hangs")
    assert host.run(timeout=3.0)[2] == 137
    host.wait(host.quiet)
    assert len(host.starts()) == 1
    assert host.files() == ({".jsa", ".txt", ".tried"} if there else {".tried"})


@pytest.mark.parametrize("shell", SHELLS)
def test_a_java_that_crashes_gets_no_archive_the_next_time(tmp_path: Path, shell: str) -> None:
    """What is wrong with an archive although nobody touched it costs one describe."""
    host = make_host(tmp_path, shell)
    host.make()
    host.behaves("crashes")
    assert host.run()[2] == 134
    assert not host.uses_archive()


def test_old_archives_of_other_flags_go(host: Host) -> None:
    """The directory doesn't grow, and files that aren't ours stay."""
    host.make()
    old = host.archive()
    other = host.archives / "consumer-lag-notes.jsa"
    other.write_text("mine")
    for file in (old, other):
        os.utime(file, (time.time() - 40 * 86400,) * 2)
    host.run(jvm_opts="-Xmx64M")
    host.wait(lambda: host.quiet() and len(list(host.archives.glob("*.txt"))) == 2)
    assert not old.exists()
    assert other.exists()


def test_each_tool_and_each_set_of_flags_has_its_own(host: Host) -> None:
    """Groups share an archive; other flags, settings or tools don't."""

    def key(**changes: Any) -> str:
        words = host.command(**changes).split(f" {host.archives} ")[-1]
        return words.split()[0]

    same = [key(), key(group="h"), key(timeout=50.0), key(bootstrap_servers=["c:9092"])]
    others = [key(jvm_opts=""), key(tool="/k/kafka-consumer-groups.sh"), key(command_config="/c")]
    assert len({*same}) == 1
    assert len({*same, *others}) == 4


@pytest.mark.parametrize("value", ["$(touch pwned)", "a; touch pwned", "a' b", 'a" b', "`id`", "*"])
def test_a_hostile_directory_is_one_word(tmp_path: Path, host: Host, value: str) -> None:
    """Nothing in a directory's name is run, whatever the configuration lets through."""
    host.archives = tmp_path / value
    assert host.run()[2] == 0
    host.wait(host.quiet)
    assert host.archives.is_dir()
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("pwned").exists()


def test_without_the_key_the_command_is_as_short_as_can_be() -> None:
    """No shell, no list of files: the environment, `timeout`, the tool, the end marker."""
    assert describe_command(
        bootstrap_servers=["b:9092"], group="g", timeout=25, tool="/k/t.sh"
    ) == (
        "KAFKA_HEAP_OPTS=-Xmx128M "
        "KAFKA_JVM_PERFORMANCE_OPTS='-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData' "
        "timeout -k 2 21 /k/t.sh --bootstrap-server b:9092 --describe --group g --timeout 12600 "
        "</dev/null; printf '\\n%s %d\\n' __consumer_lag_end__ \"$?\""
    )
