"""What the rules call: settings, paths, and what a script depends on. checks.smk checks them; the others hold rules only."""

import ast
import contextlib
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from copy import deepcopy
from pathlib import Path

from snakemake.io import contains_wildcard
from snakemake.utils import update_config

# Relative to the working folder, so that a project that moves has nothing to do again.
PROJECT = Path(os.path.relpath(workflow.basedir))
SCRIPTS = PROJECT / "scripts"
BASE_CONFIG = str(PROJECT / "config/config.yaml")
CLAIMS = str(PROJECT / "config/claims.yaml")
REPORT = PROJECT / "workflow/report"
STARTED = time.time()
SKEW = 60  # seconds by which a file server's clock may be ahead

# In the report, by the part of it where each figure is.
FIGURES = {
    "Theory": {"convolution": "Why the ERF is Gaussian"},
    "Untrained networks": {
        "gaussian_shape": "Gaussian shape",
        "nonlinearity": "Nonlinear activations",
        "structures": "Subsampling, dilation, skip connections, dropout",
        "growth": "Growth and shrinkage with depth",
    },
    "Trained networks": {
        "before_after": "Before and after training",
        "initialization": "Kernels light in their middle",
    },
    "Beyond the paper": {
        "sensitivity": "Readings that the paper leaves open",
        "evolution": "During training",
        "convergence": "From three starts",
        "units": "Other units, layers and images",
        "reach": "How far a unit can use its receptive field",
        "models": "Any model",
    },
}


def network_settings(name):
    """The defaults of all networks, and on top of them what this one sets."""
    return {**config["network_defaults"], **config["networks"][name]}


def model_settings(name):
    """The defaults of all models, and on top of them what this one sets."""
    return {**config["model_defaults"], **config["models"][name]}


def model_files(name):
    """What a model is made of and measured on, as far as it is files: its factory's, weights, images."""
    settings = model_settings(name)
    place = settings["factory"].rpartition(":")[0]
    paths = [place] if place.endswith(".py") else []
    paths += [settings["weights"]] if settings["weights"] not in ("none", "default") else []
    if settings["images"] != "noise":
        paths += sorted(str(path) for path in Path(settings["images"]).rglob("*") if path.is_file())
    for path in paths:
        if contains_wildcard(path):
            sys.exit(f"error: models.{name}: braces in {path!r} are wildcards to Snakemake: rename it")
        if os.path.exists(path) and os.path.getmtime(path) > STARTED + SKEW:
            sys.exit(f"error: models.{name}: {path!r} is dated in the future: touch it")
    return paths


def on_top(defaults, changes):
    """Nested settings: the defaults, and on top of them the changes; a list replaces a list."""
    settings = deepcopy(defaults)
    update_config(settings, changes)
    return settings


def merged(name):
    """The defaults of a training's dataset, and on top of them what this training sets."""
    changes = config["trainings"][name]
    return on_top(config["training_defaults"][changes["dataset"]], without(changes, "dataset"))


def reach_settings(name):
    """The defaults of all reach experiments, and on top of them what this one sets."""
    return on_top(config["reach_defaults"], config["reach"][name])


def without(settings, *keys):
    return {key: value for key, value in settings.items() if key not in keys}


def trainings_on(dataset):
    """Names of the trainings on a dataset."""
    return [name for name, training in config["trainings"].items() if training["dataset"] == dataset]


def as_json(settings):
    """Settings as an argument for a script; sorted, so that their order in the file triggers nothing."""
    return json.dumps(settings, sort_keys=True)


def one_of(names):
    """A wildcard constraint that matches exactly the given names (nothing, if there are none)."""
    return "|".join(map(re.escape, names)) or "(?!)"


def all_seeds():
    """Seeds of all trainings and reach experiments, as paths have them."""
    settings = [*map(merged, config["trainings"]), *map(reach_settings, config["reach"])]
    return sorted({str(seed) for one in settings for seed in one["seeds"]})


def place(top):
    """A function from names to paths under `top`, in a folder of its own for every configuration but the paper's."""
    return lambda name="": str(Path(top) / config["name"] / name)


results, figures, logs, benchmarks = map(place, ("results", "figures", "logs", "benchmarks"))


def record(path):
    """Path of the record of what made a result, which the script leaves beside it (erf.provenance)."""
    return str(Path(path).with_suffix(".provenance.json"))


def script(name):
    """Path of a script."""
    return str(SCRIPTS / name)


