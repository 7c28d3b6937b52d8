# Entry points for people and CI. Each target does all of its own set-up on a fresh Debian 12 as root.
# Logic lives in deploy/ and tests/; this file only says what comes after what.

LAB := deploy/lab/lab
PROFILE ?= release
ifeq ($(PROFILE),release)
CARGO_PROFILE := --release
export LAB_BIN_DIR := $(CURDIR)/target/release
else
export LAB_BIN_DIR := $(CURDIR)/target/debug
endif

.PHONY: help demo down test check unit compat chaos lab-test lab-chaos bench bench-placement bench-nodes packages build image

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: packages build image ## Three jump servers, a coordinator and alice's machine, here; then ssh into it
	$(LAB) up
	deploy/demo

down: ## Stop the lab and leave nothing behind
	$(LAB) down

# The unit tests have built all of it unoptimized; building it once more takes longer than it saves.
test: packages check unit compat ## Everything: lints, unit, simulated fleet, the release before, real fleet
	$(MAKE) lab-test PROFILE=dev

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	deploy/compat --check
	shellcheck -x deploy/compat deploy/demo deploy/packages/install deploy/image/bake deploy/lab/lab deploy/lab/lib/store-run .ci/run

unit:
	cargo test --workspace

# PREVIOUS=REVISION: another one than the release that Cargo.toml names.
compat: ## The release before this one and this one in one fleet; see docs/upgrade.md
	deploy/compat $(PREVIOUS)

# CHAOS_SEED replays a walk that failed; what it prints says which.
CHAOS_SEED ?= $(shell date +%s)
CHAOS_STEPS ?= 5000
CHAOS_ROUNDS ?= 100

chaos: ## Two long walks of random deeds and faults on simulated fleets: one coordinator, and three
	CHAOS_SEED=$(CHAOS_SEED) CHAOS_STEPS=$(CHAOS_STEPS) \
		cargo test -p containarium-tests --test chaos_walk people -- --nocapture --test-threads=1

lab-chaos: packages build image ## The same on a real fleet of three coordinators, kill -9 of a daemon in each of CHAOS_ROUNDS
	$(LAB) up --ha
	CHAOS_SEED=$(CHAOS_SEED) CHAOS_ROUNDS=$(CHAOS_ROUNDS) \
		cargo run $(CARGO_PROFILE) -p containarium-tests --features lab --bin lab-chaos

lab-test: packages build image
	cargo test $(CARGO_PROFILE) -p containarium-tests --features lab --test lab -- --test-threads=1 --nocapture
	$(LAB) down
	$(LAB) leftovers
	cargo test $(CARGO_PROFILE) -p containarium-tests --features lab --test lab_ha -- --test-threads=1 --nocapture
	$(LAB) down
	$(LAB) leftovers

bench: packages build image ## create-to-ssh beside a bare 'incus launch' of the same image; see docs/benchmarks.md
	$(LAB) up
	cargo run $(CARGO_PROFILE) -p containarium-tests --features lab --bin bench-create

bench-placement: packages build image ## Sixty machines on three unequal servers, twice; see docs/benchmarks.md
	$(LAB) up
	cargo run $(CARGO_PROFILE) -p containarium-tests --features lab --bin bench-placement

# Without a lab. BENCH_NODES, BENCH_CONTAINERS: another size.
bench-nodes: build ## A coordinator with 1,000 nodes and 50,000 machines: memory, CPU, times; see docs/benchmarks.md
	cargo run $(CARGO_PROFILE) -p containarium-tests --bin bench-nodes

packages:
	deploy/packages/install

build:
	cargo build $(CARGO_PROFILE) --workspace --bins

image:
	deploy/image/bake
