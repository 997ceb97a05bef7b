.DEFAULT_GOAL := help
.PHONY: help setup build test demo bench bench-framing soak storm fuzz lint imports format clean

# How long each fuzz target runs.
SECONDS ?= 60

# What the tools leave behind stays in the checkout.
export TMPDIR := $(CURDIR)/.build/tmp
$(shell mkdir -p $(TMPDIR))

# Handshakes have deadlines of real seconds: all tests at once would starve one another of them.
TESTS_AT_ONCE ?= 4

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## Install what is missing: system packages, test certificates, Python packages
	@sh scripts/setup.sh
	@sh certs/generate.sh --if-missing
	@sh scripts/python.sh

build: ## Build the commands, optimised
	@sh scripts/setup.sh
	swift build -c release --product grape
	swift build -c release --product grenache

test: setup ## Run all tests
	swift build --build-tests
	SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH=$(TESTS_AT_ONCE) swift test --skip-build

demo: build ## One call through two grapes with mutual TLS, step by step
	@sh scripts/demo.sh

bench: ## Calls over WSS with mutual TLS: rate, latency, processor time; memory of idle connections
	@sh scripts/setup.sh
	swift build -c release --product grenache
	swift run -c release CallBenchmark $(BENCH_OPTIONS)

bench-framing: ## The framers alone: heads, frames, unmasking, compression, and what they allocate
	@sh scripts/setup.sh
	swift run -c release FramingBenchmark $(BENCH_OPTIONS)

soak: ## A minute of calls while the server's certificates are replaced
	@sh scripts/setup.sh
	swift run -c release CallBenchmark soak $(SOAK_OPTIONS)

storm: ## What a thousand new connections at once do to established ones
	@sh scripts/setup.sh
	swift run -c release CallBenchmark storm $(STORM_OPTIONS)

fuzz: ## Each parser under the fuzzer, SECONDS=60 for each
	@sh scripts/setup.sh
	@SECONDS_EACH=$(SECONDS) sh scripts/fuzz.sh $(TARGETS)

lint: ## Check the format
	swift format lint --strict --recursive --parallel Package.swift Sources Tests Benchmarks Examples

imports: ## Check that every target imports only what it declares
	swift build --explicit-target-dependency-import-check error

format: ## Format in place
	swift format --in-place --recursive --parallel Package.swift Sources Tests Benchmarks Examples

clean: ## Remove everything that was made
	rm -rf .build .build-* .venv .demo certs/generated
