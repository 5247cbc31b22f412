# The project's commands. `make` alone lists them.
# All set-up lives in tools/setup.sh and is safe to run twice.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO := tools/with-libtorch.sh cargo
# The feature set of the tests and benches, so that nothing is built twice.
RELEASE := --locked --release --workspace --features workers-run/torch --bins

.PHONY: help
help: ## Lists these commands
	@echo "Smallest: speech recognition on your own machines. Commands:"
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: setup
setup: ## Installs what is missing: Debian packages and libtorch (shows what it does; safe to run twice)
	@tools/setup.sh

.PHONY: build
build: setup ## Builds all programs into target/release/
	@$(CARGO) build $(RELEASE)

.PHONY: run
run: build ## Starts the whole service on this machine, speaks a sentence at it, and stays up until Ctrl-C
	@target/release/smallest up -f examples/quickstart.yaml --demo

.PHONY: cluster
cluster: build ## Starts a throw-away Kubernetes with the whole service in it, and stays up until Ctrl-C (root, Linux)
	@tools/setup.sh --cluster
	@tools/cluster.sh demo

.PHONY: test
test: ## Runs every test: format, lints, invariants, unit, parity with the reference, whole path
	@tools/test.sh

.PHONY: test-gpu
test-gpu: setup ## Runs the tests of parity with the reference on a CUDA GPU, and shows how far each answer is
	@GOLDEN_DEVICE=cuda $(CARGO) test --locked --workspace --features workers-run/torch --lib engine::golden -- --nocapture

.PHONY: invariants
invariants: ## Checks the architecture's invariants (ARCHITECTURE.md)
	@tools/invariants.sh

.PHONY: lint
lint: ## Checks format and lints, warnings are errors
	@tools/test.sh setup format lint

.PHONY: fmt
fmt: ## Formats the Rust code
	@cargo fmt --all

.PHONY: generate
generate: ## Writes the generated files that are committed (custom resource definitions)
	@tools/generated.sh

.PHONY: images
images: build ## Builds the container images with podman, buildah or docker
	@tools/images.sh --profile release

.PHONY: images-cuda
images-cuda: build ## Builds the worker's image for NVIDIA GPUs (fetches the CUDA part of libtorch once, about 4 GB)
	@tools/images.sh --profile release worker-cuda

.PHONY: bench bench-asr bench-gateway bench-queue bench-engine bench-operator bench-gpu bench-fresh
bench: bench-queue bench-gateway bench-engine bench-asr bench-operator ## Measures everything below on this machine; rows go to target/bench/*.jsonl
bench-asr: build ## Measures the service: start, rest, live streams, latency, batch speed, error rate
	@tools/bench-asr.sh
bench-gateway: setup ## Measures what gateway and Redis add to a chunk, client to client
	@tools/bench-gateway.sh
bench-queue: setup ## Measures what Redis adds to a chunk
	@tools/bench-queue.sh
bench-engine: setup ## Measures the model's step beside Hugging Face, ONNX Runtime and OpenVINO
	@tools/bench-engine.sh
bench-operator: setup ## Measures the operator: 1,000 resources, writes at rest, reaction to queued work (root, Linux)
	@if [ -z "$${KUBECONFIG:-}" ]; then \
	  if [ "$$(id -u)" != 0 ] || ! command -v go >/dev/null; then \
	    echo "bench-operator: skipped: a throw-away cluster needs root and Go, and KUBECONFIG names no other"; exit 0; fi; \
	  tools/setup.sh --cluster; fi; \
	missed=0; [ -n "$${KUBECONFIG:-}" ] || tools/bench-operator.sh --hold-controllers || missed=1; \
	tools/bench-operator.sh || missed=1; tools/bench-scale.sh || missed=1; exit $$missed
bench-gpu: setup ## Measures the same on a CUDA GPU, where there is one
	@tools/bench-gpu.sh
bench-fresh: ## Measures the first and the second make run of a new user, with empty caches (half an hour)
	@tools/bench-fresh.sh

.PHONY: train-demo-asr
train-demo-asr: ## Trains the demo model again from synthesized speech (some 10 CPU-hours; stops and resumes)
	@tools/setup.sh --train
	@PYTHON="$$(tools/python-env.sh | tail -1)" models/training/run.sh

.PHONY: adopt-demo-asr
adopt-demo-asr: ## Takes a trained model into the checkout (MODEL=folder): models/demo-asr, digest in the examples, golden files
	@PYTHON="$$(tools/python-env.sh | tail -1)" models/training/adopt.sh $(MODEL)

.PHONY: clean
clean: ## Removes target/ (libtorch stays in ~/.cache/smallest)
	@cargo clean
