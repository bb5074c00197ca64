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

.PHONY: lint
lint: ## Format, clippy, shell and chart checks
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: generate
generate: ## Write the files that are generated from the types
	cargo run -q -p embedrun-crds --bin crdgen .

.PHONY: deny
deny: ## Licences and sources of the dependencies (ADVISORIES=1: advisories too)
	@scripts/deny.sh

.PHONY: cluster
cluster: ## An embedded control plane with a local kubelet and the chart, until Ctrl-C
	@scripts/cluster.sh
