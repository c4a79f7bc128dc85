# The two commands: `make demo` and `make test`. Each does all its set-up first.
PYTHON ?= python3
BIN := .venv/bin

RUN_PACKAGES := python3-venv bubblewrap nxagent nxproxy xinit openbox xterm xfonts-base
TEST_PACKAGES := $(RUN_PACKAGES) xvfb x11-apps x11-utils xdotool busybox-static haproxy

.PHONY: demo test lint types bench clean
.DELETE_ON_ERROR:

demo: .venv/.core
	@sh tools/need-packages.sh $(RUN_PACKAGES)
	@exec $(BIN)/qvd-demo

test: .venv/.test
	@sh tools/need-packages.sh $(TEST_PACKAGES)
	$(BIN)/python -m pytest

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.test
	$(BIN)/mypy

bench: .venv/.test
	@sh tools/need-packages.sh $(TEST_PACKAGES)
	$(BIN)/python -m bench

# Packages are looked for at each start too: they may have been removed since the environment was made.
.venv/.core: setup.cfg pyproject.toml
	@sh tools/need-packages.sh $(RUN_PACKAGES)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing QVD and its Python libraries into .venv"
	@$(BIN)/python -m pip install -q -e '.[demo]' --config-settings editable_mode=compat
	@touch $@

.venv/.test: .venv/.core
	@echo "Installing the test tools into .venv"
	@$(BIN)/python -m pip install -q -e '.[test]' --config-settings editable_mode=compat
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
