# make demo: fresh machine to a finished comparison of real networks with their infinite-width limits.
# make test: fresh machine to every test. PYTHON=python3.12 chooses the interpreter, and with it the pinned list.
# make test-data: the tests that read real CIFAR-10 and MNIST, which MUPJAX_DATA must lead to; `make test` skips them
# where it does not.
PYTHON ?= python3
VENV ?= .venv
VERSION := $(shell $(PYTHON) -c 'import sys; print("3%d" % sys.version_info.minor)')
PINS := $(wildcard requirements/py$(VERSION)-*.txt)
BIN := $(VENV)/bin
# Compilation is two thirds of the tests: three times as fast this way, for programs that run for milliseconds.
# pytest by itself compiles as users do.
XLA_COMPILES_QUICKLY := --xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 \
    --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters

.PHONY: demo test test-data lint install bench-main bench-limits bench-sweeps bench-rich bench-integrable bench-edge bench-device study-main study-limits study-sweeps study-rich study-integrable study-edge study-power clean

demo: install
	$(BIN)/mupjax compare --out results/demo

PYTEST = XLA_FLAGS="$(XLA_COMPILES_QUICKLY) $$XLA_FLAGS" OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

test: install lint
	$(PYTEST)

test-data: install
	@test -d "$$MUPJAX_DATA/cifar-10-batches-bin" -o -d "$$MUPJAX_DATA/mnist" || \
	    { echo "Expected MUPJAX_DATA to hold cifar-10-batches-bin or mnist, got '$$MUPJAX_DATA'."; exit 2; }
	$(PYTEST) -m data

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

install: $(VENV)/.installed-$(VERSION)

$(VENV)/.installed-$(VERSION): pyproject.toml $(PINS)
	@test -n "$(PINS)" || { echo "No pinned list for this Python (found $(VERSION)): use PYTHON=python3.11 or python3.12."; exit 2; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps -r $(PINS)
	$(BIN)/python -m compileall -qq -j 2 $(VENV)/lib || true # by pip it takes twice as long; some files are templates
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Benchmarks have an environment of their own: PyTorch and the package mup stand beside mupjax in the same run.
bench-main: $(VENV)-bench/.installed
	$(VENV)-bench/bin/python benchmarks/import_time.py
	$(VENV)-bench/bin/python benchmarks/dense.py

bench-limits: install
	$(BIN)/python benchmarks/limit.py

bench-sweeps: $(VENV)-bench/.installed
	$(VENV)-bench/bin/python benchmarks/sweep.py

# On a machine with an accelerator, where nothing may be fetched: any Python that has JAX (see benchmarks/device.py).
bench-device:
	$(PYTHON) benchmarks/device.py

$(VENV)-bench/.installed: pyproject.toml $(PINS) requirements/bench.txt
	rm -rf $(VENV)-bench
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(PINS)
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/bench.txt
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

bench-rich: install
	$(BIN)/python benchmarks/rich_features.py

bench-integrable: install
	$(BIN)/python benchmarks/integrable.py

bench-edge: install
	$(BIN)/python benchmarks/edge.py

study-main: install
	$(BIN)/python studies/main.py

study-limits: install
	$(BIN)/python studies/limits.py

study-sweeps: install
	$(BIN)/python studies/sweeps.py

study-rich: install
	$(BIN)/python studies/rich_features.py

study-integrable: install
	$(BIN)/python studies/integrable.py

study-power: install
	$(BIN)/python studies/power.py

study-edge: install
	$(BIN)/python studies/edge.py

clean:
	rm -rf $(VENV) $(VENV)-bench results
