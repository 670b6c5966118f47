"""A class data archive for the tool's JVM, made and used on the host by a few lines of shell.

Half of a describe's CPU time is the JVM's reading of class files. Java 13 and newer can keep what
came of that in an archive that the next JVM maps into memory. One that doesn't fit crashes a JVM
or makes it print lines among the rows, so the host's shell uses only what it knows to be right:

- ``KEY.txt`` lists the files that ``KEY.jsa`` was made of, and itself: names, inodes, sizes, times
  of the JVM, the tool, its jars and the archive. One difference, and the archive stays unused.
- Java runs what an archive holds. So its directory has to belong to the user, and nobody else may
  write there.
- The archive is made after a describe, in the background, by a second one; a third has to run with
  it before it gets its name. The describe that somebody waits for is never touched.
- A JVM that crashes with an archive was the last to use it.
- The directory ``KEY.tried`` is made before, which only one of several can do. Until it is an hour
  old nobody tries again, whatever became of it.

In all other cases (an older Java, a full disk, …) the tool runs as it does without an archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

# Arguments: the directory, the key, the tool and its arguments. No single quotes and no comments,
# because it becomes one word of one line. `exec "$@"` is the describe without an archive.
_SCRIPT = (
    "d=$1 a=$1/consumer-lag-$2; shift 2; "
    'files() { stat -Lc "%n %i %s %Y %Z" "$@"; } 2>/dev/null; '
    # What the archive was made of, and the archive.
    'list() { printf "%s\\n" "$now" "$(files "$a.jsa")"; }; '
    # A directory and no link, writable for neither group nor others.
    'ours() { [ -O "$d" ] && case $(ls -ld "$d") in d????-??-*) ;; *) false ;; esac; }'
    " 2>/dev/null; "
    # The JVM compares the archive with its checksums, in 10 to 30 ms: else one that a disk damaged
    # may crash it, or give classes other names. Its complaints go to stderr, away from the rows.
    # With the JMX agent of Kafka's scripts, which no describe needs, Java 25 can't use all of one.
    "with() { export "
    'KAFKA_OPTS="$KAFKA_OPTS $1 -XX:+VerifySharedSpaces -Xlog:all=off -Xlog:all=warning:stderr" '
    'KAFKA_JMX_OPTS="${KAFKA_JMX_OPTS:- }"; }; '
    # As Kafka's scripts find them. Where Java is a wrapper, there is no JVM beside it.
    'j=$(readlink -f "$(command -v "${JAVA_HOME:+$JAVA_HOME/bin/}java")" 2>/dev/null); '
    't=$(command -v "$1"); l=${t%/*}/../libs; [ -d "$l" ] || l=${t%/*}/../share/java/kafka; '
    'now=$(files "$j" "${j%/*}/../lib/server/libjvm.so" "$t" "$l"/*.jar) || exec "$@"; '
    # The shell outlives a SIGTERM, so that `timeout -k` still has somebody to kill.
    "trap : TERM; "
    'if ours && [ -O "$a.txt" ] && [ "$(cat "$a.txt")" = "$(list)" ]; '
    'then with "-XX:SharedArchiveFile=$a.jsa"; "$@"; c=$?; '
    '[ $c -ne 134 ] || rm -f "$a.txt"; exit $c; fi; '
    '(umask 077; mkdir -p "$d" && ours || exit; '
    'find "$a.tried" -prune -mmin +60 -exec rmdir {} \\;; mkdir "$a.tried") 2>/dev/null || '
    'exec "$@"; '
    '"$@"; c=$?; '
    'if [ $c -ne 0 ]; then rmdir "$a.tried"; exit $c; fi; '
    '(umask 077; w=$a.$$; rm -f "$a".[0-9]*; '
    # The tool prints a table and ends in order.
    'try() { with "$1"; shift; o=$(nice timeout -k 5 60 "$@") && '
    "case $o in *LOG-END-OFFSET*) ;; *) false ;; esac; }; "
    '(try "-XX:ArchiveClassesAtExit=$w" "$@") && '
    # On the disk before it has its name: a crash of the host would leave a part of it.
    'chmod 600 "$w" && dd if=/dev/null of="$w" conv=notrunc,fsync && '
    '(try "-Xshare:on -XX:SharedArchiveFile=$w" "$@") && '
    'mv -f "$w" "$a.jsa" && list >"$w" && mv -f "$w" "$a.txt" && '
    # Those of tools or flags that are no longer used; one that is will be made again.
    'find "$d/." ! -name . -prune -type f -name "consumer-lag-????????????.jsa" -mtime +30 '
    "-exec rm -f {} +; "
    'rm -f "$w") </dev/null >/dev/null 2>&1 & '
    "exit 0"
)


def with_archive(
    words: Sequence[str], *, directory: str, made_for: Sequence[str | None]
) -> list[str]:
    """Return the words of a command that runs a describe with an archive, where that can be.

    :param words: the tool and its arguments.
    :param directory: the archive's directory on the host, an absolute path. It is made if need be.
        Kafka's scripts split it at white space.
    :param made_for: what makes another archive worth while, such as other flags of the JVM.
    """
    text = "\0".join(part or "" for part in made_for)
    key = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:12]
    return ["sh", "-c", _SCRIPT, "sh", directory, key, *words]
