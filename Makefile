# Wardline. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# ONNX Runtime would report home from tests too; the binary sets this for itself.
export ORT_DISABLE_TELEMETRY := 1

RUNTIME := .ort/libonnxruntime.so
RELEASE := target/release/wardline

.PHONY: help run build ort test fmt clippy doc unit sdk-test deploy-test bench bench-quick tools deny clean \
        models models-venv models-eval

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "  %-14s %s\n", $$1, $$2 }'

run: $(RUNTIME) build ## Fetch ONNX Runtime, build, and run the demo
	@exec $(RELEASE) demo

build: ## The release binary
	cargo build --release --locked

ort: $(RUNTIME) ## The pinned ONNX Runtime library, from PyPI, into .ort/

$(RUNTIME): models/onnxruntime.txt models/onnxruntime.sh
	models/onnxruntime.sh .ort
	@touch $@

test: fmt clippy doc unit sdk-test deploy-test ## Everything that CI runs

fmt:
	cargo fmt --check

clippy:
	cargo clippy --locked --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

unit: $(RUNTIME) ## Unit and integration tests
	cargo test --locked

sdk-test: $(RUNTIME) build tools ## The official SDKs, Python and Node, against the binary
	tests/sdk/run.sh

deploy-test: $(RUNTIME) build tools ## Alert rules, board and a real Prometheus against the binary
	deploy/check.sh
	deploy/scrape.sh $(RELEASE)

bench: $(RUNTIME) build tools ## Side by side with nginx; see benches/README.md
	cargo bench --locked

bench-quick: $(RUNTIME) build tools ## The same, seconds instead of minutes
	cargo bench --locked -- --quick

# Debian packages that tests and benches call: promtool and prometheus, nginx, node.
tools: ## Install what the tests need beyond cargo (as root), or say what is missing
	@missing=""; \
	command -v promtool >/dev/null || missing="$$missing prometheus"; \
	command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing="$$missing nginx-light"; \
	command -v node >/dev/null || missing="$$missing nodejs npm"; \
	python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    printf '#!/bin/sh\nexit 101\n' > /tmp/policy-rc.$$$$ ; \
	    had=$$( [ -e /usr/sbin/policy-rc.d ] && echo yes || true ); \
	    [ -n "$$had" ] || install -m 755 /tmp/policy-rc.$$$$ /usr/sbin/policy-rc.d; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	    [ -n "$$had" ] || rm -f /usr/sbin/policy-rc.d; rm -f /tmp/policy-rc.$$$$; \
	  else echo "missing:$$missing; install these Debian packages" >&2; exit 1; fi; \
	fi

deny: ## Licences, advisories, duplicate crates (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install cargo-deny --locked" >&2; exit 1; }
	cargo deny check

clean: ## Everything that was built or fetched
	rm -rf target .ort .venv
