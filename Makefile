# cmg_ref: `make play`, `make generate` and `make test` are all a newcomer needs; `make help` lists the rest.
# Needs Python 3.11 or newer with its venv module, and nothing else: everything is installed into $(VENV).

PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= outputs/walk
ARGS ?= --vx 1.0 --duration 10
PLAY_OUTPUT ?= outputs/play
PLAY_ARGS ?= --shipped --quick --renderer software
DRIVE_ARGS ?=
# Folder of motion clips to make a CMG of, and of what becomes of it.
DATA ?= ../shared/motion
CMG_OUTPUT ?= runs/cmg
TRAIN_ARGS ?= sim.dt=0.01 control.decimation=2
CHECKED = cmg_ref envs scripts tests setup.py $(wildcard configs)

# What Isaac Gym's users have; any torch from 1.12.1 to 2.4.1 will do.
PYTHON38 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.8*/bin/python) python3.8)
VENV38 ?= .venv-py38
TORCH38 ?= 1.12.1
# mjlab wants an older MuJoCo than the rest.
VENV_MJLAB ?= .venv-mjlab
# The lowest Python that MuJoCo 4 has.
PYTHON_LOWEST ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.11*/bin/python) python3.11)
VENV_LOWEST ?= .venv-lowest

BIN = $(VENV)/bin
# Rewritten when the packages or their versions change; then, and only then, the next `make` installs again.
STAMP = $(VENV)/.installed
# Several small processes are faster than one that spreads over all cores.
TEST_ENV = OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help install generate play drive train train-cmg picture test test-fast lint types unit fuzz kill-test soak test-py38 test-mjlab test-lowest clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  PYTHON=$(PYTHON)  VENV=$(VENV)  OUTPUT=$(OUTPUT)  ARGS='$(ARGS)'   can be set on the command line, e.g."
	@echo "  make generate ARGS='--vx 0.6 --wz 0.5 --duration 20' OUTPUT=outputs/curve"

install: $(STAMP) ## Install the package and its tools into VENV

$(STAMP): setup.py pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: no '$(PYTHON)' here: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: $(PYTHON) is Python %d.%d: 3.11 or newer is needed; name another: make PYTHON=/path/to/python3" % sys.version_info[:2])'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make a virtual environment: install its venv module (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fast,mujoco,viz,train,export,serve,drive,dev]'
	@touch $@

generate: $(STAMP) ## Turn a velocity command into a motion, a plot and a video (ARGS, OUTPUT)
	$(BIN)/python scripts/generate.py $(ARGS) --output $(OUTPUT)

play: $(STAMP) ## Watch the shipped policy walk: a table, a plot and a video in PLAY_OUTPUT (PLAY_ARGS)
	$(BIN)/python scripts/play.py --task g1_cmg --output $(PLAY_OUTPUT) $(PLAY_ARGS)

drive: $(STAMP) ## Steer the shipped policy from the browser, with sliders and keys (DRIVE_ARGS)
	$(BIN)/cmg-drive $(DRIVE_ARGS)

train: $(STAMP) ## Train a policy from nothing into logs (TRAIN_ARGS); goes on with TRAIN_ARGS=--resume
	$(BIN)/python scripts/train.py --task g1_cmg $(TRAIN_ARGS)

train-cmg: $(CMG_OUTPUT)/dataset.safetensors ## Make a CMG from nothing of the clips in DATA, in CMG_OUTPUT (hours); again to go on (CMG_ARGS)
	$(BIN)/python scripts/train_cmg.py $< --run-dir $(CMG_OUTPUT) --resume $(CMG_ARGS)

$(CMG_OUTPUT)/dataset.safetensors: | $(STAMP)
	$(BIN)/python scripts/prepare_data.py $(DATA) --channels base_height --lowered 2 --output $@

picture: $(STAMP) ## Draw the README's picture with the checkpoint as it is now
	$(BIN)/python scripts/generate.py --schedule docs/motion.json --duration 7 --no-plot --no-video \
		--output outputs/picture --strip docs/motion.png

test: lint types unit ## Install, then run linters, type checker and tests

lint: $(STAMP) ## Check style
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

