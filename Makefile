# Everything runs in .venv, which the first target makes.

STAMP := .venv/.installed
TEST_WORKERS ?= 2

.PHONY: help demo test lint bench gpu-check clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    boxes at once, then a model of your own, on rendered videos; VIDEO=file.mp4 adds yours"
	@echo "make test    the whole test suite"
	@echo "make bench   seconds a frame, what makes it so, and how exact it stays; 20 minutes"
	@echo "make gpu-check  with a GPU: tests there, speed and exactness against what is asked; 4 minutes"
	@echo "make lint    style, types and import directions"
	@echo "make clean   remove caches and the demo's output (rm -rf .venv removes the environment)"

demo: $(STAMP)
	.venv/bin/python examples/demo.py $(if $(VIDEO),--video "$(VIDEO)")

test: $(STAMP)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n $(TEST_WORKERS) --dist worksteal --durations 10

lint: $(STAMP)
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: $(STAMP)
	.venv/bin/python benchmarks/inference.py --out inference.json

# For machines that have torch already, from a source folder: no environment, no network.
gpu-check:
	$(or $(PYTHON),python3) benchmarks/gpu_check.py --out benchmarks/results/gpu_check.json

clean:
	rm -rf demo build dist inference.json *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find sparsevod_core sparsevod_cli tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# The first of these that runs, is new enough and can make an environment; a name on the PATH may be
# a version manager's shim that does not run. PYTHON=... names one.
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
	    echo "  hint: on Debian or Ubuntu: apt install python3-venv; or name one: make PYTHON=python3.12 ..." >&2; \
	    exit 1; \
	  fi; \
	  echo "making .venv with $$("$$python" --version); PyTorch is a large download"; \
	  "$$python" -m venv --clear .venv; \
	}
# Compiling all of PyTorch's Python files would take a fifth of the set-up; most are never imported.
	.venv/bin/python -m pip install --no-compile -c constraints.txt -e '.[dev]'
# opencv-python links to graphics libraries (libGL, libxcb) that a bare machine lacks; the headless
# build has the image functions used here without them.
	@.venv/bin/python -c 'import cv2' 2>/dev/null || { \
	  .venv/bin/python -m pip uninstall -y opencv-python && \
	  .venv/bin/python -m pip install -c constraints.txt --no-deps --force-reinstall \
	    opencv-python-headless && \
	  .venv/bin/python -c 'import cv2'; \
	}
	@touch $@
