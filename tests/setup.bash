#!/usr/bin/env bash
# make setup: installs what is missing and says what it cannot. Arguments: MSRV, "packages", "programs".
set -euo pipefail
msrv=$1 packages=$2 programs=$3

if ! command -v cargo >/dev/null; then
    echo "setup: Rust is missing: install Rust $msrv or newer (rustup.rs, or your distribution)" >&2
    exit 1
fi
have=$(rustc --version | awk '{print $2}')
if [ "$(printf '%s\n%s\n' "$msrv" "${have%%-*}" | sort -V | head -n1)" != "$msrv" ]; then
    echo "setup: Rust $have is too old: $msrv or newer is needed" >&2
    exit 1
fi

missing=()
for program in $programs; do
    # Programs for administrators are not in everybody's PATH.
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing+=("$program")
done
for part in rustfmt cargo-clippy; do
    command -v "$part" >/dev/null || { echo "setup: $part is missing: rustup component add ${part#cargo-}" >&2; exit 1; }
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "setup: these programs are missing: ${missing[*]}. On Debian they come with: $packages" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    # Without root nothing of it can be used either: the suites that need it are skipped, and counted.
    echo "setup: missing and not installed (that needs root): ${missing[*]}" >&2
    command -v cc >/dev/null || { echo "setup: nothing can be built without a C compiler and linker" >&2; exit 1; }
    exit 0
fi
echo "setup: installing (missing: ${missing[*]})"
# The lab starts servers itself; the machine must not. Only for the time of the install, only if nobody else decided.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list on purpose
apt-get install -y -qq --no-install-recommends $packages >/dev/null 2>&1 || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends $packages
}
