PYTHON ?= python3
BIN := .venv/bin
# Without --no-compile, pip would compile all modules of torch and other packages, of which few are imported.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
# Images of containers often forbid to write bytecode. Each of the many processes of the tests would compile torch again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup locked dist train bench docs tasks test isa rounding slow faults writers clean

# The environment: everything that recipes and tests use, at the versions of constraints.txt.
setup: .venv/ready

.venv/ready: .venv/footplate
	$(INSTALL) --editable '.[dev,detection,docs,export,optimizers,tensorboard,tiles,transformers]'
	@touch $@
	@echo 'ready: source .venv/bin/activate'

# footplate without extras, which is all that fashion-seg needs.
.venv/footplate: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) --upgrade pip
	$(INSTALL) --editable .
	@touch $@

# Everything that `setup` installs, as wheels: each file is compared with its digest, and what has no wheel is built with
# what .release contains.
.release/wheels: .github/requirements/check.txt .release/ready
	.release/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --require-hashes --wheel-dir $@ -r $<

# The same environment as the workflows install it.
locked: .release/wheels
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --no-index $</*.whl
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
	@touch .venv/footplate .venv/ready

# What a release uploads, in dist/: source archives, and the wheels built from them.
dist: .release/ready
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) .release/bin/python -m build --no-isolation --outdir dist .
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) .release/bin/python -m build --no-isolation --outdir dist operators
	.release/bin/twine check --strict dist/*

.release/ready: .github/requirements/release.txt
	$(PYTHON) -m venv .release
	.release/bin/python -m pip install --quiet --no-compile --no-deps --require-hashes -r $<
	@touch $@

# Trains the recipe fashion-seg and prints where checkpoint, curves and pictures lie.
train: .venv/footplate
	$(BIN)/footplate train fashion-seg

# Trains every recipe at full length and prints a table: figure, bar, time, where the pictures lie.
tasks: setup
	$(BIN)/python -m benchmarks tasks

# footplate beside plain PyTorch and other engines, each in an environment of its own; writes docs/performance.md.
bench: setup
	$(BIN)/python -m benchmarks engines --budget 60

# Formatting, lint, types, layers, tests.
test: setup
	BIN=$(BIN) sh scripts/check.sh

# The tests under each instruction set of oneDNN, with one and two threads; a table. TESTS=tests/footplate/models for a part.
isa: setup
	BIN=$(BIN) sh scripts/isa.sh $(TESTS)

# Both suites, with results of matrix products and convolutions that depend on shapes (tests/rounding/sitecustomize.py).
rounding: setup
	ROUND_BY_SHAPE=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup -m '' --timeout 1800 $(TESTS)

# The pages of docs/ in both languages, into site/; a warning is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The suites that take longer.
slow: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup -m slow --timeout 1800

# Runs killed and stopped at random instants, compared with runs left alone; goes on where it stopped.
faults: setup
	$(BIN)/python -m tests.faults

# Every writer against its real library, each in an environment of its own below .writers/.
writers: setup
	$(BIN)/python scripts/writers.py

clean:
	rm -rf .venv .release .faults .isa .matrix .writers dist site work_dirs .mypy_cache .ruff_cache .pytest_cache
