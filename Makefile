# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 3
# NAME:COUNT of bench/user_once_rankers.py: requests for each number of candidates, slow rankers fewer.
USER_ONCE ?= history:2000 din:5000 dlrm:5000 cross_encoder:2000 all_items:5000
RESULTS ?= bench/results

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench-user-once bench-report clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(READY) ## Make .venv with rankserve and its dev extras

# torch first: where there is no NVIDIA GPU its CPU build saves gigabytes of CUDA libraries.
$(READY): pyproject.toml .ci/install-torch .ci/install-torchrec
	@echo "setup: a virtual environment in $(VENV)/ (once; downloads a few hundred megabytes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@BIN=$(BIN) sh .ci/install-torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@BIN=$(BIN) sh .ci/install-torchrec
	@touch $@

demo: $(READY) ## The main job: train, optimize, gate, deploy, serve, measure (DATA=criteo.tsv for real rows)
	@$(BIN)/python -m bench demo $(if $(DATA),--data $(DATA))

# Files of tests at a time, each with one thread; one more than cores, as servers start and end idly. Nothing
# asserted there is a time.
test: lint ## Lint, types, tests (WORKERS=3 at a time)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) \
		--dist loadfile --no-loadscope-reorder

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

bench-user-once: $(READY) ## Measure the user's part once against flat, each ranker, with a report (a quiet machine, 15 minutes)
	@for each in $(USER_ONCE); do \
		name=$${each%:*}; file=$(RESULTS)/user-once-at-$$name.json; \
		$(BIN)/python -m bench crossover cpu-fp32-flat cpu-fp32 --at 1,50,200,500 \
			--count $${each#*:} --ranker bench/user_once_rankers.py:$$name --out $$file && \
		$(BIN)/python -m optimize report build/recipes/bench_user_once_rankers.py_$$name-cpu-fp32 \
			--measured $$file --out build/user-once/$$name.html || exit 1; \
	done

bench-report: $(READY) ## Write benchmarks.md, docs/pictures/ and the README's figures from bench/results/
	@$(BIN)/python -m bench report --pictures docs/pictures
	@$(BIN)/python .ci/readme.py

clean: ## Remove what was built; the environment too
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
