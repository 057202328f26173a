# Wardline. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# ONNX Runtime would report home from tests too; the binary sets this for itself.
export ORT_DISABLE_TELEMETRY := 1

RUNTIME := .ort/libonnxruntime.so
RELEASE := target/release/wardline

.PHONY: help run build ort test fmt clippy doc unit sdk-test deploy-test bench bench-quick tools deny clean \
        models models-next models-venv models-eval sieve pairs-proof pairs-durability lime-record fuzz fuzz-stable sdk-matrix sdk-record

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

sdk-matrix: $(RUNTIME) build tools ## Older and newest SDKs, and frameworks; renews tests/sdk/matrix/RECORD.md
	{ printf '# What `make sdk-matrix` printed last\n\n'; tests/sdk/matrix/run.sh; } > tests/sdk/matrix/RECORD.new
	mv tests/sdk/matrix/RECORD.new tests/sdk/matrix/RECORD.md && cat tests/sdk/matrix/RECORD.md

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
	command -v nats-server >/dev/null || [ -x /usr/sbin/nats-server ] || missing="$$missing nats-server"; \
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

# The recipe of the weights: rows in $(DATA) (format: models/MODEL_CARD.md), checkpoints in $(WORK); absolute paths.
DATA ?= $(error say where the rows are: make $@ DATA=/path/to/data)
WORK ?= $(CURDIR)/.venv/models-work
PY := $(CURDIR)/.venv/models/bin/python
# Threads that wait for work without spinning: tenfold faster where other work shares the cores.
models models-next models-eval sieve: export OMP_WAIT_POLICY := passive
models models-next models-eval sieve: export GOMP_SPINCOUNT := 0

models-venv: ## The training environment, pinned (about 6 GB)
	@[ -x $(PY) ] || python3.11 -m venv .venv/models
	.venv/models/bin/pip install --quiet --require-hashes -r models/requirements.txt

# The present weights: what they continue (the first revision, as it was committed) and the recipe that made them.
FIRST := a32f7d3bb7d2a0442478b4ef2ec42126848fb9ef
RECIPE := 13d96d2

models: models-venv ## Train, export and measure the present weights: make models DATA=DIR (about 70 minutes on 2 cores)
	mkdir -p $(WORK)/first $(WORK)/recipe
	for file in model.int8.onnx manifest.json; do git show $(FIRST):models/guard/$$file > $(WORK)/first/$$file || exit 1; done
	git archive $(RECIPE) models | tar -x -C $(WORK)/recipe
	cd $(WORK)/recipe/models && $(PY) train.py --data $(DATA) --work $(WORK)/stage3 --init $(WORK)/first/model.int8.onnx \
	  --rate 1.5e-4 --head-rate 5e-4 --seed 11 --examples 120000 --minutes 53
	cd $(WORK)/recipe/models && $(PY) develop.py --data $(DATA) --work $(WORK)/stage3
	cd $(WORK)/recipe/models && $(PY) export.py --data $(DATA) --work $(WORK)/stage3 --out $(CURDIR)/models/guard --cap 300
	cd models && $(PY) sieve.py --data $(DATA) --out guard
	cd models && $(PY) evaluate.py --data $(DATA) --model guard --fp32 $(WORK)/stage3/model.fp32.onnx --record

sieve: models-venv ## Train the cheap first stage: make sieve DATA=DIR (4 minutes); needs no weights
	cd models && $(PY) sieve.py --data $(DATA) --out guard

models-next: models-venv ## Train on from the present weights, average with them, export into WORK: make models-next DATA=DIR
	cd models && $(PY) train.py --data $(DATA) --work $(WORK)/next --init guard/model.int8.onnx \
	  --rate 1.5e-4 --head-rate 5e-4 --seed 13 --examples 170000 --minutes 58
	cd models && $(PY) soup.py --data $(DATA) --first guard/model.int8.onnx --second $(WORK)/next --out $(WORK)/soup
	cd models && $(PY) export.py --data $(DATA) --work $(WORK)/soup --out $(WORK)/guard --cap 300

models-eval: models-venv ## Measure the committed weights: make models-eval DATA=DIR (about 2 minutes)
	cd models && $(PY) evaluate.py --data $(DATA) --model guard

PAIRS_PY := .venv/pairs/bin/python

pairs-proof: $(RUNTIME) build ## Exports of preference rows, loaded and trained on by the training libraries (about 6 GB)
	@[ -x $(PAIRS_PY) ] || python3.11 -m venv .venv/pairs
	$(PAIRS_PY) -m pip install --quiet --require-hashes -r tests/training/requirements.txt
	$(PAIRS_PY) tests/training/proof.py --binary $(RELEASE) --record tests/training/RECORD.md

DURABILITY_PY := .venv/durability/bin/python

pairs-durability: $(RUNTIME) build tools ## Preference rows through kill -9, dead sinks and a full disk (S3 by moto, nats-server)
	@[ -x $(DURABILITY_PY) ] || python3 -m venv .venv/durability
	$(DURABILITY_PY) -m pip install --quiet -r tests/durability/requirements.txt
	$(DURABILITY_PY) tests/durability/proof.py --binary $(RELEASE) --record tests/durability/RECORD.md

sdk-record: ## What the official SDKs send and understand, for the marker sweep: renews tests/fixtures/sdk
	[ -x .venv/sdk/bin/python ] || python3 -m venv .venv/sdk
	.venv/sdk/bin/python -m pip install --quiet -r tests/sdk/requirements.txt
	PYTHONDONTWRITEBYTECODE=1 .venv/sdk/bin/python tests/sdk/record.py

lime-record: ## Explanations by the Python package lime for the tests; again whenever the weights change (2 minutes)
	@[ -x .venv/lime/bin/python ] || python3.11 -m venv .venv/lime
	.venv/lime/bin/pip install --quiet -r tests/lime/requirements.txt
	OMP_WAIT_POLICY=passive .venv/lime/bin/python tests/lime/record.py

FUZZ_S ?= 120

fuzz: ## Fuzz each target for FUZZ_S seconds (needs a nightly toolchain and cargo-fuzz); `make test` replays the corpora
	for target in framer walker path policy; do cargo +nightly fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_S); done

fuzz-stable: $(RUNTIME) ## The same targets without nightly or coverage, over changed inputs of the corpora
	WARDLINE_FUZZ_S=$(FUZZ_S) cargo test --locked --test it -- --ignored fuzz::changed_inputs_hold
	@cat target/fuzz-found/*.txt

deny: ## Licences, advisories, duplicate crates (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install cargo-deny --locked" >&2; exit 1; }
	cargo deny check

clean: ## Everything that was built or fetched
	rm -rf target .ort .venv
