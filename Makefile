# The commands of the project. `make quickstart` and `make test` need nothing done before them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

.PHONY: quickstart
quickstart: ## Embed docs/ on an embedded control plane (CLUSTER=existing: on that of KUBECONFIG)
	@scripts/quickstart.sh

.PHONY: test
test: ## Everything: unit, contract, chart and end-to-end tests (E2E=skip leaves the last out)
	@scripts/test.sh

.PHONY: parity
parity: ## Make the fixtures of tests/parity again with the reference implementation, and compare
	@$$(scripts/python-env.sh parity) tests/parity/check.py

.PHONY: bench
bench: ## This runner beside its peers on the same texts, into docs/reference/benchmarks.md (CASES="minilm splade", REPEAT=3)
	@$$(scripts/python-env.sh parity) tests/bench/run.py $(CASES) --repeat $(or $(REPEAT),3)

.PHONY: cuda
cuda: ## The runner for NVIDIA cards, into target/cuda/dist (no GPU is needed to build it)
	@scripts/cuda.sh

.PHONY: cuda-check
cuda-check: ## Whether the code for NVIDIA cards compiles, without building it
	@scripts/cuda-check.sh -D warnings

.PHONY: cuda-test
cuda-test: ## The program for NVIDIA cards over an emulated driver (no GPU is needed)
	@tests/cuda/emulated.sh

.PHONY: lint
lint: ## Format, clippy, circles between modules, links
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	scripts/module-graph.py
	scripts/check-links.py

.PHONY: generate
generate: ## Write the files that are generated from the types and modules
	cargo run -q -p embedrun-crds --bin crdgen .
	scripts/module-graph.py --write docs/contributing/architecture.md

.PHONY: deny
deny: ## Licences and sources of the dependencies (ADVISORIES=1: advisories too)
	@scripts/deny.sh

.PHONY: cluster
cluster: ## An embedded control plane with a local kubelet and the chart, until Ctrl-C
	@scripts/cluster.sh
