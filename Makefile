# Bedplate: the two commands a newcomer needs are `make run` and `make test`.

CARGO   ?= cargo
TARGET  := $(or $(CARGO_TARGET_DIR),target)
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
BIN     := $(TARGET)/release/bedplate
export BEDPLATE_BIN := $(abspath $(BIN))

BUILD_PACKAGES := gcc libc6-dev make
RUN_PACKAGES   := nvme-cli
TEST_PACKAGES  := $(shell sed 's/\#.*//' tests/packages.txt)
VM_PACKAGES    := $(shell cat tests/vm/packages.txt tests/vm/perf-packages.txt)

FUZZ_SECONDS ?= 5
CRASH_KILLS  ?= 50

# All features: the planted defects that the checkers must catch are compiled in, and off until a
# test asks for one. The binary under test, BEDPLATE_BIN, is built without them.
NEXTEST := $(CARGO) nextest run --workspace --all-features --cargo-profile sim --no-fail-fast

.PHONY: run build test test-long lint fuzz vm-perf test-tools clean

## Builds the release binary and starts the appliance in the foreground on the quickstart configuration.
run:
	@$(call need,$(BUILD_PACKAGES) $(RUN_PACKAGES))
	$(CARGO) build --release --package bedplate
	@mkdir -p var
	exec $(BIN) serve --config config/examples/quickstart.toml

build:
	@$(call need,$(BUILD_PACKAGES))
	$(CARGO) build --release --package bedplate
	$(CARGO) build --release --package bedplate-perf

## Everything that must pass before a change lands; what takes longer is in test-long.
test: test-tools lint build fuzz
	@$(call say_ignored)
	CRASH_KILLS=$(CRASH_KILLS) $(NEXTEST)

## The same with long loops: 1,000 kills, 100,000 seeds of each kind, ten minutes of fuzzing a target.
test-long: CRASH_KILLS := 1000
test-long: SIM_SEEDS ?= 100000
test-long: FUZZ_SECONDS := 600
test-long: test-tools lint build fuzz
	CRASH_KILLS=$(CRASH_KILLS) SIM_SEEDS=$(SIM_SEEDS) $(NEXTEST) --profile long --run-ignored all \
		--filterset 'not (binary(uring_devices) and test(gives_back))'

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- --deny warnings

## A short run of every fuzz target from its committed seeds.
fuzz: test-tools
	FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run.sh

## Ours against the kernel's own target in a VM, with fio and pgbench: prints ratios, judges nothing.
## VM_PERF_... variables change what is measured; tests/vm/README.md has them.
vm-perf: build
	@$(call need,$(VM_PACKAGES))
	$(CARGO) run --package bedplate-vm-tests --bin vm-perf

## What the tests need beyond the Rust toolchain, installed when missing.
test-tools:
	@$(call need,$(BUILD_PACKAGES) $(TEST_PACKAGES))
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz
	@tests/vm/prepare.sh
	@tests/vm/prepare.sh python

clean:
	$(CARGO) clean

# Tests that `make test` leaves out, each with its reason.
define say_ignored
grep -rnE '#\[ignore = ' --include=*.rs reactor drivers appliance config tests | \
	sed -E 's/^([^:]+):[0-9]+: *#\[ignore = (.*)\]/not run: \1: \2/' || true
endef

# Installs the Debian packages named in $(1) that are not there; says nothing when all are. Twice if
# need be: what is installed can make apt remove another of them whose version does not fit.
define need
for try in 1 2; do \
	missing=$$(for p in $(1); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	[ -n "$$missing" ] || break; \
	echo "installing from Debian's packages:" $$missing; \
	$(SUDO) apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
done
endef
