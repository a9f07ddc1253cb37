#!/usr/bin/env bash
# make package: the Debian package, into target/debian. With `test`: installs, upgrades, removes and purges it in a throw-away root
# (a copy-on-write view of this machine's own, in a mount namespace; the machine itself is not touched), and looks at the manifests.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}

deb() { # VERSION
    cargo deb --quiet --no-build -p squalld --deb-version "$1" --output "$target/debian/squall_$1.deb" >/dev/null
    echo "$target/debian/squall_$1.deb"
}

build() {
    if ! command -v cargo-deb >/dev/null; then
        PATH=$target/tools/bin:$PATH
        command -v cargo-deb >/dev/null || {
            echo "package: installing cargo-deb into target/tools"
            cargo install --quiet --locked cargo-deb --root "$target/tools"
        }
    fi
    # By package: built together with the tests crate squalld would have crash points.
    [ -n "${BUILT:-}" ] || { cargo build --quiet --release -p squalld && cargo build --quiet --release -p squall; }
    rm -rf "$target/package"
    mkdir -p "$target/package/man" "$target/debian"
    "$target/release/squall" man "$target/package/man" >/dev/null
    "$target/release/squalld" man "$target/package/man"
    "$target/release/squall" completions bash >"$target/package/squall.bash"
    "$target/release/squall" completions zsh >"$target/package/_squall"
    "$target/release/squall" completions fish >"$target/package/squall.fish"
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)
    package=$(deb "$version-1")
}

manifests() {
    local venv=$target/kubernetes
    [ -x "$venv/bin/kubernetes-validate" ] || {
        python3 -m venv "$venv" && "$venv/bin/pip" install --quiet kubernetes-validate
    } || { echo "SKIPPED manifests: kubernetes-validate cannot be installed into $venv"; return 0; }
    "$venv/bin/kubernetes-validate" --strict --quiet daemon/packaging/kubernetes/*.yaml
    echo "manifests: every object is as its schema says"
}

inside() { # in a mount namespace of our own: OLD NEW
    local lower=/ upper merged
    upper=$(mktemp -d) && mount -t tmpfs tmpfs "$upper"
    mkdir "$upper/changes" "$upper/work" "$upper/root"
    merged=$upper/root
    mount -t overlay overlay -o "lowerdir=$lower,upperdir=$upper/changes,workdir=$upper/work" "$merged"
    mount -t proc proc "$merged/proc"
    mount -t tmpfs tmpfs "$merged/run"
    mount --bind /dev "$merged/dev"
    mkdir "$merged/run/packages" && cp "$1" "$merged/run/packages/old.deb" && cp "$2" "$merged/run/packages/new.deb"
    export DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    in_root() { chroot "$merged" "$@"; }
    say() { echo "package: $*"; }
    fail() { echo "package: FAILED: $*" >&2; exit 1; }

    in_root dpkg --install /run/packages/old.deb >/dev/null
    in_root squall --version && in_root squalld --version
    for file in /usr/lib/systemd/system/squalld-{agent,coordinator}.service /etc/squall/{policy.yaml,agent.env,coordinator.env} \
        /usr/share/man/man1/{squall,squall-run,squalld,squalld-agent}.1.gz /usr/share/bash-completion/completions/squall; do
        [ -e "$merged$file" ] || fail "$file is not installed"
    done
    [ "$(stat -c %a "$merged/etc/squall/agent.env")" = 600 ] || fail "agent.env can hold a token and is readable by others"
    for user in squall squall-coordinator; do in_root getent passwd "$user" >/dev/null || fail "no user $user"; done
    say "installed"

    echo "# mine" >>"$merged/etc/squall/policy.yaml"
    mkdir -p "$merged/var/lib/squall/agent"
    in_root dpkg --install /run/packages/new.deb >/dev/null
    grep -q "^# mine" "$merged/etc/squall/policy.yaml" || fail "an upgrade lost what was written into the policy"
    [ -d "$merged/var/lib/squall/agent" ] || fail "an upgrade lost the agent's state"
    say "upgraded; what was configured is kept"

    in_root dpkg --remove squall >/dev/null
    [ ! -e "$merged/usr/sbin/squalld" ] || fail "squalld is still there"
    grep -q "^# mine" "$merged/etc/squall/policy.yaml" || fail "a removal took the configuration"
    say "removed; configuration and state are kept"

    in_root dpkg --purge squall >/dev/null
    local left
    # What dpkg and adduser themselves write down is theirs.
    left=$(cd "$upper/changes" && find . -type f | grep -vE '^\./(var/(lib/dpkg|log|cache)|etc/(passwd|group|shadow|gshadow|subuid|subgid|\.pwd\.lock)|run)' || true)
    [ -z "$left" ] || fail "a purge left: $left"
    [ ! -e "$merged/etc/squall" ] && [ ! -e "$merged/var/lib/squall" ] || fail "a purge left a directory"
    in_root getent passwd squall >/dev/null && fail "a purge left the user"
    say "purged; nothing is left"
}

case ${1:-} in
inside) inside "$2" "$3" ;;
test)
    manifests
    if [ "$(id -u)" -ne 0 ] || ! command -v dpkg >/dev/null; then
        echo "SKIPPED package: installing into a throw-away root needs root and dpkg"
        exit 0
    fi
    build
    old=$(deb 0.0.1-1)
    unshare --mount --net --pid --fork --propagation private bash "${BASH_SOURCE[0]}" inside "$old" "$package"
    rm -f "$old"
    ;;
*)
    build
    echo "$package"
    ;;
esac
