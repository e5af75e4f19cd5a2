# make         the environment, then the quick figures and their report: minutes, no dataset, no GPU
# make test    the environment, then the tests, but for the slow ones
# make test-all    all tests, and a note of the commit at which they passed: an hour and more
# make env     the environment alone: .venv, from requirements.lock
# make data    fetch the datasets (also from ERF_DATA_MIRROR), and nothing else
# make lint    the style checks
# make gpu-bundle  CONFIG's trainings for a machine with a GPU that has neither a network nor Snakemake
# make coverage   how often the 95 % intervals of CONFIG's untrained networks hold the truth, into results/<name>/: ten minutes
# make bench   how long things take and what memory, into benchmarks/: half an hour
# make zoo     models of timm, transformers and other libraries, in an environment of their own: each right, or a clear line
# make check-reference        the untrained networks anew, compared byte for byte with figures/reference/: minutes
# make test-faults            kills, full disks, bad settings and SLURM, at length: about an hour
# make check-reproducibility  CONFIG twice, as differently as may be, compared byte for byte
# With VERBOSE=1 each of them says all that it does: shell commands, files, and why a job is done

PYTHON ?= python3
CONFIG ?= config/quick.yaml
ACTIVATE = . .venv/bin/activate
ifdef VERBOSE
SNAKEMAKE = snakemake --printshellcmds
PIP = install
else
SNAKEMAKE = snakemake
PIP = install --quiet
.SILENT:
endif

.PHONY: quick env test test-all gpu-bundle data lint bench zoo coverage test-faults check-reference check-reproducibility

quick: env
	$(ACTIVATE) && $(SNAKEMAKE) --cores all --configfile=config/quick.yaml all

env: .venv/.made

.venv/.made: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "error: requirements.lock is for Python 3.11 to 3.13, not %d.%d: make PYTHON=python3.13" % sys.version_info[:2])'
	echo "Installing into .venv what requirements.lock lists: once, some minutes"
	$(PYTHON) -m venv .venv
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

test-faults: env
	$(ACTIVATE) && ERF_LONG=1 python -m pytest -s tests/test_faults.py tests/test_config.py tests/test_slurm.py

gpu-bundle: env
	$(ACTIVATE) && python workflow/gpu_bundle.py --configfile $(CONFIG) --out gpu-bundle

check-reference: env
	$(ACTIVATE) && $(SNAKEMAKE) --cores all --configfile=config/untrained.yaml all && \
	python figures/reference/gather.py untrained --check

check-reproducibility: env
	$(ACTIVATE) && python tests/check_reproducibility.py $(CONFIG)
