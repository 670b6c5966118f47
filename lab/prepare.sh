#!/bin/sh
# Sees to it that programs are there: installs them (Debian as root), or says what to type.
# Usage: lab/prepare.sh [python3.11] [java] [mvn] [sshd]
set -eu

missing=""
for program in "$@"; do
    case "$program" in
    python3.11) package="python3.11 python3.11-venv" ;;
    java) package=openjdk-17-jre-headless ;;
    mvn) package=maven ;;
    sshd) package=openssh-server ;;
    *) echo "lab/prepare.sh: no package is known for $program" >&2; exit 2 ;;
    esac
    if ! PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null 2>&1; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "Installing$missing …"
    apt-get -qq update
    # Debian starts a server that it installs; the tests start their own on a port of their own.
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -y install --no-install-recommends $missing
    exit 0
fi
echo "These programs are needed and not installed. On Debian or Ubuntu type:" >&2
echo "    sudo apt-get install$missing" >&2
exit 1
