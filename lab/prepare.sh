#!/bin/sh
# Sees to it that programs are there: installs them (Debian as root), or says what to type.
# Usage: lab/prepare.sh [python] [java] [mvn] [sshd] [postgres] [redis] [git]
set -eu
PATH="$PATH:/usr/sbin"

# Writes the first Python 3.11 that runs and can make virtual environments.
python() {
    for candidate in python3.11 /usr/bin/python3.11; do
        if "$candidate" -c "import ensurepip, venv" 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

java_17() {
    # The first number of a version is its major one: 17.0.15, but 1.8.0 for Java 8.
    major=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
    [ "${major:-0}" -ge 17 ]
}

# Debian keeps the server's programs off the PATH.
postgres() {
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null
}

if [ "${1:-}" = "--python" ]; then
    python
    exit
fi

missing=""
for program in "$@"; do
    case "$program" in
    python) python >/dev/null || missing="$missing python3.11 python3.11-venv" ;;
    java) java_17 || missing="$missing openjdk-17-jre-headless" ;;
    mvn) command -v mvn >/dev/null || missing="$missing maven" ;;
    postgres) postgres || missing="$missing postgresql" ;;
    git) command -v git >/dev/null || missing="$missing git" ;;
    redis) command -v redis-server >/dev/null || missing="$missing redis-server" ;;
    sshd) command -v sshd >/dev/null || missing="$missing openssh-server" ;;
    *) echo "lab/prepare.sh: no package is known for $program" >&2; exit 2 ;;
    esac
done
[ -n "$missing" ] || exit 0

if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing$missing …"
    apt-get -qq update
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $missing && exit 0
fi
echo "Python 3.11 with venv, Java 17 or newer, Maven and (for the tests) OpenSSH's server," >&2
echo "PostgreSQL, Redis and Git are needed. On Debian 12 type this; elsewhere install what corresponds to it:" >&2
echo "    sudo apt-get install$missing" >&2
exit 1
