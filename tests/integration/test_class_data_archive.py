"""The class data archive with a real tool, real Javas, a real broker and real SSH servers.

The JVM itself writes down where it took a class from: a jar, or the archive on top of its own.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_lag_provider.collect import Collected, collect
from airflow_lag_provider.command import describe_command
from airflow_lag_provider.errors import JavaFailed, LagError
from lab import client, elasticsearch9
from lab.laboratory import Laboratory
from lab.offsets import read_offsets
from lab.sshd import AsyncsshServer, SshServer
from tests.integration.support import as_environment, eventually

pytestmark = pytest.mark.integration

JAR = "jar"
ARCHIVE = "shared objects file (top)"
_CLASS = re.compile(r"tools\.consumer\.group\.ConsumerGroupCommand source: (.*)")
_attempts = iter(range(1, 1_000_000))


@dataclass(frozen=True)
class Site:
    """A tool of its own on a host, and a directory for archives that isn't there yet.

    :param conn_id: the SSH connection of the host.
    """

    lab: Laboratory
    home: Path
    folder: Path
    conn_id: str = "archive17"

    @property
    def archives(self) -> Path:
        return self.folder / "host" / "archives"

    def command(self, *, group: str | None = None, archive: bool = True) -> str:
        log = self.folder / "classes-%p.log"
        return describe_command(
            bootstrap_servers=[self.lab.source.bootstrap],
            group=group or self.lab.group,
            timeout=25,
            tool=str(self.home / "bin" / "kafka-consumer-groups.sh"),
            jvm_opts=f"-Xmx128M -XX:+UseSerialGC -Xlog:class+load:file={log}:none",
            class_data_archive=str(self.archives) if archive else None,
        )

    async def collect(self, **changes: Any) -> Collected:
        return await collect(
            ssh_conn_id=self.conn_id,
            command=self.command(**changes),
            bootstrap_servers=(self.lab.source.bootstrap,),
            group=changes.get("group") or self.lab.group,
            timeout=25,
            occasion=datetime.now(UTC),
            attempt=next(_attempts),
        )

    def describe(self, **changes: Any) -> str:
        """Describe the group, which must be right; return where the tool's class came from."""
        before = self.logs()
        description = asyncio.run(self.collect(**changes)).description
        topic = self.lab.topics[0]
        rows = {row.partition: (row.committed, row.end) for row in description.topic(topic)}
        offsets = read_offsets(self.lab.source.bootstrap, self.lab.group, topic)
        assert rows == {number: (one.committed, one.end) for number, one in offsets.items()}
        return self.source(before)

    def logs(self) -> set[Path]:
        """Return what the JVMs wrote, a file for each."""
        return set(self.folder.glob("classes-*.log"))

    def source(self, before: set[Path]) -> str:
        """Return where the first JVM took the tool's class from that wasn't there before."""
        log = min(self.logs() - before, key=lambda path: path.stat().st_mtime_ns)
        found = _CLASS.search(log.read_text())
        assert found is not None
        return JAR if found[1].endswith(".jar") else found[1]

    def made(self, *, count: int = 1) -> None:
        """Wait until archives are there and their makers gone."""
        eventually(
            lambda: len(list(self.archives.glob("*.txt"))) == count and self.quiet(),
            f"{count} archives in {self.archives}",
            seconds=60,
        )

    def quiet(self) -> bool:
        listed = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True)
        return str(self.archives) not in listed.stdout

    def archive(self) -> Path:
        (archive,) = self.archives.glob("*.jsa")
        return archive

    def an_hour_later(self) -> None:
        for tried in self.archives.glob("*.tried"):
            os.utime(tried, (time.time() - 3700,) * 2)

    def vouch(self) -> None:
        """Write down the archive as it is now, as if it had just been made."""
        archive = self.archive()
        told = archive.with_suffix(".txt")
        known = archive.stat()
        lines = told.read_text().splitlines()[:-1]
        times = int(known.st_mtime), int(known.st_ctime)
        lines.append(f"{archive} {known.st_ino} {known.st_size} {times[0]} {times[1]}")
        told.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="module")