types: $(STAMP) ## Check types
	$(BIN)/mypy

unit: $(STAMP) ## Run the tests
	$(TEST_ENV) $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

test-fast: $(STAMP) ## Run the tests that take no time: less than two minutes on two cores
	$(TEST_ENV) $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal -m 'not slow and not external'

kill-test: $(STAMP) ## Kill the scripts that write a hundred times, start them again: nothing may be lost (minutes)
	$(TEST_ENV) $(BIN)/python tests/campaigns/kills.py --kills 100

fuzz: $(STAMP) ## Feed damaged input to all that is read, 30,000 inputs on two cores (FUZZ_ARGS)
	$(BIN)/python tests/campaigns/fuzz.py $(FUZZ_ARGS)

test-py38: $(VENV38)/.installed ## Run the tests of the library and the TWIST mixin under Python 3.8 (PYTHON38, VENV38, TORCH38)
	$(TEST_ENV) $(VENV38)/bin/python -m pytest tests/cmg_ref tests/envs/hosts/test_twist_mimic.py

$(VENV38)/.installed: setup.py
	@$(PYTHON38) -c 'import sys; sys.version_info[:2] == (3, 8) or sys.exit(1)' || { echo "error: '$(PYTHON38)' is no Python 3.8: name one: make test-py38 PYTHON38=/path/to/python3.8"; exit 1; }
	$(PYTHON38) -m venv $(VENV38)
	$(VENV38)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torch==$(TORCH38)
	$(VENV38)/bin/python -m pip install --quiet --disable-pip-version-check typing_extensions numpy==1.23.5 safetensors tqdm pytest
	@touch $@

test-mjlab: $(VENV_MJLAB)/.installed ## Run the tests of the tasks in mjlab; its kernels compile for minutes once (VENV_MJLAB)
	$(TEST_ENV) $(VENV_MJLAB)/bin/python -m pytest tests/envs/hosts/mjlab

$(VENV_MJLAB)/.installed: setup.py constraints-mjlab.txt
	$(PYTHON) -m venv $(VENV_MJLAB)
	$(VENV_MJLAB)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-mjlab.txt --editable '.[fast,mjlab]' pytest
	@touch $@

# What the versions of packages can break: files, networks, Numba loops, physics, training, pictures.
LOWEST_TESTS = tests/cmg_ref/network/test_checkpoint.py tests/cmg_ref/test_generator.py tests/cmg_ref/rollout/test_numba_step.py \
	tests/cmg_ref/clips/formats/test_readers.py  tests/cmg_ref/drawing/test_plots.py \
	tests/envs/base/test_numba_loops.py tests/envs/tasks/test_reference_follower.py tests/envs/learning/test_policy.py tests/envs/learning/test_rsl_rl_runner.py \
	tests/envs/playing/test_video.py tests/envs/mujoco_gym tests/scripts/test_generate.py tests/scripts/test_play.py

test-lowest: $(VENV_LOWEST)/.installed ## Run tests with the lowest versions of all packages (PYTHON_LOWEST, VENV_LOWEST)
	$(TEST_ENV) $(VENV_LOWEST)/bin/python -m pytest $(LOWEST_TESTS)

$(VENV_LOWEST)/.installed: setup.py constraints-lowest.txt
	@$(PYTHON_LOWEST) -c 'import sys; sys.version_info[:2] == (3, 11) or sys.exit(1)' || { echo "error: '$(PYTHON_LOWEST)' is no Python 3.11: name one: make test-lowest PYTHON_LOWEST=/path/to/python3.11"; exit 1; }
	$(PYTHON_LOWEST) -m venv $(VENV_LOWEST)
	$(VENV_LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt --editable '.[fast,mujoco,viz,train,serve,drive]' pytest setuptools
	@touch $@

soak: $(STAMP) ## Run generators for 100,000 steps in each mode and watch their memory
	$(TEST_ENV) $(BIN)/python tests/campaigns/soak.py

clean: ## Remove what the tools left behind (keeps VENV and outputs)
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find cmg_ref envs scripts tests $(wildcard configs) -name __pycache__ -type d -prune -exec rm -rf {} +
