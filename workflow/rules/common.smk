"""What the rules call: settings, paths, and what a script depends on. checks.smk checks them; the others hold rules only."""

import contextlib
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
from types import SimpleNamespace

from snakemake.io import contains_wildcard
from snakemake.utils import update_config

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

import safekeeping
from replication.commands import source_code
from replication.commands.kept import RECORD

# Relative to the working folder, so that a project that moves has nothing to do again.
PROJECT = Path(os.path.relpath(workflow.basedir))
SCRIPTS = PROJECT / "scripts"
BASE_CONFIG = str(PROJECT / "config/config.yaml")
CLAIMS = str(PROJECT / "config/claims.yaml")
REPORT = PROJECT / "workflow/report"
STARTED = time.time()
LIBRARIES = (
    "erf",
    "replication",
    "torch.nn",
    "torchvision.models",
    "torchvision.ops",
)  # as erf.models.factory has them
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


def trusted():
    """Modules and .py files whose code may run as models. Only the command line names them, --config trust=nets.py: a
    configuration that comes from elsewhere cannot vouch for itself."""
    names = workflow.config_settings.config.get("trust") or []
    return [names] if isinstance(names, str) else names


def trust_options(name):
    """The same as options of measure_model.py, quoted for a shell; none for a library's model, which needs no trust."""
    names = [] if is_library(model_code(name)) else sorted(set(trusted()))
    return shlex.join(word for one in names for word in ("--trust", one))


def model_code(name):
    """The module, or the path of the .py file, in which a model's factory is."""
    return model_settings(name)["factory"].rpartition(":")[0]


def is_library(code):
    """Whether erf.models runs a module's models without being told to."""
    return code == "timm" or is_named(code, LIBRARIES)


def is_named(code, names):
    """Whether erf.models counts a module or a .py file to those named; not asked there, which would take torch."""
    if code.endswith(".py"):
        return any(name.endswith(".py") and os.path.realpath(name) == os.path.realpath(code) for name in names)
    return any(code == name or code.startswith(f"{name}.") for name in names)


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
    """Path of the record of what made a result, which the script leaves beside it (replication.commands.provenance)."""
    return str(Path(path).with_suffix(".provenance.json"))


def script(name):
    """Path of a script."""
    return str(SCRIPTS / name)


def modules(name):
    """Paths of all project modules that a script imports, directly or not: a change in any of them reruns its rule."""
    return list(map(str, source_code.modules(SCRIPTS / name)))


def untracked(value):
    """For `params:`, a value of which a change reruns nothing, since it says where or on what a job runs, and not what it
    makes. Snakemake takes it for a consequence of the threads, and so does not compare it."""
    return lambda wildcards, threads: value


def training_settings(name):
    """What a training depends on; its seeds, and what is measured afterwards, are not among it."""
    dataset = config["trainings"][name]["dataset"]
    settings = without(merged(name), "seeds", "measure_images")
    data = {"dataset": dataset, "sha256": config["datasets"][dataset]["sha256"]}
    return {**data, **settings, "snapshots": config["snapshots"][dataset]}


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
    digest = hashlib.sha256((as_json(settings) + source_code.code_digest(SCRIPTS / script)).encode()).hexdigest()[:12]
    return results(f"resume/{name}/seed_{seed}/{digest}")


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


def made_by(maker, **wildcards):
    """What the jobs of a rule make, of lists of values of its wildcards."""
    return expand(maker.output, zip, **wildcards)


def used_data():
    """The datasets on which trainings of the targets are trained."""
    return sorted({dataset_of(SimpleNamespace(training=name)) for name in used("trainings")})


def measured():
    """Every file that the jobs before the report declare: tables, records and snapshots too, so that none is missed."""
    makers = [getattr(rules, f"figure_{figure}") for figure in config["targets"]]
    makers += [rules.check_claims, rules.figure_scorecard]
    files = [path for maker in makers for path in maker.output]
    files += made_by(rules.measure_network, network=measured_networks())
    files += made_by(rules.measure_model, model=used("models"))
    if {"growth", "sensitivity"} & {*config["targets"]}:
        files += rules.growth_slopes.output
    if "sensitivity" in config["targets"]:
        files += made_by(rules.slope_samples, network=config["slopes"]["samples"]["networks"])
    for name in used("reach"):
        seeds = reach_settings(name)["seeds"]
        files += made_by(rules.train_reach, reach=[name] * len(seeds), seed=seeds)
    for name in used("trainings"):
        train = rules.train_classifier if name in trainings_on("cifar10") else rules.train_segmenter
        makers = [train, rules.measure_snapshots]
        if "units" in config["targets"] and name in config["figures"]["units"]["trainings"]:
            makers.append(rules.measure_units)
        seeds = merged(name)["seeds"]
        for maker in makers:
            files += made_by(maker, training=[name] * len(seeds), seed=seeds)
    return sorted({*map(str, files)})


def all_files():
    """Every file that this configuration makes. Of the datasets it is the arrays alone, which count by their content."""
    return [*used_data(), *measured(), *rules.replication_report.output]


def records():
    """The records of all jobs before the report."""
    return [path for path in measured() if path.endswith(RECORD)]


def jobs_of_run():
    """The jobs that Snakemake is about to start, but for those without a program."""
    return [job for job in workflow.dag.needrun_jobs() if not job.is_norun]


def check_gpu():
    """End here, before anything is deleted, if a GPU is asked for and there is none. Of a cluster only its nodes know."""
    asked = any("device" in job.params.keys() for job in jobs_of_run())
    if config["device"] == "cuda" and workflow.local_exec and asked and not safekeeping.has_gpu():
        sys.exit("error: device: cuda was asked for, but there is no GPU here; set device to auto or cpu")


def keep_former():
    """Keep aside what the jobs of this run are to make anew: Snakemake deletes it before they start."""
    for job in [] if workflow.touch else jobs_of_run():
        try:
            safekeeping.keep(job.output, workflow.dag.reason(job).forced)
        except OSError as error:
            print(f"{error.filename}: what was made before cannot be kept ({error.strerror})", file=sys.stderr)


def drop_former():
    """What was kept of jobs that have made it anew, or that have not started."""
    for job in workflow.dag.jobs:
        if job.output:
            safekeeping.drop(job.output)


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
    text = f"The figures are in {figures()}/" + (f", the report is {page}" if made else "")
    lacking = [path for path in all_files() if not os.path.exists(path)]
    if lacking and any(job.name == "all" for job in workflow.dag.jobs):
        text += f"\nwarning: {len(lacking)} files are missing, such as {lacking[0]}: run again"
    return text


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
        "configuration": config,
    }
