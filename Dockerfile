# The pipeline and its library, with the packages of requirements.lock, on a Debian with the fonts that the tests want.
#
#   docker build --tag erf .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" erf        the quick figures and their report, into $PWD
#   docker run --rm --volume "$PWD:/work" erf snakemake --cores all --snakefile /erf/Snakefile all         another run
#   docker run --rm --user root --workdir /erf erf python -m pytest -n 2                                   the tests
#
# torch brings CUDA on x86-64, which makes the image several GiB larger: --build-arg PIP_EXTRA_INDEX_URL=... with the index
# of torch's builds for the CPU makes pip prefer those.
FROM python:3.13-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends fonts-dejavu-core git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /erf

COPY requirements.lock requirements.hashes ./
ARG PIP_EXTRA_INDEX_URL=
RUN python -m pip install --no-cache-dir --no-deps --require-hashes --requirement requirements.hashes \
    && python -m pip install --no-cache-dir --requirement requirements.lock

COPY . .
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/erf/scripts
RUN python -m erf --help && python -m pytest --collect-only --quiet -p no:cacheprovider

RUN useradd --no-create-home erf && install --directory --owner=erf /work
USER erf
WORKDIR /work
CMD ["snakemake", "--cores", "all", "--snakefile", "/erf/Snakefile", "--configfile=/erf/config/quick.yaml", "all"]
