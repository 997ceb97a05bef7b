#!/bin/sh
# Makes .venv with the Python packages that the interoperation tests talk to; quick when it is there.
set -eu
cd "$(dirname -- "$0")/.."
if [ -x .venv/bin/python ] && .venv/bin/python -c "import websockets, wsproto, h11, libtorrent, cryptography" 2>/dev/null; then
    exit 0
fi
rm -rf .venv
python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check \
    "websockets>=12" "wsproto>=1.2" "h11>=0.14" "libtorrent>=2" "cryptography>=41"
