"""The spool's files, locks and limits, without Elasticsearch and without Airflow."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_lag_provider import spool as module
from airflow_lag_provider import spool_file
from airflow_lag_provider.errors import SpoolFull, SpoolUnusable
from airflow_lag_provider.spool import Spool, spool_at
from airflow_lag_provider.spool_directory import AWAY_SECONDS
from airflow_lag_provider.spool_entry import Entry, FileName
from airflow_lag_provider.spool_file import SpoolFile, is_owned

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from airflow_lag_provider import spool_file
from airflow_lag_provider.spool import Spool
from airflow_lag_provider.spool_entry import Entry

spool = Spool(Path(sys.argv[1]), max_bytes=10**9)

def entry(name):
    source = {"@timestamp": "2026-11-24T15:00:00+00:00", "topic": "orders"}
    return Entry(conn_id="es", index="lag", id=name, version=1, source=source)

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

"""


def entry(name: str, **changes: Any) -> Entry:
    source = {"@timestamp": "2026-11-24T15:00:00+00:00", "topic": "orders"}
    fields = {"conn_id": "es", "index": "lag", "version": 1, "source": source, **changes}
    return Entry(id=name, **fields)


def program(code: str, directory: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(code), str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(code: str, directory: Path, *, ends: int = 0, **options: Any) -> str:
    """Run a program to its end, by itself or by SIGKILL; return what it printed."""
    running = program(code, directory, **options)
    out, err = running.communicate(timeout=60)
    assert running.returncode == ends, err
    return out


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", max_bytes=10**9)


@pytest.fixture
def living(spool: Spool) -> Iterator[subprocess.Popen[str]]:
    """A process that owns a file with one document, until it is killed."""
    code = "spool.append([entry('theirs')]); print('ready', flush=True); time.sleep(60)"
    running = program(code, spool.directory)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    yield running
    running.kill()
    running.communicate()


def taken(spool: Spool) -> list[str]:
    """Take over all that can be taken, remove it, and return the documents' ids, in order."""
    spool.release()
    names = []
    for path in spool.files():
        if file := spool.take(path):
            names += [one.id for one in file.entries()]
            file.keep(())
            file.close()
    return names


def torn(spool: Spool) -> list[bytes]:
    return [path.read_bytes() for path in spool.directory.glob("*.torn")]


def test_what_was_appended_comes_back_as_it_was(spool: Spool) -> None:
    """Ids, index, version, connection and fields, with any text in them."""
    source = {"topic": "a\nb\u2028\r\"'", "p0": 2**62, "p1": None, "lag": {"seconds": 0.1}}
    given = [entry("1", source=source, version=7, index="lag-2026"), entry("2")]
    spool.append(given)
    spool.release()
    (path,) = spool.files()
    file = spool.take(path)
    assert file
    assert list(file.entries()) == given
    file.close()


def test_nobody_else_can_read_it(spool: Spool) -> None:
    """The directory is its owner's alone, and so is each file."""
    spool.append([entry("1")])
    spool.mark_away("es")
    spool.count_dropped(1)
    assert stat.S_IMODE(spool.directory.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in spool.directory.iterdir()}
    assert modes == {0o600}


def test_a_process_appends_to_one_file_of_its_own(spool: Spool) -> None:
    """Many documents, one file for each connection, whose name says who owns it."""
    for number in range(5):
        spool.append([entry(str(number))])
    spool.append([entry("x", conn_id="other")])
    first, second = (FileName.parse(path.name) for path in spool.files())
    assert first
    assert second
    assert first.pid == second.pid == os.getpid()
    assert first.connection != second.connection
    assert len(spool.files(conn_id="es")) == 1


def test_a_full_file_is_followed_by_another_one(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files stay small enough to be sent as a whole, and the oldest comes first."""
    monkeypatch.setattr(module, "FILE_BYTES", 300)
    for number in range(12):
        spool.append([entry(str(number))])
    assert len(spool.files()) > 2
    assert taken(spool) == [str(number) for number in range(12)]
    assert spool.files() == []


def test_a_file_of_a_living_process_is_left_alone(
    spool: Spool, living: subprocess.Popen[str]
) -> None:
    """It can't be taken over before its owner is dead, and then it can at once."""
    assert [spool.take(path) for path in spool.files()] == [None]
    spool.append([entry("mine")])
    assert taken(spool) == ["mine"]
    living.kill()
    living.wait()
    assert taken(spool) == ["theirs"]


def test_a_process_goes_on_with_the_file_of_a_dead_one(spool: Spool) -> None:
    """A task on a worker lives for some seconds; a thousand of them don't leave as many files."""
    for number in range(3):
        run(f"spool.append([entry('{number}')])", spool.directory)
    (path,) = spool.files()
    spool.append([entry("3")])
    (own,) = spool.files()
    assert own.name != path.name
    assert taken(spool) == ["0", "1", "2", "3"]


def test_two_processes_never_take_over_the_same_file(spool: Spool) -> None:
    """Of processes that all want the files of dead ones, each gets its own share."""
    spool.append([entry("mine")])
    for number in range(12):
        file = SpoolFile.create(spool.directory, conn_id="es", kind="waiting")
        file.append([entry(str(number))])
        file.close()
    code = """
        print('ready', flush=True)
        sys.stdin.readline()
        held = []
        for path in spool.files():
            if file := spool.take(path):
                held.append(file)
                print(*(one.id for one in file.entries()))
        print('done', flush=True)
        sys.stdin.readline()
    """
    contenders: list[Any] = [
        program(code, spool.directory, stdin=subprocess.PIPE) for _ in range(3)
    ]
    for one in contenders:
        assert one.stdout.readline() == "ready\n"
    for one in contenders:
        one.stdin.write("go\n")
        one.stdin.flush()
    printed = []
    for one in contenders:
        while (line := one.stdout.readline()) != "done\n":
            printed += line.split()
    for one in contenders:
        one.communicate("go\n", timeout=60)
    assert sorted(printed) == sorted(map(str, range(12)))


def test_a_fork_does_not_keep_its_parents_files(spool: Spool) -> None:
    """A child that lives on neither writes into the file of its dead parent nor holds its lock."""
    code = """
        from airflow_lag_provider.spool import spool_at
        spool = spool_at(Path(sys.argv[1]), 10**9)
        spool.append([entry('parent')])
        read, write = os.pipe()
        if os.fork() == 0:
            spool.append([entry('child')])
            os.write(write, b'x')
            os.close(1), os.close(2)
            time.sleep(60)
        os.read(read, 1)
        print(len(spool.files()), flush=True)
        os.killpg(0, signal.SIGKILL) if len(spool.files()) != 2 else die()
    """
    running = program(code, spool.directory, start_new_session=True)
    out, err = running.communicate(timeout=60)
    assert out == "2\n", err
    try:
        assert taken(spool) == ["parent"]
    finally:
        os.killpg(running.pid, signal.SIGKILL)


def test_a_fork_does_not_keep_what_its_parent_sends(spool: Spool) -> None:
    """A file that a flush holds in the moment of a fork is free when the flush ends."""
    code = """
        from airflow_lag_provider.spool import spool_at
        spool = spool_at(Path(sys.argv[1]), 10**9)
        spool.append([entry('1'), entry('2')])
        spool.release()
        held = spool.take(*spool.files())
        held.keep(held.entries()[:1])
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, b'x')
            os.close(1), os.close(2)
            time.sleep(60)
        os.read(read, 1)
        print(spool_file.is_owned(held.path))
        held.close()
        print(spool_file.is_owned(held.path), flush=True)
        die()
    """
    running = program(code, spool.directory, start_new_session=True)
    out, err = running.communicate(timeout=60)
    try:
        assert out.split() == ["True", "False"], err
    finally:
        os.killpg(running.pid, signal.SIGKILL)


def test_a_file_that_somebody_only_asks_about_can_be_taken(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`airflow-lag spool` holds its lock for a moment, and is no owner."""
    spool.append([entry("1")])
    spool.release()
    (path,) = spool.files()
    asking = os.open(path, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(spool_file, "sleep", lambda _: os.close(asking))
    file = spool.take(path)
    assert file is not None
    file.close()


@pytest.mark.parametrize("fails_at", ["sync_directory", "_locked"])
def test_a_file_that_can_not_be_made_or_taken_is_not_kept_open(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    """A disk that fails in that moment costs no descriptor, and the file is nobody's."""
    spool.append([entry("1")])
    spool.release()
    (path,) = spool.files()

    def fails(*_: Any) -> None:
        raise OSError("disk")

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(spool_file, fails_at, fails)
    with pytest.raises(OSError, match="disk"):
        SpoolFile.create(spool.directory, conn_id="es", kind="waiting")
    if fails_at == "_locked":
        with pytest.raises(OSError, match="disk"):
            SpoolFile.take(path)
    assert os.listdir("/proc/self/fd") == before
    assert not any(map(is_owned, spool.files()))


DEATHS = {
    "in the middle of a line": (
        """
        real = os.write
        def half(fd, data):
            real(fd, bytes(data)[:-40])
            die()
        spool.append([entry('a')])
        os.write = half
        spool.append([entry('b'), entry('c')])
        """,
        ["a", "b"],
        1,
    ),
    "after the write, before the fsync": (
        """
        spool.append([entry('a')])
        os.fsync = die
        spool.append([entry('b')])
        """,
        ["a", "b"],
        0,
    ),
    "between making a file and locking it": (
        """
        spool_file._locked = die
        spool.append([entry('a')])
        """,
        [],
        0,
    ),
    "before it took over a file": (
        """
        os.rename = die
        spool.take(spool.files()[0])
        """,
        ["old"],
        0,
    ),
    "after it took over a file": (
        """
        SpoolFile = spool_file.SpoolFile
        SpoolFile._put_torn_aside = die
        spool.take(spool.files()[0])
        """,
        ["old"],
        0,
    ),
    "before it removed a file that it had sent": (
        """
        file = spool.take(spool.files()[0])
        assert [one.id for one in file.entries()] == ['old']
        die()
        """,
        ["old"],
        0,
    ),
    "while it wrote a file anew": (
        """
        file = spool.take(spool.files()[0])
        file.append([entry('a'), entry('b')])
        os.rename = die
        file.keep(file.entries()[1:])
        """,
        ["old", "a", "b"],
        0,
    ),
    "after it wrote a file anew": (
        """
        file = spool.take(spool.files()[0])
        file.append([entry('a'), entry('b')])
        file.keep(file.entries()[1:])
        die()
        """,
        ["a", "b"],
        0,
    ),
}


@pytest.mark.parametrize("moment", DEATHS)
def test_a_process_that_is_killed_loses_nothing(spool: Spool, moment: str) -> None:
    """Whatever was on the disk is there afterwards, once, and half a line is no document."""
    code, names, torn_lines = DEATHS[moment]
    if "files()[0]" in code:
        run("spool.append([entry('old')])", spool.directory)
    run(code, spool.directory, ends=-signal.SIGKILL)
    assert taken(spool) == names
    assert sum(one.count(b"\n") for one in torn(spool)) == torn_lines
    assert spool.files() == []
    assert not list(spool.directory.glob("*.new"))


def test_a_torn_line_is_named_and_kept_aside(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes to a file of its own, which the log names, and never counts as a document."""
    spool.append([entry("a")])
    spool.release()
    (path,) = spool.files()
    half = entry("b").to_line()[:-1]
    with path.open("ab") as file:
        file.write(half)
    spool.append([entry("c")])
    assert torn(spool) == [half + b"\n"]
    (aside,) = spool.directory.glob("*.torn")
    assert aside.name in caplog.text
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    assert taken(spool) == ["a", "c"]


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[1]\n", b"\xff\xfe\n", b'{"id": "x"}\n'])
def test_what_is_no_document_is_never_taken_for_one(spool: Spool, line: bytes) -> None:
    """A damaged line in the middle is put aside too, and those around it stay."""
    spool.append([entry("a")])
    (path,) = spool.files()
    with path.open("ab") as file:
        file.write(line)
    spool.append([entry("c")])
    assert taken(spool) == ["a", "c"]
    assert torn(spool) == [line]


def test_names_are_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a directory that was made, and a file written anew, are still there."""
    synced: list[int] = []
    fsync = os.fsync

    def recorded(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", recorded)
    spool = Spool(tmp_path / "lag" / "spool", max_bytes=10**9)
    spool.append([entry("1"), entry("2")])
    assert {one.stat().st_ino for one in (tmp_path, tmp_path / "lag", spool.directory)} <= set(
        synced
    )
    spool.release()
    file = spool.take(spool.files()[0])
    assert file
    synced.clear()
    file.keep(file.entries()[1:])
    assert synced == [file.path.stat().st_ino, spool.directory.stat().st_ino]
    file.close()


def test_it_holds_no_more_than_its_limit(spool: Spool) -> None:
    """What would exceed it is refused as a whole; what was there stays, and room is used again."""
    size = len(entry("1").to_line())
    spool.max_bytes = 3 * size
    assert [spool.append([entry(str(number))]) for number in range(3)] == [
        size,
        2 * size,
        3 * size,
    ]
    with pytest.raises(SpoolFull, match=str(spool.max_bytes)):
        spool.append([entry("4")])
    assert taken(spool) == ["0", "1", "2"]
    with pytest.raises(SpoolFull):
        spool.append([entry(str(number)) for number in range(4)])
    spool.append([entry("5")])
    assert taken(spool) == ["5"]


def test_what_found_no_room_is_counted_for_the_whole_host(spool: Spool) -> None:
    """Several processes count together, and the count stays when they are gone."""
    assert spool.dropped().documents == 0
    spool.append([entry("1")])
    code = "for _ in range(20): spool.count_dropped(2)"
    counting = [program(code, spool.directory) for _ in range(2)]
    for one in counting:
        _, err = one.communicate(timeout=60)
        assert one.returncode == 0, err
    dropped = spool.count_dropped(1)
    assert dropped.documents == spool.dropped().documents == 81
    assert dropped.first <= dropped.last


def test_threads_of_a_process_share_its_file(spool: Spool) -> None:
    """Lines of threads that append at the same time don't mix."""
    threads = [
        threading.Thread(target=lambda n=n: spool.append([entry(f"{n}-{i}") for i in range(50)]))
        for n in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(spool.files()) == 1
    assert sorted(taken(spool)) == sorted(f"{n}-{i}" for n in range(8) for i in range(50))


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_that_others_can_read_is_refused(spool: Spool, mode: int) -> None:
    """It is left as it is, and the message says whose it is and what mode it has."""
    spool.directory.mkdir()
    spool.directory.chmod(mode)
    with pytest.raises(SpoolUnusable, match=f"mode {mode:04o}"):
        spool.append([entry("1")])
    assert stat.S_IMODE(spool.directory.stat().st_mode) == mode


def test_what_can_not_be_a_spool_is_named(tmp_path: Path) -> None:
    """A relative path, a file, and a path below a file are told apart from a full disk."""
    (tmp_path / "file").touch()
    for path, words in {
        Path("spool"): "absolute",
        tmp_path / "file": "not a directory",
        tmp_path / "file" / "spool": "Not a directory",
    }.items():
        with pytest.raises(SpoolUnusable, match=words):
            Spool(path, max_bytes=10**9).append([entry("1")])


def test_a_directory_without_rights_is_named() -> None:
    """Whoever may not write there gets an error of ours, whatever user the tests run as."""
    code = """
        from airflow_lag_provider.errors import SpoolUnusable
        if os.geteuid() == 0:
            os.chown(sys.argv[1], 65534, 65534)
            os.seteuid(65534)
        try:
            spool.append([entry('a')])
        except SpoolUnusable as error:
            print(error.message)
    """
    # Not below the tests' own directory, which another user can't enter.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o500)
        assert f"{directory} can't be used: [Errno 13] Permission denied" in run(
            code, Path(directory)
        )


def test_a_full_disk_leaves_no_half_document(spool: Spool) -> None:
    """What the disk refuses is an error of the caller, and the documents before it stay whole."""
    code = """
        from airflow_lag_provider.errors import SpoolUnusable
        spool.append([entry('a')])
        try:
            spool.append([entry(f'b{number}') for number in range(9)])
        except SpoolUnusable as error:
            print(error.message)
    """
    size = 2 * len(entry("a").to_line()) + 20

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    assert "File too large" in run(code, spool.directory, preexec_fn=limited)
    assert taken(spool) == ["a"]
    assert torn(spool) == []


def test_a_file_that_can_not_be_shortened_again_is_not_used_again(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a line that stays behind is not continued by the next document."""
    spool.append([entry("a")])

    def half(fd: int, data: bytes) -> int:
        monkeypatch.undo()
        monkeypatch.setattr(os, "ftruncate", fails)
        os.write(fd, bytes(data)[:20])
        raise OSError(5, "Input/output error")

    def fails(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(SpoolUnusable, match="Input/output error"):
        spool.append([entry("b")])
    spool.append([entry("c")])
    assert taken(spool) == ["a", "c"]
    assert len(torn(spool)) == 1


def test_refused_documents_take_no_room_from_those_that_wait(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have an eighth of the limit besides; what is full of one kind takes the other kind."""
    size = len(entry("1").to_line())
    letter = len(entry("1", reason="No.").to_line())
    monkeypatch.setattr(module, "_REFUSED_BYTES", 2 * letter)
    spool.max_bytes = size
    for name in "12":
        spool.append([entry(name, reason="No.")], kind="refused")
    with pytest.raises(SpoolFull, match=f"bytes of refused .* limit of {2 * letter}"):
        spool.append([entry("3", reason="No.")], kind="refused")
    spool.append([entry("1")])
    with pytest.raises(SpoolFull, match="bytes of waiting "):
        spool.append([entry("2")])
    assert (spool.used_bytes(), spool.used_bytes("refused")) == (size, 2 * letter)
    (path,) = spool.files(kind="refused")
    assert not is_owned(path), "a person may send it again while this process lives"
    monkeypatch.setattr(module, "_REFUSED_BYTES", 0)
    spool.max_bytes = 800 * letter
    assert spool.limit("refused") == 100 * letter


def test_a_refused_document_is_kept_once_for_a_reason(spool: Spool) -> None:
    """A task that is tried again and again leaves one letter; a better document is kept too."""
    given = [
        entry("1", reason="No."),
        entry("1", reason="Not yet."),
        entry("2", reason="No."),
        entry("1", reason="No.", version=2),
    ]
    for one in given * 2:
        spool.append([one], kind="refused")
    lines = [line for path in spool.files() for line in path.read_bytes().splitlines(True)]
    assert [Entry.from_line(line) for line in lines] == given


def test_only_so_many_refused_documents_are_remembered(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of a process that lives for months stays small."""
    monkeypatch.setattr(module, "_MOST_LETTERS", 2)
    for name in "1231":
        spool.append([entry(name, reason="No.")], kind="refused")
    (path,) = spool.files()
    assert len(path.read_bytes().splitlines()) == 4


def test_after_a_time_out_one_caller_tries_and_the_others_wait_for_it(tmp_path: Path) -> None:
    """For some seconds nobody tries, then one at a time, until one has heard of Elasticsearch."""
    now = 1_000_000.0
    spools = [
        Spool(tmp_path / "spool", max_bytes=10**9, clock=lambda: now) for _ in range(2)
    ]  # two processes of one host
    assert spools[0].may_try("es")
    spools[0].mark_away("es")
    assert not spools[0].may_try("es")
    assert not spools[1].may_try("es")
    assert spools[1].may_try("other")
    now += AWAY_SECONDS
    assert spools[1].may_try("es")
    assert not spools[0].may_try("es")
    now += AWAY_SECONDS
    assert spools[0].may_try("es")
    spools[0].mark_back("es")
    assert spools[0].may_try("es")
    assert spools[1].may_try("es")
    spools[0].mark_away("es")
    now -= 3600
    assert spools[0].may_try("es"), "a clock that was set back"


def test_other_files_in_the_directory_are_left_alone(spool: Spool) -> None:
    """They count for the limit, since they take room, and are neither read nor removed."""
    spool.append([entry("1")])
    (spool.directory / "notes.txt").write_text("of a person")
    assert spool.used_bytes() == len(entry("1").to_line()) + len("of a person")
    assert taken(spool) == ["1"]
    assert (spool.directory / "notes.txt").read_text() == "of a person"


def test_a_process_has_one_spool_for_a_directory(tmp_path: Path) -> None:
    """So that it has one file, and not one for each task."""
    assert spool_at(tmp_path, 1) is spool_at(tmp_path, 1)


WRITES = """
number = 0
while True:
    name = f"{os.getpid()}-{number}"
    spool.append([entry(name), entry(name + "+")])
    print(name, name + "+", flush=True)
    number += 1
"""
SENDS = """
sent = os.open(sys.argv[1] + ".sent", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
while True:
    spool.release()
    for path in spool.files():
        if file := spool.take(path):
            entries = file.entries()
            for one in entries[:-1] if len(entries) % 2 else entries:
                os.write(sent, (one.id + chr(10)).encode())
            file.keep(entries[-1:] if len(entries) % 2 else ())
            file.close()
"""


def test_processes_that_are_killed_at_random_lose_nothing(spool: Spool) -> None:
    """What a writer heard to be kept was sent by somebody, or is still there."""
    chance = random.Random(2026)
    kept: list[str] = []
    for _ in range(6):
        running = [program(code, spool.directory) for code in (WRITES, WRITES, SENDS, SENDS)]
        assert running[0].stdout
        kept += running[0].stdout.readline().split()
        time.sleep(chance.uniform(0, 0.2))
        for one in running:
            one.kill()
        outputs = [one.communicate(timeout=60) for one in running]
        assert not any("Traceback" in err for _, err in outputs)
        for out, _ in outputs[:2]:
            # The last line may not have got through the pipe as a whole.
            kept += [name for line in out.splitlines(keepends=True)[:-1] for name in line.split()]
    sent = Path(f"{spool.directory}.sent").read_text().split()
    assert len(kept) > 50
    assert set(kept) <= {*sent, *taken(spool)}
