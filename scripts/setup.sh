#!/bin/sh
# Sees to the system packages that building needs, and with --tests to the programs that tests talk to
# (Debian and Ubuntu): installs what is missing when it may, as root or by sudo without a password, and
# otherwise prints the one command. On other systems it says what has to be there; the build says what is not.
set -eu

command -v swift >/dev/null 2>&1 || {
    echo "error: swift is not installed: see https://www.swift.org/install (6.2 or newer)" >&2
    exit 1
}

command -v dpkg-query >/dev/null 2>&1 || {
    echo "not Debian or Ubuntu: the libraries OpenSSL 3.0 or newer, zlib and SQLite have to be there with their" \
        "headers, and openssl, curl, make, a C compiler and ps" >&2
    [ "${1:-}" != --tests ] || echo "for the tests, python3 with venv, nginx and haproxy as well" >&2
    exit 0
}

missing=""
has() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q "install ok installed"; }
packages="libssl-dev zlib1g-dev libsqlite3-dev openssl curl make gcc procps"
if [ "${1:-}" = --tests ]; then packages="$packages python3 python3-venv nginx-light haproxy iproute2"; fi
for package in $packages; do
    has "$package" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    sudo=""
elif sudo -n true 2>/dev/null; then
    sudo="sudo"
else
    echo "error: system packages are missing. Run:" >&2
    echo "  sudo apt-get update && sudo $install" >&2
    exit 1
fi
echo "installing:$missing"
$sudo apt-get update -q
DEBIAN_FRONTEND=noninteractive $sudo $install