def modules(name):
    """Paths of all project modules that a script imports, directly or not: a change in any of them reruns its rule."""
    found, pending = set(), [SCRIPTS / name]
    while pending:
        for module in imported_names(pending.pop()):
            parts = module.split(".")
            for depth in range(1, len(parts) + 1):
                stem = SCRIPTS.joinpath(*parts[:depth])
                for path in (stem.with_suffix(".py"), stem / "__init__.py"):
                    if path.is_file() and path not in found:
                        found.add(path)
                        pending.append(path)
    return sorted(map(str, found))


def imported_names(path):
    """Dotted names in the import statements of a file, wherever they stand."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def training_settings(name):
    """What a training depends on; its seeds, and what is measured afterwards, are not among it."""
    dataset = config["trainings"][name]["dataset"]
    settings = without(merged(name), "seeds", "measure_images")
    return {"dataset": dataset, **settings, "snapshots": config["snapshots"][dataset]}


def dataset_of(wildcards):
    """The arrays on which a training is trained and measured."""
    return f"data/{config['trainings'][wildcards.training]['dataset']}.npz"


def resume_folder(wildcards):
    """Where the state of a training lies."""
    script = (
        "train_classifier.py"
        if config["trainings"][wildcards.training]["dataset"] == "cifar10"
        else "train_segmenter.py"
    )
    return state_folder(wildcards.training, wildcards.seed, training_settings(wildcards.training), script)


def state_folder(name, seed, settings, script):
    """Where the state of a long job lies, apart for all settings and each version of its code: what was begun in another
    way is begun anew."""
    digest = hashlib.sha256((as_json(settings) + code_digest(script)).encode()).hexdigest()[:12]
    return results(f"resume/{name}/seed_{seed}/{digest}")


@functools.cache
def code_digest(name):
    """Of a script and the modules that it imports."""
    contents = [Path(path).read_bytes() for path in [script(name), *modules(name)]]
    return hashlib.sha256(b"".join(contents)).hexdigest()


def discard_states():
    """Remove the states of the long jobs of this run, which has ended well: Snakemake knows now that they are done.

    With them go states of other settings and code, which the same results were once begun with.
    """
    for job in workflow.dag.jobs:
        if "resume" in job.params.keys() and all(map(os.path.exists, job.output)):  # with --touch they may not
            folder = os.path.dirname(job.params.resume)
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # there are other seeds
                os.removedirs(os.path.dirname(folder))


def training_outputs(dataset):
    """What a training on a dataset leaves: snapshots, tables, and the record of it."""
    names = [f"{stem}.pt" for stem in snapshot_names(dataset)] + ["metrics.csv", "speed.csv", "test.csv"]
    return [results(f"trainings/{{training}}/seed_{{seed}}/{name}") for name in [*names, "provenance.json"]]


def snapshots_of(wildcards):
    """All snapshots of one run of a training."""
    stems = snapshot_names(config["trainings"][wildcards.training]["dataset"])
    return [results(f"trainings/{wildcards.training}/seed_{wildcards.seed}/{stem}.pt") for stem in stems]


def snapshot_names(dataset):
    """Stems of a training's snapshots, in order."""
    return [f"epoch_{epoch:03d}" for epoch in config["snapshots"][dataset]] + ["best"]


def figure_settings(figure):
    """What a figure shows; the run ends with one line if this configuration has not got it."""
    if figure not in config["targets"]:
        sys.exit(f"error: {figure} is not a target of this configuration, which has {', '.join(config['targets'])}")
    return config["figures"][figure]


def network_fields(figure):
    """Results of the networks that a figure shows."""
    return [results(f"networks/{name}.npz") for name in figure_settings(figure)["networks"]]


def model_fields(figure):
    """Results of the models that a figure shows."""
    return [results(f"models/{name}.npz") for name in figure_settings(figure)["models"]]


def network_tables(names):
    """The numbers of networks."""
    return [results(f"networks/{name}.csv") for name in names]


def results_of_seeds(figure, section, *paths):
    """Results of every seed of every training or reach experiment that a figure shows; {name} and {seed} are filled in."""
    return [
        results(path.format(name=name, seed=seed))
        for name in figure_settings(figure)[section]
        for seed in (merged if section == "trainings" else reach_settings)(name)["seeds"]
        for path in paths
    ]


def datasets_of(figure):
    """Arrays of the datasets of the trainings that a figure shows."""
    names = figure_settings(figure)["trainings"]
    return [f"data/{dataset}.npz" for dataset in sorted({config["trainings"][name]["dataset"] for name in names})]


def uses_gpu():
    """One GPU for a training, none where the configuration says so."""
    return 0 if config["device"] == "cpu" else 1


