# `make book` builds the book, `make test` checks everything. The rest is in `make help`.
# The first run makes .venv from requirements.lock; after that everything works offline.

VENV := .venv
PORT ?= 8000
UV ?= uv

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
PY := $(BIN)/python

# The first fitting Python on PATH; where there is none, uv brings one.
IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
FIRST_CHOICES := python3.11 python3.12 python3.13 python3 python
ifndef PYTHON
PYTHON := $(shell for p in $(FIRST_CHOICES); do \
	$$p -c '$(IN_RANGE)' >/dev/null 2>&1 && echo $$p && break; done)
PYTHON := $(or $(PYTHON),$(if $(shell command -v $(UV)),uv))
endif
# Every Python on PATH with its version, for the error.
VERSIONS = for p in $(FIRST_CHOICES) python3.14 python3.15 python3.10 python3.9; do \
	$$p -c 'import platform; print("'$$p' is", platform.python_version())' 2>/dev/null; done | paste -sd ';' - | sed 's/;/, /g'

# Quiet frameworks, and the same numbers on every processor. Work runs in several processes, so
# one thread for each: OpenBLAS' threads that wait for one another are slower than none.
export OPENBLAS_NUM_THREADS ?= 1
export TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_ENABLE_ONEDNN_OPTS ?= 0
export LSTMBOOK_NUMBA ?= 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

INDEX := _build/html/index.html
CACHE := _build/.jupyter_cache
SPHINX := -W -n --keep-going
TWO := -n 2 --dist loadfile# two files at a time
# Coverage is for CI alone, where two runs add up: it takes half as long again.
COVERAGE := $(if $(CI),--cov --cov-report= --cov-fail-under=0)
CHAPTERS ?= book
TYPES := 2.4# the NumPy whose types mypy reads: each release states them anew
# What a stored run of a chapter rests on: when any of this changes, all chapters run again.
RUN_INPUTS = find lstmbook book -type f ! -path '*/__pycache__/*' ! -name '*.ipynb' ! -name '*.md' \
	! -path 'book/assets/*' ! -path '*/.*' | LC_ALL=C sort

.PHONY: help book serve test quick lint types live chapters oracles extra colab normalise generate bench experiments \
	vectors lock setup clean

help:
	@echo "make book       build the book: every chapter runs, every warning is an error"
	@echo "make serve      show the book at http://localhost:$(PORT) (PORT=... for another)"
	@echo "make test       style, types, spelling, unit, live, browser and notebook tests"
	@echo "make quick      the tests of cells, layouts and readers, without TensorFlow: half a minute"
	@echo "make lint       the fast checks alone: style, types, spelling, notebook form"
	@echo "make live       the tests against the installed frameworks alone"
	@echo "make chapters   the chapters against their stored outputs (CHAPTERS='book/rnn.ipynb' for some)"
	@echo "make oracles    add PyTorch and JAX, for the chapters and tests that compare with them"
	@echo "make extra      the tests that need what make oracles adds, or a browser; none may be skipped"
	@echo "make colab      the chapters with the versions that Colab has, in an environment of its own"
	@echo "make normalise  run all chapters and store their outputs in the one form"
	@echo "make generate   write the compiled loops and the explorer's cells anew, when a page has changed"
	@echo "make bench      speed beside every installed framework (BENCH='--cells lstm' for a part)"
	@echo "make experiments  train every cell on every task, for the chapter on them"
	@echo "make vectors    record from the real TensorFlow 1, and make the golden vectors"
	@echo "make lock       renew requirements.lock from pyproject.toml"
	@echo "make clean      remove what was built (not .venv)"
	@echo "PYTHON=... chooses the interpreter (uv: let uv bring one); now: $(or $(PYTHON),none of 3.11 to 3.13)"

# The stamp holds all that the environment depends on, so a comparison tells if it is current.
setup:
	@if [ "$(PYTHON)" != uv ] && ! "$(or $(PYTHON),false)" -c '$(IN_RANGE)' 2>/dev/null; then \
		echo "error: lstmbook needs Python 3.11, 3.12 or 3.13 (TensorFlow has no later one)$(if $(PYTHON),; $(PYTHON) is none)." >&2; \
		found=`$(VERSIONS)`; echo "Found on PATH: $${found:-no Python}." >&2; \
		echo "The shortest way to one: install uv (pip install uv) and repeat this with PYTHON=uv;" >&2; \
		echo "or name one that you have: make test PYTHON=/path/to/python3.13" >&2; \
		exit 1; \
	fi
	@if [ "`head -n 1 $(VENV)/stamp 2>/dev/null`" != "$(CURDIR) $(PYTHON)" ]; then \
		rm -rf $(VENV); \
		if [ "$(PYTHON)" = uv ]; then \
			found=`$(VERSIONS)`; \
			echo "== set-up: new $(VENV) by uv (Python 3.11 to 3.13 is needed; on PATH: $${found:-no Python})"; \
			$(UV) venv -q --seed --python '>=3.11,<3.14' $(VENV) || exit 1; \
		else \
			echo "== set-up: new $(VENV) with $(PYTHON)"; \
			"$(PYTHON)" -m venv $(VENV) || exit 1; \
		fi; \
	fi
	@{ echo "$(CURDIR) $(PYTHON)"; cat requirements.lock pyproject.toml; } > $(VENV)/wanted
	@if cmp -s $(VENV)/wanted $(VENV)/stamp; then \
		echo "== set-up: $(VENV) is current, skipped"; rm $(VENV)/wanted; \
	else \
		echo "== set-up: installing requirements.lock and lstmbook into $(VENV) (2 GB, a minute or two)"; \
		$(PY) -m pip install -q -r requirements.lock && \
		$(PY) -m pip install -q --no-deps -e . && \
		mv $(VENV)/wanted $(VENV)/stamp; \
	fi

