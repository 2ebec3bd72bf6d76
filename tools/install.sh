#!/bin/sh
# Make .venv and install Cutaway with its pinned dependencies: tools/install.sh [extras]
# Does nothing when what was asked for is installed already.
set -eu
cd "$(dirname "$0")/.."
extras="${1:-}"
stamp=".venv/.installed${extras:+-$extras}"

say() { printf '%s\n' "$*" >&2; }

if [ -x .venv/bin/cutaway ] && [ -f "$stamp" ] && [ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt constraints.txt ]; then
    exit 0
fi

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if [ ! -x .venv/bin/python ]; then
    python=""
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.14 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
            python="$candidate"
            break
        fi
    done
    if [ -z "$python" ]; then
        found="$(command -v python3 >/dev/null 2>&1 && python3 --version || echo 'no python3')"
        say "Cutaway needs Python 3.11 or newer; found: $found."
        say "Install it (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.12)"
        say "or name one: make run PYTHON=/path/to/python3.12"
        exit 2
    fi
    say "Making .venv with $("$python" --version) …"
    if ! "$python" -m venv .venv 2>.venv-error; then
        cat .venv-error >&2
        rm -rf .venv .venv-error
        say "Python's venv module is not whole. On Debian and Ubuntu: apt install python3-venv"
        exit 2
    fi
    rm -f .venv-error
fi

say "Installing (the first time takes a few minutes: PyTorch is large) …"
pip="./.venv/bin/python -m pip --disable-pip-version-check install --quiet"
# torch first and by its exact version: a range would let pip choose a newer and far larger build.
$pip torch==2.13.0
$pip -c constraints.txt -e ".${extras:+[$extras]}"
touch "$stamp"
say "Installed."
