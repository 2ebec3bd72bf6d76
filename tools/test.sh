#!/bin/sh
# Everything that `make test` runs: Python tests, the viewer's own tests, browser tests. Says what it skipped and why.
set -u
cd "$(dirname "$0")/.."
say() { printf '%s\n' "$*"; }
skipped=""
failed=""
skip() {
    skipped="$skipped
  - $1"
    # In continuous integration a skipped part is a failed one.
    if [ "${CI:-}" = "true" ]; then failed="$failed
  - skipped under CI=true: $1"; fi
}

sh tools/install.sh test,lint || exit $?

# --- the browser -------------------------------------------------------------------------------------------------
chromium=""
for candidate in "${CHROMIUM:-}" chromium chromium-browser google-chrome "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1; then chromium="$(command -v "$candidate")"; break; fi
done
if [ -z "$chromium" ] && command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then sudo=""; elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then sudo="sudo -n"; else sudo="no"; fi
    if [ "$sudo" != "no" ]; then
        say "Installing Chromium for the browser tests …"
        { $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1
        command -v chromium >/dev/null 2>&1 && chromium="$(command -v chromium)"
    fi
fi
if [ -n "$chromium" ]; then
    export CHROMIUM="$chromium"
else
    skip "the browser tests: no Chromium was found and none could be installed (apt install chromium, or set CHROMIUM)"
fi

# --- the viewer's own tests --------------------------------------------------------------------------------------
if command -v npm >/dev/null 2>&1; then
    (
        cd viewer || exit 1
        if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then npm ci --no-audit --no-fund --loglevel=error || exit 1; fi
        npm test --silent && npm run --silent check-current
    ) || failed="$failed
  - the viewer's tests (cd viewer && npm test)"
else
    skip "the viewer's own tests: no npm was found (the built page is committed, so nothing else needs it)"
fi

# --- style, types, rooms -----------------------------------------------------------------------------------------
.venv/bin/ruff check . || failed="$failed
  - ruff check"
.venv/bin/ruff format --check --quiet . || failed="$failed
  - ruff format --check (run: .venv/bin/ruff format .)"
.venv/bin/mypy || failed="$failed
  - mypy"
.venv/bin/lint-imports --no-cache || failed="$failed
  - import-linter"

# --- Python ------------------------------------------------------------------------------------------------------
# A process a core, up to four (each holds torch and a few models), one thread in each: small models run best so. A file
# stays in one process, since what a module's fixtures train is made once for it.
if [ $# -eq 0 ]; then set -- -n auto --maxprocesses 4 --dist loadfile; fi
OMP_NUM_THREADS=1 .venv/bin/python -m pytest -rs "$@" || failed="$failed
  - pytest"

[ -n "$skipped" ] && say "
Skipped:$skipped"
if [ -n "$failed" ]; then
    say "
Failed:$failed"
    exit 1
fi
say "
All passed."
