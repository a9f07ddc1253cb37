#!/usr/bin/env bash
# The own test suites of Toxiproxy's Node and Python clients against `squalld toxiproxy`. What cannot be had is SKIPPED aloud; a suite
# that fails makes the exit code 1. NODE_CLIENT=DIR, PYTHON_CLIENT=DIR: a clone of the client's repository; otherwise the
# repository that the published package names is cloned. PROGRAM=PATH: another server with the same options.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=${TOXIPROXY_CLIENTS:-$root/target/toxiproxy-clients}
program=${PROGRAM:-$root/target/debug/squalld}
# The suites know no other port.
port=8474

skip() {
    echo "SKIPPED $1: $2" >&2
    if [ -n "${SQUALL_SKIPPED:-}" ]; then echo "SKIPPED $1: $2" >>"$SQUALL_SKIPPED"; fi
}

# The suites and what they need, into $work. Prints why not.
node_suite() {
    command -v npm >/dev/null || { echo "npm is not installed"; return 1; }
    local from=${NODE_CLIENT:-}
    if [ -z "$from" ]; then from=$(npm view toxiproxy-node-client repository.url 2>/dev/null | sed 's/^git+//') || true; fi
    [ -d "$work/node/src" ] || GIT_TERMINAL_PROMPT=0 timeout 60 git clone --quiet "$from" "$work/node" 2>/dev/null ||
        { echo "its repository cannot be cloned (NODE_CLIENT=DIR names a clone)"; return 1; }
    [ -x "$work/node/node_modules/.bin/jest" ] ||
        (cd "$work/node" && npm ci --silent --no-audit --no-fund >"$work/npm.log" 2>&1) ||
        { echo "its packages cannot be installed, see $work/npm.log"; return 1; }
}

python_suite() {
    [ -x "$work/venv/bin/pytest" ] || { python3 -m venv "$work/venv" &&
        "$work/venv/bin/pip" install --quiet --disable-pip-version-check toxiproxy-python pytest setuptools; } >"$work/pip.log" 2>&1 ||
        { echo "it cannot be installed, see $work/pip.log"; return 1; }
    local from=${PYTHON_CLIENT:-}
    if [ -z "$from" ]; then from=$("$work/venv/bin/pip" show toxiproxy-python 2>/dev/null | sed -n 's/^Home-page: //p') || true; fi
    [ -d "$work/python/test" ] || GIT_TERMINAL_PROMPT=0 timeout 60 git clone --quiet "$from" "$work/python" 2>/dev/null ||
        { echo "its repository cannot be cloned (PYTHON_CLIENT=DIR names a clone)"; return 1; }
    # The published package is what is tested, not the clone.
    rm -rf "$work/python/toxiproxy"
}

# Both suites, in a network of their own: their ports are nobody else's.
run() {
    ip link set lo up
    "$program" toxiproxy --port "$port" >"$work/ready" 2>"$work/log" &
    local server=$! failed=0
    trap 'kill "$server"; wait "$server" || true' EXIT
    for _ in $(seq 200); do
        [ -s "$work/ready" ] && break
        sleep 0.05
    done
    [ -s "$work/ready" ] || { echo "the server does not start, see $work/log" >&2; exit 1; }
    for suite in "$@"; do
        case $suite in
            node) (cd "$work/node" && timeout 300 node_modules/.bin/jest --runInBand --ci) || failed=1 ;;
            python) (cd "$work/python" && timeout 300 "$work/venv/bin/pytest" -q -p no:cacheprovider) || failed=1 ;;
        esac
    done
    exit "$failed"
}

if [ "${1:-}" = --inside ]; then
    shift
    run "$@"
fi

mkdir -p "$work"
suites=()
if why=$(node_suite); then suites+=(node); else skip "the Node client's suite" "$why"; fi
if why=$(python_suite); then suites+=(python); else skip "the Python client's suite" "$why"; fi
[ ${#suites[@]} -gt 0 ] || exit 0
if ! unshare --net true 2>/dev/null; then
    skip "the clients' suites" "they need a network of their own, which needs root"
    exit 0
fi
unshare --net bash "$root/tests/toxiproxy-clients.bash" --inside "${suites[@]}"
