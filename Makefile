# The commands of the project. `make quickstart` and `make test` need no other step before them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

.PHONY: quickstart
quickstart: ## Embed docs/ on a local control plane (CLUSTER=existing: on the cluster of KUBECONFIG)
	@scripts/quickstart.sh

.PHONY: test
test: ## Run all tests: unit, contract, chart and end-to-end (E2E=skip: without the end-to-end tests)
	@scripts/test.sh

.PHONY: parity
parity: ## Recompute the fixtures of tests/parity with the reference implementation, and compare
	@$$(scripts/python-env.sh parity) tests/parity/check.py
	@$$(scripts/python-env.sh parity) tests/parity/tokenizer_settings.py --check

.PHONY: bench
bench: ## Benchmark this runner and its peers into docs/reference/benchmarks.md (CASES="minilm splade", REPEAT=3)
	@$$(scripts/python-env.sh parity) tests/bench/run.py $(CASES) --repeat $(or $(REPEAT),3)

.PHONY: cuda
cuda: ## Build the runner for NVIDIA GPUs into target/cuda/dist (needs no GPU)
	@scripts/cuda.sh

.PHONY: cuda-check
cuda-check: ## Check that the CUDA code compiles, without linking it
	@scripts/cuda-check.sh -D warnings

.PHONY: cuda-test
cuda-test: ## Test the CUDA build of the runner on an emulated driver (needs no GPU)
	@tests/cuda/emulated.sh

.PHONY: fuzz
fuzz: ## Fuzz what parses bytes from outside (TARGETS="json_lines hub", SECONDS=60 per target)
	@FUZZ_SECONDS=$(or $(SECONDS),60) tests/fuzz/run.sh $(TARGETS)

.PHONY: lint
lint: ## Check formatting, lints, circles between modules, and links
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	scripts/module-graph.py
	scripts/check-links.py

.PHONY: generate
generate: ## Regenerate the CRD, the schemas, the reference and the module graph
	cargo run -q -p embedrun-crds --bin crdgen .
	scripts/module-graph.py --write docs/contributing/architecture.md

.PHONY: deny
deny: ## Check licences and sources of the dependencies (ADVISORIES=1: also security advisories)
	@scripts/deny.sh

.PHONY: cluster
cluster: ## Run a local control plane with a kubelet until Ctrl-C
	@scripts/cluster.sh
