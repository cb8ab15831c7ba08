# The two commands to know:
#
#   make demo     see it work
#   make test     run all tests
#
# and: make check (lint, types, C warnings), make bench, make clean. They need a Python with venv,
# a C compiler and make; everything else goes into a virtual environment of its own, one for each
# Python: make test PYTHON=python3.13
#
# relib is installed there as users get it, not linked to the checkout ("editable"): what the tests
# run is then what a wheel has, files that were forgotten in it included. It is installed again
# whenever a source changes.

PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ifeq ($(VERSION),)
$(error $(PYTHON) does not run; install Python 3.11 or newer, or name one: make PYTHON=python3.12)
endif

VENV := .venv-$(VERSION)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# with the directories: a source that is only deleted changes nothing else
SOURCES := setup.py pyproject.toml \
	$(shell find relib csrc -not -name '*.so' -not -path '*/__pycache__*')

# What pytest is to do besides: make test TESTS=tests/test_cli.py, make test PYTEST='-k demo -x'
TESTS ?= tests
PYTEST ?= -n auto --dist worksteal
# What to measure: make bench BENCH='save-to-answer --only small'. By default all but what needs a
# source of yours: many minutes. %%cython is measured if IPython is installed into $(VENV), the
# instant tier with tcc if that is installed.
BENCH ?=

.PHONY: demo test check bench clean

demo: $(VENV)/installed
	$(BIN)/relib demo

# -P keeps the checkout's own relib/ off sys.path: what is tested is what is installed.
test: $(VENV)/test-tools $(VENV)/installed
	$(BIN)/python -P -m pytest $(PYTEST) $(TESTS)

check: $(VENV)/check-tools $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict relib
	RELIB__STRICT_C=1 $(BIN)/python setup.py --quiet build_ext --force \
		--build-temp build/strict --build-lib build/strict

bench: $(VENV)/test-tools $(VENV)/installed
	$(BIN)/python -P benchmarks $(BENCH)

clean:
	rm -rf build dist relib.egg-info .venv-* .mypy_cache .ruff_cache .pytest_cache
	find relib tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	find relib -name '*.so' -delete

# Without build isolation, so that the anchors are made for the Cython that is in the environment
# and not for one that pip fetches for the build alone.
$(VENV)/installed: $(VENV)/run-tools $(SOURCES)
	@echo "installing relib into $(VENV)"
	@# what was removed from the sources would otherwise live on there
	@rm -rf build/lib build/lib.* build/bdist.*
	@$(PIP) install --no-build-isolation --force-reinstall --no-deps .
	@touch $@

$(VENV)/run-tools: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "relib needs Python 3.11 or newer, and $(PYTHON) is $(VERSION);" \
		"name another: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || echo "creating $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(call install-requirements,run,'setuptools>=70.1')

$(VENV)/%-tools: $(VENV)/run-tools
	@$(call install-requirements,$*)

# What pyproject.toml lists: the extra of this name or, when there is none, the dependencies.
install-requirements = $(BIN)/python -c '$(REQUIREMENTS)' $(1) >$(VENV)/$(1).txt \
	&& $(PIP) install -r $(VENV)/$(1).txt $(2) && touch $@
REQUIREMENTS := import sys, tomllib; \
	project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*project["optional-dependencies"].get(sys.argv[1], project["dependencies"]), sep="\n")
