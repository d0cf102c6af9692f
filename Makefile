# Two commands do all: `make demo` and `make test`. Each makes the virtual environment when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check fuzz bench clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/fedward demo $(ARGS)

# First what needs no federation, in a process of one thread a core; then the federations, one at a time. pytest ends with
# 5 where it found no test: one of both may.
test: $(READY)
	@plain=0; federated=0; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not federation" $(ARGS) || plain=$$?; \
	case $$plain in 0|5) ;; *) exit $$plain ;; esac; \
	$(BIN)/python -m pytest -m federation $(ARGS) || federated=$$?; \
	case $$plain-$$federated in 0-0|0-5|5-0) ;; *) exit $$federated ;; esac

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/leaks.py
	$(BIN)/python .ci/dependencies.py

fuzz: $(READY)
	$(BIN)/python tests/fuzz/long.py $(ARGS)

bench: $(READY)
	mkdir -p bench-results
	for name in hippocampus sts networks real_shapes throughput engine exchange collapse privacy; do \
	  $(BIN)/python tests/bench/$$name.py --json bench-results/$$name.json || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache bench-results
