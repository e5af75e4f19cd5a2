# make         the environment, then the quick figures and their report: minutes, no dataset, no GPU
# make test    the environment, then the tests, but for the slow ones
# make test-all    all tests, and a note of the commit at which they passed: an hour and more
# make env     the environment alone: .venv, from requirements.lock
# make data    fetch the datasets (also from ERF_DATA_MIRROR), and nothing else
# make lint    the style checks
# make article the article of the replication, from figures/reference/, into results/article/: seconds
# make gpu-bundle  CONFIG's trainings for a machine with a GPU that has neither a network nor Snakemake
# make crate   a finished run of CONFIG as one archive, results/<name>/crate.zip, that says what made what (an RO-Crate)
# make codecheck   the files of codecheck.yml anew, from a clean clone, and compared: ten minutes
# make check-archive   CITATION.cff, and the crates that were made, by validators in an environment of their own
# make hashes   requirements.hashes, from requirements.lock
# make check-platforms   docs/platforms.md: on which machines and versions of Python the lock installs; minutes
# make coverage   how often the 95 % intervals of CONFIG's untrained networks hold the truth, into results/<name>/: ten minutes
# make bench   how long things take and what memory, into benchmarks/: half an hour
# make zoo     models of timm, transformers and other libraries, in an environment of their own: each right, or a clear line
# make docs    the documentation site, into site/: README, docs/, the reference, the gallery, and notebooks, which it runs
# make check-reference        the untrained networks anew, compared byte for byte with figures/reference/: minutes
# make test-faults            kills, full disks, bad settings and SLURM, at length: about an hour
# make check-reproducibility  CONFIG twice, as differently as may be, compared byte for byte
# With VERBOSE=1 each of them says all that it does: shell commands, files, and why a job is done

PYTHON ?= python3
CONFIG ?= config/quick.yaml
ACTIVATE = . .venv/bin/activate
HERE := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
ifdef VERBOSE
SNAKEMAKE = snakemake --printshellcmds
PIP = install
else
SNAKEMAKE = snakemake
PIP = install --quiet
.SILENT:
endif

.PHONY: quick env test test-all gpu-bundle data lint article bench zoo docs coverage test-faults check-reference check-reproducibility \
	crate codecheck check-archive hashes check-platforms

quick: env
	$(ACTIVATE) && $(SNAKEMAKE) --cores all --configfile=config/quick.yaml all

env: .venv/.made

.venv/.made: requirements.lock requirements.hashes
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "error: requirements.lock is for Python 3.11 to 3.13, not %d.%d: make PYTHON=python3.13" % sys.version_info[:2])'
	$(PYTHON) $(HERE)/workflow/alone.py requirements.lock $(MAKE) --no-print-directory -f $(HERE)/Makefile .venv/.whole
	touch $@

.venv/.whole: requirements.lock requirements.hashes
	echo "Installing into .venv what requirements.lock lists: once, some minutes"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip $(PIP) --no-deps --require-hashes --requirement requirements.hashes
	.venv/bin/python -m pip $(PIP) --requirement requirements.lock
	touch $@

test: env
	$(ACTIVATE) && python -m pytest -n 2 $(TESTS)

test-all: env
	$(ACTIVATE) && python -m pytest -n 2 --all && git rev-parse HEAD > tests/passed

data: env
	$(ACTIVATE) && $(SNAKEMAKE) data/cifar10.npz data/camvid.npz --cores 1

lint: env
	$(ACTIVATE) && ruff check . && ruff format --check . && snakefmt --check Snakefile workflow && snakemake --lint

article: env
	$(ACTIVATE) && $(SNAKEMAKE) --cores 1 article

coverage: env
	$(ACTIVATE) && $(SNAKEMAKE) --cores 1 --configfile=$(CONFIG) interval_coverage

bench: env
	$(ACTIVATE) && python tests/bench.py && python tests/bench_measure.py

ZOO = timm segmentation_models_pytorch transformers monai diffusers

zoo: .zoo-venv/.made
	. .zoo-venv/bin/activate && python tests/zoo.py $(MODELS)

.zoo-venv/.made: requirements.lock
	echo "Installing $(ZOO) into .zoo-venv: once, some minutes"
	$(PYTHON) -m venv .zoo-venv
	.zoo-venv/bin/python -m pip $(PIP) --requirement requirements.lock $(ZOO)
	touch $@

docs: .docs-venv/.made
	rm -rf .docs-venv/site && . .docs-venv/bin/activate && \
	sphinx-build -q -E -W --keep-going -c docs -d .docs-venv/doctrees . .docs-venv/site && rm -rf site && mv .docs-venv/site site
	echo "The site is site/index.html"

.docs-venv/.made: docs/requirements.lock requirements.lock
	echo "Installing what builds the site into .docs-venv: once, some minutes"
	$(PYTHON) -m venv .docs-venv
	.docs-venv/bin/python -m pip $(PIP) --requirement docs/requirements.lock
	touch $@

test-faults: env
	$(ACTIVATE) && ERF_LONG=1 python -m pytest -s tests/test_faults.py tests/test_config.py tests/test_slurm.py

gpu-bundle: env
	$(ACTIVATE) && python workflow/gpu_bundle.py --configfile $(CONFIG) --out gpu-bundle

check-reference: env
	$(ACTIVATE) && $(SNAKEMAKE) --cores all --configfile=config/untrained.yaml all && \
	python figures/reference/gather.py untrained --check

check-reproducibility: env
	$(ACTIVATE) && python tests/check_reproducibility.py $(CONFIG)

crate: env
	$(ACTIVATE) && python workflow/run_crate.py --configfile $(CONFIG)

codecheck: env
	$(ACTIVATE) && python workflow/codecheck.py

VALIDATORS = roc-validator==0.13.0 cffconvert==2.0.0 uv==0.13.9
# What the validator recommends and cannot be: a program that is packed has no address on the web, nor have its authors.
CRATE_OPTIONS = --profile-identifier provenance-run-crate --requirement-severity recommended --skip-availability-check \
	--skip-checks process-run-crate-0.5_5.1,ro-crate-1.1_31.2

check-archive: .archive-venv/.made
	.archive-venv/bin/cffconvert --validate --infile CITATION.cff
	for crate in $(wildcard results/*/crate.zip); do \
	.archive-venv/bin/rocrate-validator -y validate $(CRATE_OPTIONS) $$crate || exit 1; done

.archive-venv/.made: Makefile
	$(PYTHON) -m venv .archive-venv
	.archive-venv/bin/python -m pip $(PIP) $(VALIDATORS)
	touch $@

# Checksums of all packages but two: torch and torchvision are other files where pip is pointed to builds for the CPU.
hashes: .archive-venv/.made
	.archive-venv/bin/uv pip compile requirements.lock --quiet --no-deps --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --no-emit-package torch --no-emit-package torchvision --output-file requirements.hashes

check-platforms: .archive-venv/.made
	.archive-venv/bin/python tests/check_platforms.py
