# eegloop: `make run` starts everything on virtual hardware; `make test` tests everything. Needs Python 3.11+, git and make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data
UI := $(shell find dashboard -type f -not -path '*/node_modules/*' 2>/dev/null)
PACKAGES := eegloop drivers dsp control interlock daemon records simulators

# Byte code is made at installation (--compile-bytecode): a start without it compiles for seconds, and where
# PYTHONDONTWRITEBYTECODE is set it would do so every time.
PEERS := .venv-peers
CLIENTS := .venv-clients
FUZZ := .venv-fuzz
SECONDS ?= 10

# Of what decides about stimulation every branch is taken by tests that need no process, device or data.
COVERED := control interlock eegloop.single eegloop.kept eegloop.real_time
COVERING := tests/unit/test_control_* tests/unit/test_interlock_* tests/unit/test_daemon_answers* tests/unit/test_eegloop_kept.py tests/unit/test_sign_command.py \
  tests/unit/test_line_phase_locked.py tests/unit/test_wording.py tests/property/test_control_* tests/property/test_interlock_* tests/contract/test_controllers.py

.PHONY: help run setup study-compiled test lint clients fuzz bench bench-peers test-long faults sabotage mutation coverage lock clean system-parts

help:
	@echo "make run        start the service on a virtual person and open its page"
	@echo "make test       set up what tests need and run them"
	@echo "make setup      install into $(VENV) only"
	@echo "make study-compiled  compile what a study's sessions run through, for eegloop study only (needs a C compiler)"
	@echo "make lint       ruff, mypy --strict, import-linter"
	@echo "make bench      speed and accuracy tables"
	@echo "make bench-peers  the same work in public packages, each in an environment of its own"
	@echo "make clients    public clients of the stimulators (make test does it too), in an environment of their own"
	@echo "make fuzz       arbitrary bytes, guided by coverage, into every parser of device bytes: make fuzz SECONDS=60"
	@echo "make sabotage   disables each safety control in a copy and sees its test turn red;  make mutation: mutants of the safety logic"
	@echo "make coverage   every branch of control/ and interlock/, or it fails"
	@echo "make test-long  whole recordings and soaks;  make faults: each fault 20 times"

$(VENV)/.uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "eegloop needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 run")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.run: $(VENV)/.uv requirements/run.txt
	@echo "Installing what eegloop needs into $(VENV) ..."
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/run.txt 2> $(VENV)/install.log \
	  || $(BIN)/python -m pip install --quiet --require-hashes -r requirements/run.txt || { cat $(VENV)/install.log; exit 1; }
	@touch $@

$(VENV)/.app: $(VENV)/.run pyproject.toml hatch_build.py requirements/build.txt $(UI)
	@echo "Building the page and installing eegloop itself ..."
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --build-constraints requirements/build.txt -e . 2> $(VENV)/install.log \
	  || { cat $(VENV)/install.log; exit 1; }
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m compileall -q $(PACKAGES)
	@touch $@

$(VENV)/.dev: $(VENV)/.app requirements/dev.txt
	@echo "Installing what the tests need ..."
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt 2> $(VENV)/install.log \
	  || $(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt || { cat $(VENV)/install.log; exit 1; }
	@touch $@

setup: $(VENV)/.app

run: $(VENV)/.app
	@exec $(BIN)/eegloop demo --data $(DATA)

# Programs the tests talk to for real: an MQTT broker and a browser. By apt when root; otherwise say what is missing.
system-parts:
	@missing=""; \
	for part in mosquitto:mosquitto chromium:chromium ip:iproute2 certutil:libnss3-tools; do \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v $${part%%:*} > /dev/null || missing="$$missing $${part##*:}"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	    echo "Installing$$missing with apt ..."; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=500 install -qq -y --no-install-recommends $$missing fonts-dejavu-core; } > $(VENV)/apt.log 2>&1 \
	      || { tail -5 $(VENV)/apt.log; echo "could not install$$missing; the tests that need them will skip and say so"; }; \
	  else echo "Missing on this machine:$$missing. Tests that need them will skip. To have them: sudo apt-get install$$missing"; fi; fi

