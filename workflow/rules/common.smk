"""Everything that is Python: checked settings, paths, and what a script depends on. The other files hold rules only."""

import ast
import contextlib
import difflib
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

import jsonschema
import yaml
from snakemake.utils import update_config

# Relative to the working folder, so that a project that moves has nothing to do again.
SCRIPTS = Path(os.path.relpath(workflow.basedir)) / "scripts"
CLAIMS = str(Path(os.path.relpath(workflow.basedir)) / "config/claims.yaml")
REPORT = Path(os.path.relpath(workflow.basedir)) / "workflow/report"
STARTED = time.time()
SCHEMA = Path(workflow.basedir) / "workflow/schemas/config.schema.yaml"

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
    },
}


def stop(key, problem):
    """End with one line that names the key, before any job has started."""
    sys.exit(f"error: config: {key}: {problem}")


def check_config():
    """The schema first, then what a schema cannot say: names that one section uses and another defines."""
    schema = yaml.safe_load(SCHEMA.read_text())
    check_schema(schema, config)
    for name in config["networks"]:
        check_network(name)
    check_slopes()
    for name, training in config["trainings"].items():
        dataset, settings = training["dataset"], merged(name)
        check_schema({"$ref": f"#/$defs/{dataset}_training", "$defs": schema["$defs"]}, settings, "trainings", name)
        check_training(name, dataset, settings)
    for name in config["reach"]:
        settings = reach_settings(name)
        check_schema({"$ref": "#/$defs/reach", "$defs": schema["$defs"]}, settings, "reach", name)
        check_reach(f"reach.{name}", settings)
    for figure, settings in config["figures"].items():
        for section in ("networks", "trainings", "reach"):
            check_names(f"figures.{figure}.{section}", settings.get(section, []), section)
        if figure in config["targets"] and figure in TOLD_APART_BY:
            check_figure_of_networks(figure, settings["networks"])
        if figure in config["targets"] and figure in ONE_OF_EACH:
            check_figure_of_trainings(figure, settings["trainings"])
    if "reach" in config["targets"]:
        check_figure_of_reach(config["figures"]["reach"]["reach"])
    check_claims_file()


def check_claims_file():
    """The list of claims, before hours of training and not after them."""
    schema = yaml.safe_load(SCHEMA.with_name("claims.schema.yaml").read_text())
    try:
        claims = yaml.safe_load(Path(CLAIMS).read_text())
    except yaml.YAMLError as error:
        stop("claims", f"not YAML ({str(error).splitlines()[0]})")
    check_schema({"type": "array", "items": {"type": "object"}}, claims, "claims")
    for number, claim in enumerate(claims):
        check_schema(schema, claim, "claims", claim.get("id", number))


def check_schema(schema, settings, *path):
    """`settings`, which lie at `path` in the configuration, are as the schema has them."""
    found = jsonschema.Draft202012Validator(schema).iter_errors(settings)
    error = jsonschema.exceptions.best_match(found)
    if error:
        stop(".".join(map(str, [*path, *error.absolute_path])) or "(top level)", error.message)


def check_training(name, dataset, settings):
    """What a training asks of its dataset is there."""
    key, last = f"trainings.{name}", settings["recipe"]["epochs"]
    if any(epoch > last for epoch in config["snapshots"][dataset]):
        stop(f"snapshots.{dataset}", f"some lie beyond the {last} epochs of {key}")
    registry = config["datasets"][dataset]
    held_out = settings["validation"] if dataset == "cifar10" else registry["splits"]["val"]
    if settings["measure_images"] > held_out:
        stop(f"{key}.measure_images", f"there are only {held_out} images for validation")
    if dataset == "camvid":
        if settings["batch_size"] > registry["splits"]["train"]:
            stop(f"{key}.batch_size", f"there are only {registry['splits']['train']} training images")
        if any(side > limit for side, limit in zip(settings["crop"], registry["size"])):
            stop(f"{key}.crop", f"the images have only {registry['size'][0]} x {registry['size'][1]} pixels")


def check_reach(key, settings):
    """The network can be built, and the cue, 3 pixels wide, lies in its receptive field."""
    check_special_layers(key, settings, settings["depth"])
    step, radius = 1, 0
    for layer in range(1, settings["depth"] + 1):
        order = sum(other < layer for other in settings["special_layers"]) + 1
        special = layer in settings["special_layers"]
        radius += step * (2 ** order if special and settings["structure"] == "dilation" else 1)
        step *= 2 if special and settings["structure"] == "subsample" else 1
    if max(settings["distances"]) > radius - 1:
        stop(f"{key}.distances", f"the cue must lie in the receptive field: at most {radius - 1}")


