# make help lists the targets. Everything is made in .venv/ and build/; only bench changes a tracked file, its table.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
BUILT_FROM := pyproject.toml setup.py $(wildcard sepconc/scattering/engines/native/*.cpp sepconc/scattering/engines/native/*.h)
DEMO_CONFIG := SEPCONC_CONFIG=$(DEMO)/config.yml

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-gpu lint bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sepconc needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BUILT_FROM) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: $(BUILT_FROM) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	@touch $@ $(VENV)/.installed

install: $(VENV)/.installed ## make .venv and install sepconc in it

demo: $(VENV)/.installed ## train, evaluate and list a classifier of handwritten digits (a minute)
	@rm -rf $(DEMO) && mkdir -p $(DEMO) && cp examples/demo.yml $(DEMO)/config.yml
	$(DEMO_CONFIG) $(BIN)/python train.py digits-scatnet -a scatnet -ds digits --scattering-J 3 --P-proj-size 64 \
	  --epochs 40 --batch-size 64 --lr-scheduler StepLR15 --seed 0
	$(DEMO_CONFIG) $(BIN)/python eval.py digits-scatnet -em onecrop
	$(DEMO_CONFIG) $(BIN)/python eval.py digits-scatnet -em tencrops
	$(DEMO_CONFIG) $(BIN)/python eval.py digits-scatnet -em shifts --max-shift 4
	$(DEMO_CONFIG) $(BIN)/sepconc list

test: $(VENV)/.installed-test ## run the tests (a few minutes)
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

test-slow: $(VENV)/.installed-test ## run the slow tests
	$(BIN)/python -m pytest -n 2 -m "slow and not gpu"

test-gpu: $(VENV)/.installed-test ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

lint: $(VENV)/.installed-test ## check style and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

bench: $(VENV)/.installed-test ## run the benchmarks and write benchmarks/RESULTS.md (a quarter of an hour)
	$(BIN)/python benchmarks/run.py

clean: ## remove .venv and build
	rm -rf $(VENV) build
