# Everything starts here: `make repro`, `make plan`, `make test`, `make docs`, `make campaign`,
# `make lab`, `make clean`. Each but the last sets up .venv when needed; nothing has to be installed or activated
# before, but Python 3.11 or newer and git.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help repro plan test docs campaign lab clean

PYTHON ?= python3
READY := .venv/ready
# DVC starts `python` from PATH: with .venv first, nobody needs to activate it.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONNOUSERSITE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:
	@echo "make repro          environment, data, every stage; then open results/index.html"
	@echo "make repro STUDY=x  the same for studies/x.yaml (default, smoke, paper-jafr, ...)"
	@echo "make plan           what that will cost: passes, time, memory, disk; also with STUDY=x,"
	@echo "                    on a GPU with GPU=A100 or GPU=name:TFLOPs, on several with WORKERS=8"
	@echo "make test           the quick tests, and every notebook at smoke size; all with ALL=1"
	@echo "make docs           the documentation as a site, in .build/docs; needs no network"
	@echo "make campaign       an hour of kills, full disks and hostile input; 10 minutes with QUICK=1"
	@echo "make lab            JupyterLab on the notebooks"
	@echo "make clean          free what can be made again; with ALL=1 also .venv and downloads"

# The stamp comes last, so an interrupted installation is taken up again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	  f"Python 3.11 or newer is needed; $(PYTHON) is {v[0]}.{v[1]}. Try: make PYTHON=python3.11 ...")'
	@echo "Setting up .venv: a few minutes, once."
	@rm -f $(READY)
	@$(PYTHON) -m venv .venv
	@python -m pip install -q -c constraints.txt \
	  -e '.[notebooks,dvc,corruptions,attribution,engine,wavelets,cluster,lab,docs,dev]'
	@# On its own and without its dependencies: its pins cannot be met beside JupyterLab 4.
	@python -m pip install --no-deps torchattacks==3.5.1 -q
	@touch $(READY)

# A stage that fails, such as the download from a server that is gone, stops only what depends on it.
# DVC would then also go on after Ctrl-C, which to it is a stage that failed: so it runs in a process
# group of its own (set -m), which ends as a whole: when the shell gets a signal, when DVC
# dies of one, and when a watch sees that make or the shell is gone or that make has got a signal,
# which it no longer catches then (make itself only waits).
repro: $(READY)
	@if [ -n "$(STUDY)" ]; then python -m iaside.study.run --use "$(STUDY)"; fi
	@python data/fetch.py --check params.yaml
	@group=; caught() { grep -s -e SigCgt -e zombie /proc/$$PPID/status || ps -o pid= -p $$PPID; }; \
	before=$$(caught) || exit 130; \
	there() { kill -0 -- "-$$group"; }; \
	end() { \
	  kill -- "-$$group"; for k in {1..100}; do there || return 0; sleep 0.1; done; \
	  kill -9 -- "-$$group" || true; \
	} 2>/dev/null; \
	watch() { \
	  while there && [ "$$(caught)" = "$$before" ] && kill -0 $$$$; do sleep 1; done; \
	  end; \
	} </dev/null &>/dev/null; \
	grouped() { \
	  set -m; python -m "$$@" & group=$$!; set +m; watch & wait $$group && return || code=$$?; \
	  [ $$code -lt 128 ] || { end; exit 130; }; return $$code; \
	}; \
	trap '[ -z "$$group" ] || end; exit 130' INT TERM HUP; \
	grouped iaside.study.repro || { echo "Some stages failed (see above); what does not depend on them is made," \
	  "in results/. Mend the cause and run make repro again: only what is missing is run." >&2; exit 1; }
	@echo "Open results/index.html in a browser."

plan: $(READY)
	@python -m iaside.study.plan "$(STUDY)" $(if $(GPU),--gpu "$(GPU)") $(if $(WORKERS),--workers "$(WORKERS)")

test: $(READY)
	@# Two processes, and no threads to get in their way.
	@OMP_NUM_THREADS=1 python -m pytest -q -n 2 $(if $(ALL),,-m "not slow or smoke")

docs: $(READY)
	@python -m sphinx -q -W -b html docs .build/docs
	@echo "Open .build/docs/index.html in a browser."

campaign: $(READY)
	@OMP_NUM_THREADS=1 python tests/campaigns/campaign.py $(if $(QUICK),--quick) $(if $(SEED),--seed $(SEED))

lab: $(READY)
	@python -m jupyterlab

# Downloads are what data/sources.yaml lists, so one's own files in data/ are never touched.
DOWNLOADS = $(shell grep -oE '(weights|images)/[A-Za-z0-9_./-]+' data/sources.yaml | sed 's|^|data/|')
FREED = .build .partial .dvc/cache .dvc/tmp $(if $(ALL),.venv $(DOWNLOADS))

# Kept: whatever git holds, the small numbers of reports, and results/recorded.
clean:
	@made=$$(find results -type f ! -path 'results/recorded/*' ! -name .gitignore \
	    ! -name '*metrics.json' ! -name claims.json 2>/dev/null \
	  | grep -vxF -f <(git ls-files results 2>/dev/null; echo results) || true); \
	total() { du -csh --files0-from=- 2>/dev/null | tail -n 1 | cut -f 1; }; \
	if [ -n "$$made" ]; then \
	  echo "freed $$(tr '\n' '\0' <<< "$$made" | total) in results/ ($$(wc -l <<< "$$made") files)"; \
	  tr '\n' '\0' <<< "$$made" | xargs -0 rm -f; \
	  find results -mindepth 1 -type d -empty -delete; \
	fi; \
	for path in $(FREED); do \
	  if [ -e "$$path" ]; then echo "freed $$(du -sh "$$path" | cut -f 1) in $$path"; rm -rf "$$path"; fi; \
	done; \
	echo "Kept: what git holds, and results/recorded$(if $(ALL),,; also .venv and downloads (ALL=1 frees them))."
