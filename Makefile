# What one does with Granary from a clone. Built files, tools and caches lie outside the clone and are shared by all clones.
SHELL := /bin/bash
CARGO_TARGET_DIR ?= $(HOME)/.cache/granary/target
export CARGO_TARGET_DIR
export GRANARY_BIN ?= $(CARGO_TARGET_DIR)/debug/granary
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help run test it soak conformance bench openapi lint fmt release demo build

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start Granary on 127.0.0.1:5000 (ARGS="--listen 127.0.0.1:6000")
	cargo run --release -p registry-server --bin granary -- serve $(ARGS)

test: ## everything: tools, format, lints, all tests, fuzzing, real clients, the OCI suite, the demo
	@tests/run.sh

it: ## only the integration tests (ARGS="name of a test")
	cargo test --workspace --test it -- $(ARGS)

soak: ## three replicas under all faults (SOAK_MINUTES=30; GRANARY_SOAK_DATABASE=patroni, ..._SEED, ..._FAULTS: tests/replicas)
	conformance/tools.sh patroni etcd haproxy
	GRANARY_SOAK_SECONDS=$$(($${SOAK_MINUTES:-30} * 60)) cargo test -p registry-server --test replicas -- --nocapture three_replicas

conformance: build ## real clients and the OCI suite against this tree (CLIENTS="crane docker")
	conformance/clients.sh $(CLIENTS)
	conformance/accounts.sh $(CLIENTS)
	conformance/suite.sh

bench: ## measure this tree and its peers
	bench/run.py $(ARGS)

openapi: ## write openapi/registry.json anew
	@mkdir -p openapi
	cargo run -p registry-server --bin granary -- openapi >openapi/registry.json.new
	mv openapi/registry.json.new openapi/registry.json

lint: ## clippy, format check, and cargo deny where it is installed
	cargo clippy --workspace --all-targets -- -D warnings
	cargo fmt --all --check
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo deny is not installed: not run"; fi

fmt: ## format all Rust
	cargo fmt --all

release: ## the optimised binary
	cargo build --release --locked -p registry-server --bin granary
	@ls -lh $(CARGO_TARGET_DIR)/release/granary

demo: build ## push with docker, oras and crane, restart, pull with others, compare
	conformance/demo.sh

build:
	cargo build -p registry-server