# Public clients that the tests run against our emulators, unmodified: some are GPL, so they live apart and nothing of ours imports
# them. Without a package index the tests that need them skip and say so; the next run tries again.
$(CLIENTS)/.installed: requirements/clients.txt requirements/clients-nodeps.txt | $(VENV)/.uv
	@mkdir -p $(CLIENTS)
	@echo "Installing public clients for the tests into $(CLIENTS) ..."
	@{ $(BIN)/uv venv -q --clear --python $(BIN)/python $(CLIENTS) && \
	  for file in clients clients-nodeps; do deps=$$([ $$file = clients ] || echo --no-deps); \
	    UV_HTTP_TIMEOUT=20 $(BIN)/uv pip install -q --python $(CLIENTS)/bin/python $$deps --require-hashes -r requirements/$$file.txt \
	    || $(BIN)/python -m pip --python $(CLIENTS)/bin/python install -q --retries 1 $$deps --require-hashes -r requirements/$$file.txt \
	    || exit 1; done && touch $@; } > $(VENV)/clients.log 2>&1 \
	  || echo "could not install them (see $(VENV)/clients.log); the tests that need them will skip and say so"

clients: $(CLIENTS)/.installed

$(FUZZ)/.installed: requirements/fuzz.txt | $(VENV)/.uv
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(FUZZ)
	@$(BIN)/uv pip install -q --python $(FUZZ)/bin/python --require-hashes -r requirements/fuzz.txt
	@touch $@

fuzz: $(FUZZ)/.installed
	@$(FUZZ)/bin/python -m tests.fuzz.parsers --seconds $(SECONDS)

# Byte code of the tests with pytest's own asserts in it, made once by two processes: else each of the four would make all of it for
# itself, 13 s of a core, before its first test. What fails here fails, and is told, in the run itself.
$(VENV)/.tests: export PYTHONDONTWRITEBYTECODE = # an empty one is none
$(VENV)/.tests: $(VENV)/.dev $(shell find tests -name '*.py')
	@for half in "tests/unit/test_[a-h]*.py tests/property tests/contract tests/browser" "tests/unit/test_[i-z]*.py tests/fault tests/integration tests/scenario"; do \
	  $(BIN)/python -m pytest --collect-only -q $$half > /dev/null 2>&1 & done; wait
	@touch $@

# Four at a time on two cores, because most of it waits for devices and processes; the long ones (tests/fault, tests/integration)
# come first. Two runs: Playwright keeps an event loop going in its process, which tests of our own loops must not meet.
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.tests system-parts $(CLIENTS)/.installed
	@status=0; \
	$(BIN)/python -m pytest tests --ignore tests/browser -n 4 --dist loadfile --no-loadscope-reorder -m "not long and not faults" --durations=15 || status=$$?; \
	$(BIN)/python -m pytest tests/browser -n 2 --dist loadfile -m "not long and not faults" --durations=5 || status=$$?; \
	exit $$status

# For virtual time only: the service and the interlock never run compiled code of ours.
study-compiled: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.compile_study

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.dev
	@$(BIN)/eegloop bench

# Public packages that do the same work. They ask for other versions than ours, and one of them for an older NumPy than the rest.
$(PEERS)/.installed: benchmarks/peers-main.txt benchmarks/peers-timeflux.txt | $(VENV)/.uv
	@mkdir -p $(PEERS)
	@for env in main timeflux; do \
	  $(BIN)/uv venv -q --clear --python $(BIN)/python $(PEERS)/$$env && \
	  $(BIN)/uv pip install -q --python $(PEERS)/$$env/bin/python -r benchmarks/peers-$$env.txt || echo "could not install benchmarks/peers-$$env.txt; its rows will say so"; done
	@touch $@

bench-peers: $(VENV)/.dev $(PEERS)/.installed
	@$(BIN)/python -m benchmarks.peers --envs $(PEERS)

test-long: $(VENV)/.dev system-parts $(CLIENTS)/.installed
	@$(BIN)/python -m pytest -m "long" --timeout=1800 --durations=15

faults: $(VENV)/.dev system-parts
	@$(BIN)/python -m pytest -m "faults" --timeout=1800 -s

sabotage: $(VENV)/.dev
	@$(BIN)/python -m tests.sabotage.run

coverage: $(VENV)/.dev
	@$(BIN)/python -m pytest -q -m "not long and not faults" $(addprefix --cov=,$(COVERED)) --cov-branch --cov-fail-under=100 \
	  --cov-report=term-missing:skip-covered $(COVERING)

mutation: $(VENV)/.dev
	@$(BIN)/python -m tests.mutation.run

lock: $(VENV)/.uv
	@cd requirements && for n in run dev build uv fuzz; do ../$(BIN)/uv pip compile -q --generate-hashes --universal --python-version 3.11 --no-header $$n.in -o $$n.txt; done
	@cd requirements && for n in clients clients-nodeps; do ../$(BIN)/uv pip compile -q $$([ $$n = clients ] || echo --no-deps) --generate-hashes --universal --python-version 3.11 --no-header $$n.in -o $$n.txt; done

clean:
	@rm -rf $(VENV) $(PEERS) $(CLIENTS) $(FUZZ) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dashboard/node_modules daemon/web/static
