# All targets but gpu-check run in .venv, which they create or update first.

STAMP := .venv/.installed
TEST_WORKERS ?= 2

.PHONY: help demo test fuzz lint docs bench gpu-check clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       detect with the bundled model, then train one on rendered videos; VIDEO=file.mp4 adds yours"
	@echo "make test       run all tests"
	@echo "make fuzz       feed ten times as many mutated files to every reader as the tests do; 5 minutes"
	@echo "make lint       check style, types and import directions"
	@echo "make docs       build the documentation site in build/site"
	@echo "make bench      measure inference: time per frame, ablation, accuracy; 20 minutes"
	@echo "make gpu-check  on a GPU: run the GPU tests, check speed and accuracy targets; up to 16 minutes"
	@echo "make clean      remove caches, builds and the demo's output (rm -rf .venv removes the environment)"

demo: $(STAMP)
	.venv/bin/python examples/demo.py $(if $(VIDEO),--video "$(VIDEO)")

test: $(STAMP)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n $(TEST_WORKERS) --dist worksteal --durations 10

fuzz: $(STAMP)
	OMP_NUM_THREADS=1 SPARSEVOD_FUZZ_SCALE=10 .venv/bin/python -m pytest -q -n $(TEST_WORKERS) tests/fuzz

lint: $(STAMP)
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

# Always built from scratch, because a cached page would hide its warnings, which are errors.
docs: $(STAMP)
	.venv/bin/python -m sphinx -q -E -W --keep-going -c docs/site . build/site

bench: $(STAMP)
	.venv/bin/python benchmarks/inference.py --out inference.json

# For machines that already have torch: runs from the source folder, without .venv or network.
gpu-check:
	$(or $(PYTHON),python3) benchmarks/gpu_check.py --out benchmarks/results/gpu_check.json

clean:
	rm -rf demo build dist inference.json *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find sparsevod_core sparsevod_cli tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# Uses the first of these that runs, is new enough and can create an environment. A name on the PATH
# may be a version manager's shim that does not run. PYTHON=... overrides the list.
CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)

$(STAMP): pyproject.toml constraints.txt
	@.venv/bin/python -c '' 2>/dev/null || { \
	  for python in $(CANDIDATES); do \
	    "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	      2>/dev/null && break; \
	    python=; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "error: no Python 3.11 or newer with the venv module among: $(CANDIDATES)" >&2; \
	    echo "  hint: on Debian or Ubuntu: apt install python3-venv; or give one: make PYTHON=python3.12 ..." >&2; \
	    exit 1; \
	  fi; \
	  echo "creating .venv with $$("$$python" --version); PyTorch is a large download"; \
	  "$$python" -m venv --clear .venv; \
	}
# Compiling all of PyTorch's Python files would take a fifth of the set-up time; most are never imported.
	.venv/bin/python -m pip install --no-compile -c constraints.txt -e '.[dev,docs]'
# opencv-python links to graphics libraries (libGL, libxcb) that a minimal machine lacks. The headless
# build has the same image functions without them.
	@.venv/bin/python -c 'import cv2' 2>/dev/null || { \
	  .venv/bin/python -m pip uninstall -y opencv-python && \
	  .venv/bin/python -m pip install -c constraints.txt --no-deps --force-reinstall \
	    opencv-python-headless && \
	  .venv/bin/python -c 'import cv2'; \
	}
	@touch $@