def check_special_layers(key, settings, depth):
    """The layers that a structure treats in a special way are there."""
    if settings["structure"] in ("subsample", "average_pool", "dilation"):
        key, special = f"{key}.special_layers", settings["special_layers"]
        if not special:
            stop(key, f"{settings['structure']} needs at least one")
        if max(special) > depth:
            stop(key, f"a network of {depth} layers has no layer {max(special)}")


def check_names(key, names, section):
    """What one section uses, another defines."""
    for name in names:
        if name not in config[section]:
            near = difflib.get_close_matches(name, config[section], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            stop(key, f"{name!r} is not in {section}{hint}")


def check_network(name):
    """A network of these settings can be built, and means something."""
    settings = network_settings(name)
    if settings["weights"] == "uniform" and settings["activation"] != "none":
        stop(f"networks.{name}.activation", "uniform weights are measured without an activation")
    if settings["weights"] == "uniform" and settings["centre_light"]:
        stop(f"networks.{name}.centre_light", "uniform weights are all equal")
    if settings["structure"] == "skip" and min(settings["depths"]) < 3:
        stop(f"networks.{name}.depths", "a network with skip connections has at least 3 layers")
    check_special_layers(f"networks.{name}", settings, min(settings["depths"]))


# What figures tell their networks apart by, and in what else those that are held against each other must agree.
TOLD_APART_BY = {
    "gaussian_shape": ["weights", "activation"],
    "growth": ["weights", "activation"],
    "nonlinearity": ["activation"],
    "structures": ["structure", "activation"],
    "sensitivity": ["structure", "special_layers"],
    "initialization": ["centre_light"],
}
ALIKE = {
    "gaussian_shape": ["kernel", "structure", "unit", "centre_light"],
    "growth": ["kernel", "structure", "unit", "centre_light"],
    "nonlinearity": ["kernel", "structure", "unit", "weights", "channels", "depths", "centre_light"],
    "structures": ["kernel", "unit", "weights", "channels", "depths", "centre_light"],
    "sensitivity": ["kernel", "unit", "weights", "channels", "depths", "activation", "centre_light"],
    "initialization": ["kernel", "unit", "weights", "channels", "depths", "activation", "structure"],
}


def check_figure_of_networks(figure, names):
    """The networks of a figure can be compared, told apart, and were measured as it shows them."""
    key, seen, first = f"figures.{figure}.networks", {}, network_settings(names[0])
    for name in names:
        settings = network_settings(name)
        if "abs" not in settings["readings"]:
            stop(key, f"{name!r} is not measured in the reading abs, of which maps are drawn")
        for trait in ALIKE[figure]:
            if settings[trait] != first[trait]:
                stop(key, f"{name!r} and {names[0]!r} differ in {trait}")
        if "depths" in ALIKE[figure] and len(settings["depths"]) > 1:
            stop(key, f"{name!r} must have one depth")
        if "structure" in ALIKE[figure] and settings["structure"] != "plain":
            stop(key, f"{name!r} is not plain")
        twin = seen.setdefault(as_json([settings[trait] for trait in TOLD_APART_BY[figure]]), name)
        if twin != name:
            stop(key, f"{name!r} and {twin!r} have the same {' and '.join(TOLD_APART_BY[figure])}")
        if figure == "structures" and as_json(["plain", settings["activation"]]) not in seen:
            stop(key, f"{name!r} has no plain network of its activation before it, to be held against")
        if figure == "growth" and name not in config["slopes"]["networks"]:
            stop(key, f"{name!r} is not in slopes.networks")
    if figure == "initialization" and all(network_settings(name)["centre_light"] for name in names):
        stop(key, "one must have a centre_light of 0, to hold the others against")
    if figure == "gaussian_shape":
        check_depths("figures.gaussian_shape.depths", config["figures"][figure]["depths"], names)


# In what trainings on one dataset differ that a figure holds against each other; in nothing else.
ONE_OF_EACH = {"convergence": "residual_scale", "initialization": "centre_light"}


def check_figure_of_trainings(figure, names):
    """The trainings of a figure differ in one setting of the network, and have the same seeds."""
    key, trait, seen = f"figures.{figure}.trainings", ONE_OF_EACH[figure], {}
    for name in names:
        dataset, settings = config["trainings"][name]["dataset"], merged(name)
        value = settings["network"].pop(trait)
        first = seen.setdefault(dataset, {"name": name, "settings": settings, "values": {}})
        if settings != first["settings"]:
            stop(key, f"{name!r} and {first['name']!r} differ in more than {trait}")
        twin = first["values"].setdefault(value, name)
        if twin != name:
            stop(key, f"{name!r} and {twin!r} have the same {trait}")
    for dataset, found in seen.items():
        if figure == "initialization" and 0 not in found["values"]:
            stop(key, f"one on {dataset} must have a centre_light of 0, to hold the others against")


def check_figure_of_reach(names):
    """The networks of the figure differ in structure, initialisation and length of training, and in nothing else."""
    key, seen, first = "figures.reach.reach", {}, reach_settings(names[0])
    for name in names:
        settings = reach_settings(name)
        for trait in ("depth", "width", "batch_size", "images", "seeds"):
            if settings[trait] != first[trait]:
                stop(key, f"{name!r} and {names[0]!r} differ in {trait}")
        if settings["centre_light"] and settings["structure"] != "plain":
            stop(key, f"{name!r} is centre-light, and must be plain then")
        steps = settings["steps"] * settings["recipe"]["epochs"]
        twin = seen.setdefault(as_json([settings["structure"], settings["centre_light"], steps]), name)
        if twin != name:
            stop(key, f"{name!r} and {twin!r} have the same structure, centre_light and number of steps")


def check_slopes():
    """Slopes are of plain networks, at depths at which they are measured."""
    slopes = config["slopes"]
    for key, section in (("slopes.networks", slopes), ("slopes.samples.networks", slopes["samples"])):
        check_names(key, section["networks"], "networks")
        for name in section["networks"]:
            if network_settings(name)["structure"] != "plain" or network_settings(name)["centre_light"]:
                stop(key, f"{name!r} is not plain")
    ends = [(min(depths), max(depths)) for depths in slopes["depths"]]
    if len(set(ends)) < len(ends):
        stop("slopes.depths", f"two ranges from {ends[0][0]} to {ends[0][1]} layers could not be told apart")
    check_depths("slopes.depths", sum(slopes["depths"], []), slopes["networks"])


def check_depths(key, depths, names):
    """All these networks are measured at all these depths."""
    for name in names:
        measured = network_settings(name)["depths"]
        for depth in depths:
            if depth not in measured:
                stop(key, f"{name!r} is not measured at {depth} layers, but at {', '.join(map(str, measured))}")


def network_settings(name):
    """The defaults of all networks, and on top of them what this one sets."""
    return {**config["network_defaults"], **config["networks"][name]}


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


check_config()


def one_of(names):
    """A wildcard constraint that matches exactly the given names (nothing, if there are none)."""
    return "|".join(map(re.escape, names)) or "(?!)"


def place(top):
    """A function from names to paths under `top`, in a folder of its own for every configuration but the paper's."""
    root = Path(top) / config["name"]
    return lambda name="": str(root / name)


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
    for node in ast.walk(ast.parse(path.read_text())):
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
    """Where a training's state lies, apart for each of its settings and each version of its code: what was begun in
    another way is begun anew."""
    dataset = config["trainings"][wildcards.training]["dataset"]
    code = code_digest("train_classifier.py" if dataset == "cifar10" else "train_segmenter.py")
    digest = hashlib.sha256((as_json(training_settings(wildcards.training)) + code).encode()).hexdigest()[:12]
    return results(f"resume/{wildcards.training}/seed_{wildcards.seed}/{digest}")


@functools.cache
def code_digest(name):
    """Of a script and the modules that it imports."""
    contents = [Path(path).read_bytes() for path in [script(name), *modules(name)]]
    return hashlib.sha256(b"".join(contents)).hexdigest()


def discard_states():
    """Remove the states of the trainings of this run, which has ended well: Snakemake knows now that they are done."""
    for job in workflow.dag.jobs:
        if job.rule.name in ("train_classifier", "train_segmenter"):
            shutil.rmtree(job.params.resume, ignore_errors=True)
            with contextlib.suppress(OSError):  # there are others
                os.removedirs(os.path.dirname(job.params.resume))


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
    if figure not in config["targets"]:
        raise WorkflowError(f"{figure} is not a target of this configuration, which has {', '.join(config['targets'])}")
    return config["figures"][figure]


def network_fields(figure):
    """Results of the networks that a figure shows."""
    return [results(f"networks/{name}.npz") for name in figure_settings(figure)["networks"]]


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
    """Names of the trainings, or reach experiments, of all targets."""
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
