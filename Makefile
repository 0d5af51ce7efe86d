# `make demo` and `make test` on a machine with Python 3.11 or newer, make and git; nothing else is needed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
AGENT  := $(VENV)/.agent-installed
IMAGE  ?= caravan
VERSION = $(shell $(PYTHON) -c 'import caravan; print(caravan.__version__)')
PYTEST ?= $(BIN)/python -m pytest -n 2

.PHONY: help setup demo test test-train check docs pictures lock image audit sbom clean

help:
	@echo "make demo   run the agent on an example, on the built-in cluster"
	@echo "make test   run the tests"
	@echo "make test-train  fine-tune small models for real on the CPU, with torch (some GB, downloaded once)"
	@echo "make check  lint, types, docs"
	@echo "make docs   write the generated parts of docs/ anew"
	@echo "make pictures  make the pictures of docs/ anew, from real sessions (some minutes; chromium for the report)"
	@echo "make lock   resolve the dependencies anew into constraints.txt"
	@echo "make image  build the image (BASE=python:3.11-slim@sha256:... pins its base)"
	@echo "make audit  look for known vulnerabilities of the pinned dependencies"
	@echo "make sbom   write the bill of materials of what the agent needs, with licences"

setup: $(STAMP)

# The agent alone is what a first look needs; the tools of tests and checks take as long again.
$(AGENT): requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Caravan needs Python 3.11 or newer; try make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { echo "no venv: install your system's python3-venv package"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	@touch $@

$(STAMP): $(AGENT) requirements-optimize.txt requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	@touch $@

demo: $(AGENT)
	@$(BIN)/python main.py --prompt "Fine-tune the character model on my text with LoRA" \
	  --codebase-path examples/numpy-lora --cluster local --yes

test: setup
	$(PYTEST)

# The libraries are installed outside the clone, once for each state of requirements-train.txt: see docs/finetune.md.
test-train: setup
	@python=$$($(BIN)/python tests/train/environment.py) && CARAVAN_TRAIN_PYTHON=$$python $(PYTEST) -m train tests/train

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

docs: setup
	$(BIN)/python docs/generate.py

pictures: setup
	$(BIN)/python docs/pictures.py

lock:
	rm -rf .cache/lock && $(PYTHON) -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet -r requirements-dev.txt
	echo '# Every dependency of requirements-dev.txt at the version that was tested; written by `make lock`.' > .cache/constraints.txt
	.cache/lock/bin/python -m pip freeze >> .cache/constraints.txt
	mv .cache/constraints.txt constraints.txt

# The version is stated in the code alone; the label and its check take it from there.
image:
	docker build -t $(IMAGE) $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null) .

audit: setup
	$(BIN)/python docs/audit.py constraints.txt

# Of an environment that has what the image has, and nothing of the tests.
sbom: setup
	rm -rf .cache/sbom && $(PYTHON) -m venv --without-pip .cache/sbom && mkdir -p dist
	$(BIN)/python -m pip --python .cache/sbom/bin/python install --quiet -r requirements.txt -c constraints.txt
	$(BIN)/cyclonedx-py environment --output-reproducible --of JSON -o dist/caravan.cdx.json .cache/sbom/bin/python

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .cache
