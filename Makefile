# `make test` runs everything that has to hold; each step can be run alone.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

VENV := $(CURDIR)/.venv
PYTHON := $(VENV)/bin/python
# What the Python package and its tests need, by name.
PYTHON_PACKAGES := "maturin>=1.9,<2" "gymnasium>=1.1,<2" "numpy>=2,<3" "pytest>=8,<10" "mypy>=1.10" "rerun-sdk==0.36.3"

.PHONY: build test format lint rust docs python python-build clean

## build: the binary, target/release/telic
build:
	cargo build --release

## test: format, Rust tests, lints, docs, Python
test: format rust lint docs python
	@echo "make test: all steps passed"

format:
	cargo fmt --all --check

# With the viewer of the Python packages: its checker looks at recordings.
rust: $(VENV)/.packages
	PATH="$(VENV)/bin:$$PATH" cargo test --release --workspace

lint:
	cargo clippy --release --workspace --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

## python: builds the wheel, installs it into .venv and runs pytest
python: python-build
	$(PYTHON) -m pytest -q python/tests

python-build: $(VENV)/.packages
	rm -f python/dist/*.whl
	cd python && PATH="$(VENV)/bin:$$PATH" maturin build --release --locked --out dist --interpreter $(PYTHON)
	$(PYTHON) -m pip install --quiet --force-reinstall --no-deps python/dist/*.whl

$(VENV)/.packages: Makefile
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet $(PYTHON_PACKAGES)
	touch $@

clean:
	rm -rf target $(VENV) python/dist
