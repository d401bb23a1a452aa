# Two commands for a newcomer: `make demo` shows what tinct does, `make test` checks it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test docs clean

demo: .venv/all
	$(BIN)/tinct demo --out demo

test: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist worksteal --durations=40

docs: .venv/docs
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

.venv/%: pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv demo
