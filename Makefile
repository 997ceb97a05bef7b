.DEFAULT_GOAL := help
.PHONY: help setup build install test demo bench bench-framing bench-grape soak promises storm slow-clients gate fuzz simulate lint imports docs format clean

# How long each fuzz target runs.
SECONDS ?= 60
# How long processes are killed and restarted under load.
MINUTES ?= 5
# How many seeds of faults the simulator takes, how large its networks are, and how large those are that
# grow by joining: 100000 of these take half an hour.
SEEDS ?= 10000
NODES ?= 100000
GROWN ?= 10000

# Where `make install` puts the commands, and what else the compiler is told: --static-swift-stdlib for machines
# without Swift.
PREFIX ?= /usr/local
BUILD_OPTIONS ?=
# Where `make build` leaves them, unless BUILD_OPTIONS say otherwise.
BIN ?= .build/release

# What the tools leave behind stays in the checkout.
export TMPDIR := $(CURDIR)/.build/tmp
$(shell mkdir -p $(TMPDIR))

# Handshakes have deadlines of real seconds, and simulations compute for half a minute: at the same time
# on two cores they would starve one another. So a process for each target, and one test after the other.
TEST_TARGETS := $(sort $(notdir $(wildcard Tests/*Tests Tests/Fuzz/*Tests)))

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## Install what is missing: system packages, test certificates, Python packages
	@sh scripts/setup.sh --tests
	@sh certs/generate.sh --if-missing
	@sh scripts/python.sh

build: ## Build the commands, optimised
	@sh scripts/setup.sh
	swift build -c release $(BUILD_OPTIONS) --product grape
	swift build -c release $(BUILD_OPTIONS) --product grenache

# What is built is taken as it is: whoever may write to PREFIX, root as a rule, is not to build again.
install: $(if $(and $(wildcard $(BIN)/grape),$(wildcard $(BIN)/grenache)),,build) ## Install what is built, and completions, below PREFIX
	@sh scripts/install.sh "$(BIN)" "$(DESTDIR)$(PREFIX)"

test: setup ## Run all tests
	swift build --build-tests
	@for target in $(TEST_TARGETS); do \
		echo "--- $$target"; \
		timeout -k 30 900 swift test --skip-build --no-parallel --filter "^$$target\\." || exit 1; \
	done

demo: build ## One call through two grapes with mutual TLS, step by step
	@sh scripts/demo.sh

bench: ## Calls over WSS with mutual TLS: rate, latency, processor time; memory of idle connections
	@sh scripts/setup.sh
	swift build -c release --product grenache
	swift run -c release CallBenchmark $(BENCH_OPTIONS)

bench-framing: ## The framers alone: heads, frames, unmasking, compression, and what they allocate
	@sh scripts/setup.sh
	swift run -c release FramingBenchmark $(BENCH_OPTIONS)

bench-grape: ## A grape over HTTPS with mutual TLS: lookups a second, latency, processor time of each
	@sh scripts/setup.sh
	swift run -c release GrapeBenchmark $(BENCH_OPTIONS)

soak: ## A minute of certificates replaced under load, then MINUTES=5 of killed and restarted processes
	@sh scripts/setup.sh
	swift build -c release --product CallBenchmark
	.build/release/CallBenchmark soak $(SOAK_OPTIONS)
	.build/release/CallBenchmark fleet-soak --minutes $(MINUTES)

promises: ## The figures that peers promise: deadlines, deaths, slow subscribers, streams, leaks
	@sh scripts/setup.sh
	swift build -c release --product CallBenchmark
	.build/release/CallBenchmark promises $(PROMISES)

storm: ## What a thousand new connections at once do to established ones
	@sh scripts/setup.sh
	swift build -c release --product CallBenchmark
	@# What is measured runs before the storm's clients, where the system lets it.
	$$(chrt --rr 10 true 2>/dev/null && echo chrt --rr 10) \
	  $$(swift build -c release --show-bin-path)/CallBenchmark storm $(STORM_OPTIONS)

slow-clients: ## What a thousand clients that send a byte a second do to established connections
	@sh scripts/setup.sh
	swift build -c release --product CallBenchmark
	$$(chrt --rr 10 true 2>/dev/null && echo chrt --rr 10) \
	  $$(swift build -c release --show-bin-path)/CallBenchmark slow-clients $(SLOW_OPTIONS)

# What has a figure that a busy machine misses: on a quiet one only. What takes long, and as well on any
# machine, is not here: soak (P21), simulate (P41), fuzz EXECUTIONS=10000000 (P1).
GATE := promises storm slow-clients bench-framing

gate: ## Before a release, on a quiet machine: the promised figures that a busy one misses; fails with any missed
	@failed=""; \
	for name in $(GATE); do \
		echo "=== $$name"; \
		timeout -k 30 3600 $(MAKE) --no-print-directory $$name STORM_OPTIONS="--strict $(STORM_OPTIONS)" \
		  SLOW_OPTIONS="--strict $(SLOW_OPTIONS)" BENCH_OPTIONS="--strict $(BENCH_OPTIONS)" \
		  || failed="$$failed $$name"; \
	done; \
	echo "=== summary"; \
	for name in $(GATE); do \
		case "$$failed " in *" $$name "*) echo "$$name: MISSED";; *) echo "$$name: kept";; esac; \
	done; \
	[ -z "$$failed" ]

fuzz: ## Each parser under the fuzzer, SECONDS=60 for each, or EXECUTIONS=10000000
	@sh scripts/setup.sh
	@SECONDS_EACH=$(SECONDS) EXECUTIONS=$(EXECUTIONS) sh scripts/fuzz.sh $(TARGETS)

simulate: ## DHT nodes and peers in virtual time: NODES=100000, GROWN=10000, SEEDS=10000 of faults
	@sh scripts/setup.sh
	swift build -c release --product Simulate
	.build/release/Simulate growth --settled --up-to $(NODES) --plot .build/simulation.svg $(SIMULATE_OPTIONS)
	.build/release/Simulate growth --up-to $(GROWN) --plot .build/simulation-grown.svg $(SIMULATE_OPTIONS)
	.build/release/Simulate faults --seeds $(SEEDS)
	swift build -c release --product CallBenchmark
	.build/release/CallBenchmark simulate-peers --seeds $(SEEDS)

lint: ## Check the format
	swift format lint --strict --recursive --parallel Package.swift Sources Tests Benchmarks Examples

imports: ## Check that every target imports only what it declares
	swift build --explicit-target-dependency-import-check error

docs: ## Build the documentation; warnings are errors
	@sh scripts/docs.sh

format: ## Format in place
	swift format --in-place --recursive --parallel Package.swift Sources Tests Benchmarks Examples

clean: ## Remove everything that was made
	rm -rf .build .build-* .venv .demo certs/generated
