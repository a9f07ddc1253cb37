# Squall. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Packages that the demo and the suites with real faults need (Debian's names).
PACKAGES := build-essential pkg-config nftables iptables iproute2 iputils-ping haproxy nginx-light iperf3 curl procps util-linux
# A program of each, to see whether it is there.
PROGRAMS := cc pkg-config nft iptables ip ping haproxy nginx iperf3 curl ps nsenter
# The same for the shop: `make demo` and the other suites do without.
SHOP_PACKAGES := postgresql patroni etcd-server etcd-client redis-server prometheus prometheus-alertmanager pgbackrest python3-etcd python3-psycopg2 haproxy curl wrk
SHOP_PROGRAMS := psql patroni etcd etcdctl redis-server prometheus prometheus-alertmanager pgbackrest haproxy curl wrk
# For a fault in the network of a real container.
CONTAINER_PACKAGES := podman crun netavark busybox-static
CONTAINER_PROGRAMS := podman crun busybox
# The test of tests/tests/suites.rs.
SHOP_SUITES := suites_find_the_weakness_that_they_are_for_and_nothing_in_a_sound_shop
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

.PHONY: container-setup gameday shop suites shop-down shop-setup help demo test root soak mutants fuzz schemathesis toxiproxy-clients bench package package-test fmt lint check deny setup clean guest gate-noise

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' Makefile

demo: setup ## Six experiments against haproxy and three nginx on hosts of a lab; reports in reports/
	@cargo build --quiet --workspace --bins
	@cargo run --quiet -p squall-tests --bin demo

shop: setup shop-setup ## The highly available shop on eleven hosts of a lab, with Squall, until Ctrl-C (SHOP=weak: with all its weaknesses)
	@cargo build --quiet --workspace --bins
	@SHOP='$(SHOP)' cargo run --quiet -p squall-tests --bin shop -- up

shop-down: ## Closes a shop that runs elsewhere, and sees that nothing of it is left
	@cargo run --quiet -p squall-tests --bin shop -- down

suites: setup shop-setup ## Every experiment of the suites against a shop of its own (SHOP=weak; ONLY=suites or experiments)
	@cargo build --quiet --workspace --bins
	@SHOP='$(SHOP)' cargo run --quiet -p squall-tests --bin shop -- play $(ONLY)

gameday: setup shop-setup ## The whole high-availability game day against a shop of its own, unattended; scorecard in reports/ (SHORT=1: for CI)
	@cargo build --quiet --workspace --bins
	@SHORT='$(SHORT)' cargo run --quiet -p squall-tests --bin gameday

shop-setup:
	@bash tests/setup.bash "$(MSRV)" "$(SHOP_PACKAGES)" "$(SHOP_PROGRAMS)"

container-setup:
	@bash tests/setup.bash "$(MSRV)" "$(CONTAINER_PACKAGES)" "$(CONTAINER_PROGRAMS)"

test: setup shop-setup container-setup ## Everything: formatting, lints, unit tests, suites with real faults in the lab
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	@mkdir -p target
	@rm -f target/skipped.txt
	@# The tests crate turns squalld's crash points on, so one build of the workspace serves every suite.
	@SQUALL_SKIPPED='$(CURDIR)/target/skipped.txt' cargo test --workspace --no-fail-fast -- --skip $(SHOP_SUITES) 2>&1 | tee target/test.log || true
	@# The shop's suites wait more than they work, for minutes: the targets for libFuzzer are built and run beside them, at the lowest priority.
	@{ SECONDS_EACH=5 nice -n 19 bash tests/fuzz.bash >target/fuzz.log 2>&1 || true; } & \
	SQUALL_SKIPPED='$(CURDIR)/target/skipped.txt' cargo test --workspace --test suites 2>&1 | tee -a target/test.log || true; \
	wait; tee -a target/test.log <target/fuzz.log
	@awk -v skipped=target/skipped.txt -f tests/count.awk target/test.log

root: setup ## Only the suites with real faults (needs root)
	@cargo build --quiet --workspace --bins
	@cargo test --quiet -p squall-tests --no-fail-fast

guest: setup ## Suites on Debian's kernel under QEMU: netem, cgroup v2, power cuts, clocks (ALL=1: also what takes long; SUITES="netem ...")
	@cargo build --quiet --workspace --bins
	@"$${CARGO_TARGET_DIR:-target}/debug/guest" $(if $(ALL),--all) $(SUITES)

soak: ## A million whole worlds in simulated time, a million hostile orders (SEEDS=n, ORDERS=n: that many; SQUALL_SEED=n: that one)
	@SEEDS='$(or $(SEEDS),1000000)' cargo test --release -p squall-experiments --test whole -- --nocapture in_any_whole_world
	@SQUALL_ORDERS='$(or $(ORDERS),1000000)' cargo test --release -p squalld --test hostile_orders -- --nocapture no_order

mutants: setup ## Mechanisms taken out of a copy of the sources, one after the other: each promise's test must turn red (ONLY=words)
	@cargo build --quiet -p squall-tests --bin mutants
	@cargo run --quiet -p squall-tests --bin mutants -- $(ONLY)

fuzz: ## The decoders under libFuzzer, a minute each (SECONDS_EACH=n; ONLY=targets)
	@SECONDS_EACH='$(SECONDS_EACH)' ONLY='$(ONLY)' bash tests/fuzz.bash

schemathesis: ## The API fuzzed from its own OpenAPI document, in a throw-away venv (EXAMPLES=n, SECONDS_MOST=n)
	@cargo build --quiet -p squalld
	@bash tests/schemathesis.bash

package: ## The Debian package, into target/debian
	@bash tests/package.bash

package-test: ## The package installed, upgraded, removed and purged in a throw-away root, and the Kubernetes manifests against their schemas
	@bash tests/package.bash test

toxiproxy-clients: ## The own test suites of Toxiproxy's Node and Python clients against squalld toxiproxy (NODE_CLIENT=DIR, PYTHON_CLIENT=DIR: clones)
	@cargo build --quiet -p squalld
	@NODE_CLIENT='$(NODE_CLIENT)' PYTHON_CLIENT='$(PYTHON_CLIENT)' bash tests/toxiproxy-clients.bash

gate-noise: setup ## A hundred real runs of an unchanged example against its baseline: no gate may be refuted (GATES=n, of five runs each)
	@cargo build --quiet --workspace --bins
	@GATES='$(or $(GATES),20)' cargo run --quiet -p squall-tests --example gate_noise

bench: setup ## The table of docs/benchmarks.md, measured here and now (release build; WRITE=1 writes the page)
	@cargo build --quiet --release --workspace --bins
	@cargo run --quiet --release -p squall-tests --bin bench -- $(if $(WRITE),--write) $(ONLY)

fmt: ## Format all sources
	@cargo fmt --all

lint: ## Formatting and clippy, warnings are errors
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace --all-targets -- -D warnings

check: ## Does it compile?
	@cargo check --quiet --workspace --all-targets

deny: ## Licences, advisories and sources of dependencies (if cargo-deny is installed)
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed: nothing was checked"; fi

setup: ## Install what is missing (Debian packages, as root) and check Rust
	@bash tests/setup.bash "$(MSRV)" "$(PACKAGES)" "$(PROGRAMS)"

clean: ## Remove everything that was built
	@cargo clean
	@rm -rf reports