# The execution cache cannot see a change in lstmbook/, so it goes when RUN_INPUTS changed.
# A page read before is not warned of again, so everything is read each time.
book: setup
	@mkdir -p _build
	@{ echo "$(PYTHON)"; $(RUN_INPUTS); $(RUN_INPUTS) | tr '\n' '\0' | xargs -0 cat requirements.lock; } > _build/inputs.now
	@if [ -n "$(CI)" ] || ! cmp -s _build/inputs.now _build/inputs; then \
		echo "== book: chapters run afresh"; rm -rf $(CACHE); \
	else \
		echo "== book: unchanged chapters come from the execution cache"; \
	fi
	@mv _build/inputs.now _build/inputs
	@rm -rf _build/html
	@mkdir -p $(CACHE)
	@JUPYTERCACHE=$(CACHE) $(BIN)/jcache notebook clear --force >/dev/null # a chapter may have gone
	@JUPYTERCACHE=$(CACHE) $(BIN)/jcache notebook add book/*.ipynb >/dev/null
	@echo "== book: running what is not in the cache, as many chapters at once as there are processors"
	@JUPYTERCACHE=$(CACHE) $(BIN)/jcache project execute -e local-parallel -t 120 >_build/run.log 2>&1
	$(BIN)/jupyter-book build book --toc "$(CURDIR)/_toc.yml" --all $(SPHINX)
	@echo "== book: $(CURDIR)/$(INDEX)"

serve:
	@if [ ! -f $(INDEX) ] || find book lstmbook _config.yml _toc.yml -newer $(INDEX) | grep -q .; then \
		$(MAKE) book; \
	fi
	@echo "== serve: http://localhost:$(PORT) (stop with Ctrl-C)"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

lint: setup
	@echo "== lint: ruff check"
	@$(PY) -m ruff check -q .
	@echo "== lint: ruff format"
	@$(PY) -m ruff format -q --check .
	@numpy=`$(PY) -c 'import numpy; print(numpy.__version__)'`; case $$numpy in \
		$(TYPES).*) echo "== lint: mypy, with the types of NumPy $$numpy"; $(PY) -m mypy;; \
		*) echo "== lint: mypy is skipped: types are checked with NumPy $(TYPES), and here is $$numpy";; \
	esac
	@echo "== lint: codespell"
	@$(PY) -m codespell_lib
	@echo "== lint: form of the notebooks"
	@$(PY) tests/normalise.py --check

test: lint
	@echo "== test: unit, live and browser"
	@$(PY) -m pytest $(TWO) --no-loadscope-reorder $(COVERAGE)
	@$(MAKE) -s chapters

quick: setup
	@$(PY) -m pytest -q -n 2 -m "not slow"

live: setup
	@$(PY) -m pytest -q $(TWO) tests/test_live.py tests/test_live_layouts.py

chapters: setup
	@echo "== test: the chapters give their stored outputs"
	@$(PY) -m pytest $(CHAPTERS) --nbval --nbval-current-env --nbval-cell-timeout 120 \
		$(TWO) -W default -p no:cacheprovider

# PyTorch and JAX are large, and so no part of the set-up: what needs them is skipped by name.
oracles: setup
	$(PY) -m pip install -q -c requirements.lock torch==2.13.0 flax dm-haiku

extra: setup
	@LSTMBOOK_REQUIRE_ALL=1 $(PY) -m pytest $(TWO) --no-loadscope-reorder -m extra \
		$(COVERAGE) $(if $(CI),--cov-append)
	@$(MAKE) -s chapters CHAPTERS="`grep -lE 'torch|flax|haiku' book/*.ipynb | tr '\n' ' '`"
	@$(if $(CI),$(PY) -m coverage report)

colab:
	@python3 tests/colab.py

normalise: setup
	@$(PY) tests/normalise.py --execute

generate: setup
	@$(PY) -m lstmbook.running.generate
	@$(PY) book/_ext/explorer_cells.py

bench: setup
	@$(PY) benchmarks/waits.py
	@$(PY) benchmarks/streaming.py
	@$(PY) benchmarks/detecting.py
	@$(PY) benchmarks/training_step.py
	@$(PY) benchmarks/speed.py $(BENCH)

experiments: setup
	@$(PY) -m lstmbook.training.experiments

vectors: setup
	@bash tests/tf1/make.sh
	@$(PY) tests/vectors/make.py

lock: setup
	$(UV) pip compile -q --upgrade --universal --python-version 3.11 --no-annotate \
		--custom-compile-command "make lock" --extra tf --extra onnx --extra fast --extra files --extra book --extra test \
		pyproject.toml -o requirements.lock

clean:
	rm -rf _build .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