def all_figures():
    """The figures of this configuration."""
    return [figures(f"{figure}.png") for figure in config["targets"]]


def shown(figure):
    """A figure's .png, in Snakemake's report too."""
    ((category, title),) = [(part, titles[figure]) for part, titles in FIGURES.items() if figure in titles]
    return report(
        figures(f"{figure}.png"), caption=f"../report/{figure}.rst", category=category, labels={"figure": title}
    )


def report_figures():
    """What the report says of the figures of this configuration, in their order there: name, title and part."""
    return [
        {"name": figure, "title": title, "part": part}
        for part, titles in FIGURES.items()
        for figure, title in titles.items()
        if figure in config["targets"]
    ]


def remade_by():
    """The command that makes a figure of this configuration, with {figure} for its name."""
    overlays = [os.path.relpath(path) for path in workflow.overwrite_configfiles]
    changes = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in workflow.config_settings.config.items()
    ]
    words = ["snakemake", "--cores", "all"]
    if PROJECT != Path():  # started in another folder
        words += ["--snakefile", str(PROJECT / "Snakefile")]
    if len(overlays) == 1 and not changes:
        words.append(f"--configfile={overlays[0]}")
    elif overlays or changes:
        words += [
            *(["--configfile", *overlays] if overlays else []),
            *(["--config", *changes] if changes else []),
            "--",
        ]
    return f"{shlex.join(words)} {figures('{figure}.png')}"


def what_was_made():
    """Where the figures are, and the report, if this run has made it."""
    page = results("report/index.html")
    made = os.path.exists(page) and os.path.getmtime(page) >= STARTED
    return f"The figures are in {figures()}/" + (f", the report is {page}" if made else "")


def target_table(figure, path):
    """A table, if the figure that it is made for is among the targets."""
    return [path] if figure in config["targets"] else []


def networks_shown():
    """Names of the networks that each target shows."""
    shown = {figure: config["figures"][figure].get("networks", []) for figure in config["targets"]}
    if "sensitivity" in shown:
        shown["sensitivity"] = sorted({*shown["sensitivity"], *config["slopes"]["networks"]})
    return shown


def measured_networks():
    """Names of all networks that the targets measure."""
    names = {name for networks in networks_shown().values() for name in networks}
    if "growth" in config["targets"]:
        names.update(config["slopes"]["networks"])
    return sorted(names)


def paper_trainings(path=""):
    """Results of the trainings that the paper has, if they are among the targets."""
    return results_of_seeds("before_after", "trainings", path) if "before_after" in config["targets"] else []


def used(section):
    """Names of the trainings, reach experiments or models of all targets."""
    return sorted({name for figure in config["targets"] for name in config["figures"][figure].get(section, [])})


def every_training(path, dataset=None):
    """Results of every seed of every training of the targets (on a dataset); {name} and {seed} are filled in."""
    return [
        results(path.format(name=name, seed=seed))
        for name in used("trainings")
        for seed in merged(name)["seeds"]
        if dataset in (None, config["trainings"][name]["dataset"])
    ]


def paper_training_settings():
    """Settings by name of the same trainings."""
    if "before_after" not in config["targets"]:
        return {}
    return {name: training_settings(name) for name in config["figures"]["before_after"]["trainings"]}


def report_texts():
    """Template, style, script and captions of the report."""
    return sorted(map(str, REPORT.glob("*.*")))


def report_facts():
    """What the report says of the configuration: its figures in their order there, commands, seeds, settings."""
    seeds = {
        "untrained networks": {name: [network_settings(name)["seed"]] for name in measured_networks()},
        "trainings": {name: merged(name)["seeds"] for name in used("trainings")},
        "reach": {name: reach_settings(name)["seeds"] for name in used("reach")},
        "models": {name: [model_settings(name)["seed"]] for name in used("models")},
    }
    runs = {dataset: len(every_training("{name}/{seed}", dataset)) for dataset in config["datasets"]}
    return {
        "name": config["name"],
        "figures": report_figures(),
        "command": remade_by(),
        "channels": config["network_defaults"]["channels"],
        "special_layers": config["network_defaults"]["special_layers"],
        "trainings": {
            name: {"dataset": settings["dataset"], **merged(name)}
            for name, settings in paper_training_settings().items()
        },
        "seeds": seeds,
        "datasets": {name: config["datasets"][name] for name, count in runs.items() if count},
        "jobs": {"train_classifier": runs["cifar10"], "train_segmenter": runs["camvid"]},
        "configuration": config,
    }