def kafka(lab: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution that is nobody else's, so that its files can be changed."""
    return Path(shutil.copytree(lab.kafka_home, tmp_path_factory.mktemp("kafka") / "home"))


@pytest.fixture(scope="module")
def bare25() -> Path:
    """A Java 25 that came without the archive of its own on which others build."""
    return elasticsearch9.java(print).parents[1]


@pytest.fixture(scope="module")
def java25(bare25: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one, as other distributions bring it."""
    home = Path(shutil.copytree(bare25, tmp_path_factory.mktemp("java25") / "home"))
    subprocess.run([home / "bin" / "java", "-Xshare:dump"], check=True, capture_output=True)
    return home


@pytest.fixture(scope="module")
def hosts(lab: Laboratory, bare25: Path, java25: Path) -> Iterator[dict[str, SshServer]]:
    """SSH servers whose users find one Java or the other."""
    hosts: dict[str, SshServer] = {"archive17": lab.sshd, "archive_openssh": lab.openssh}
    for name, home in (("archive25", java25), ("archive_bare", bare25)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JAVA_HOME", str(home))
            hosts[name] = AsyncsshServer(workspace=lab.workspace, name=f"sshd-{name}")
        hosts[name].start()
    yield hosts
    hosts["archive25"].stop()
    hosts["archive_bare"].stop()


@pytest.fixture
def site(
    lab: Laboratory,
    kafka: Path,
    hosts: dict[str, SshServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    connections = {name: host.connection() for name, host in hosts.items()}
    for name, value in as_environment(connections).items():
        monkeypatch.setenv(name, value)
    return Site(lab, kafka, tmp_path)


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("host", ["archive17", "archive_openssh"])
def test_the_first_use_makes_it_and_the_next_ones_use_it(site: Site, host: str) -> None:
    """The JVM says that it took the tool's classes from the archive."""
    site = replace(site, conn_id=host)
    assert site.describe() == JAR
    site.made()
    made = site.archive().stat().st_ino
    assert [site.describe(), site.describe()] == [ARCHIVE, ARCHIVE]
    assert site.archive().stat().st_ino == made
    assert everything(site.archives) == {
        f"{site.archive().stem}{suffix}" for suffix in (".jsa", ".txt", ".tried")
    }


def test_another_java_makes_its_own(site: Site) -> None:
    """An archive of Java 17 is not shown to Java 25, and the reverse."""
    site.describe()
    site.made()
    newer = replace(site, conn_id="archive25")
    assert newer.describe() == JAR
    site.an_hour_later()
    assert newer.describe() == JAR
    eventually(
        lambda: "java25" in site.archive().with_suffix(".txt").read_text() and site.quiet(),
        "an archive of Java 25",
        seconds=60,
    )
    assert newer.describe() == ARCHIVE
    assert site.describe() == JAR


def test_a_java_without_an_archive_of_its_own_does_no_harm(site: Site) -> None:
    """It can't make one; the describes are as good as without."""
    site = replace(site, conn_id="archive_bare")
    assert site.describe() == JAR
    eventually(site.quiet, "the try is over", seconds=60)
    assert site.describe() == JAR
    assert [path.suffix for path in site.archives.iterdir()] == [".tried"]


def test_without_the_key_nothing_is_written(site: Site) -> None:
    """No file appears, neither beside the tool nor where the archive would be."""
    before = everything(site.home)
    assert site.describe(archive=False) == JAR
    assert everything(site.home) == before
    assert len(site.logs()) == 1
    assert everything(site.folder) == {log.name for log in site.logs()}


def test_a_jar_that_was_replaced_brings_another_archive(site: Site) -> None:
    """Also one of the same name, size and content: who knows what else was replaced."""
    site.describe()
    site.made()
    old = site.archive().stat().st_ino
    jar = next((site.home / "libs").glob("kafka-clients-*.jar"))
    Path(shutil.copy(jar, site.folder / "copy.jar")).replace(jar)
    assert site.describe() == JAR
    site.an_hour_later()
    assert site.describe() == JAR
    eventually(
        lambda: site.archive().stat().st_ino != old and site.quiet(), "a new one", seconds=60
    )
    assert site.describe() == ARCHIVE


def cut_off(archive: Path) -> None:
    os.truncate(archive, 5_000_000)


def empty(archive: Path) -> None:
    os.truncate(archive, 0)


def blank(archive: Path) -> None:
    archive.write_bytes(bytes(archive.stat().st_size))


def scramble(archive: Path) -> None:
    with archive.open("r+b") as file:
        file.seek(3_000_000)
        file.write(os.urandom(4_000_000))


@pytest.mark.parametrize("damage", [cut_off, empty, blank, scramble])
def test_a_damaged_archive_does_no_harm(site: Site, damage: Callable[[Path], None]) -> None:
    """It stays unused, also when the damage can't be seen from outside: the JVM finds it.

    But it crashes where a part is missing that the archive says it has, which costs one describe.
    """
    site.describe()
    site.made()
    time.sleep(1.1)  # the times of files are compared by the second
    damage(site.archive())
    assert site.describe() == JAR
    site.vouch()
    if damage is cut_off:
        with pytest.raises(JavaFailed):
            site.describe()
    assert site.describe() == JAR


def test_an_archive_of_another_java_prints_nothing_among_the_rows(site: Site) -> None:
    """Even if it were taken for the right one: the JVM refuses it, and says so on stderr."""
    newer = replace(site, conn_id="archive25")
    newer.describe()
    newer.made()
    archive = site.archive()
    foreign = archive.read_bytes()
    site.an_hour_later()
    site.describe()
    eventually(lambda: archive.read_bytes() != foreign and site.quiet(), "Java 17's", seconds=60)
    mine = archive.read_bytes()
    for conn_id, content in (("archive17", foreign), ("archive25", mine)):
        one = replace(site, conn_id=conn_id)
        site.an_hour_later()
        one.describe()
        eventually(one.quiet, "its own archive is made", seconds=60)
        archive.write_bytes(content)
        one.vouch()
        assert one.describe() == JAR


@pytest.mark.parametrize("why", ["below a file", "for others to write", "a link"])
def test_a_directory_that_will_not_do_does_no_harm(site: Site, why: str) -> None:
    """The describes are as good as without, and no archive comes of them."""
    parent = site.archives.parent
    if why == "below a file":
        parent.write_text("a file")
    else:
        (parent / "real").mkdir(parents=True)
        if why == "a link":
            site.archives.symlink_to(parent / "real")
        else:
            (parent / "real").rename(site.archives).chmod(0o777)
    assert [site.describe(), site.describe()] == [JAR, JAR]
    assert site.quiet()
    assert not list(parent.rglob("consumer-lag-*"))


def test_a_full_disk_does_no_harm(site: Site) -> None:
    """A JVM that can't write its archive fails with two lines on stdout: not the describe's."""
    # A limit for files of 4 MB stands for the disk; the shell's own commands write less.
    command = f"ulimit -f 8000; {site.command()}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("\nGROUP")
    assert "Error" not in done.stdout
    eventually(site.quiet, "the try is over", seconds=60)
    assert [path.suffix for path in site.archives.iterdir()] == [".tried"]
    assert site.describe() == JAR


def test_several_groups_at_once_make_one_archive(site: Site) -> None:
    """Describes that run at the same time get in nobody's way."""
    groups = [f"archive-{number}" for number in range(3)]
    for group in groups:
        client.commit_offsets(site.lab.source.bootstrap, group, {(site.lab.topics[0], 0): 1})

    async def together() -> list[Collected]:
        return await asyncio.gather(*(site.collect(group=group) for group in groups))

    for one in asyncio.run(together()):
        assert [(row.partition, row.committed) for row in one.description.partitions] == [(0, 1)]
    site.made()
    before = site.logs()
    assert asyncio.run(site.collect(group=groups[0])).description.group == groups[0]
    assert site.source(before) == ARCHIVE
    assert len(everything(site.archives)) == 3


def test_a_group_that_is_not_there_makes_no_archive(site: Site) -> None:
    """A describe without rows has not loaded what the next one needs."""
    with pytest.raises(LagError, match="does not exist"):
        asyncio.run(site.collect(group="nobody"))
    eventually(site.quiet, "the try is over", seconds=60)
    assert [path.suffix for path in site.archives.iterdir()] == [".tried"]


def test_the_command_is_one_line_that_a_person_can_run(site: Site) -> None:
    """What the task's log shows does the same when it is typed on the host."""
    site.describe()
    site.made()
    assert "\n" not in site.command()
    before = site.logs()
    typed = f"bash -c {shlex.quote(site.command())}"
    done = subprocess.run(typed, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("\nGROUP")
    assert site.source(before) == ARCHIVE
