"""What must hold of a configuration before anything starts: the schema first, then what a schema cannot say."""

import ast
import functools
import itertools
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from erf.models.trust import lies_in
from erf.theory import stack_rf
from lib import strict
from lib.configuration import Configuration
from lib.figures import FIGURES
from lib.run import Run, as_json, is_library
from lib.strict import brief, near, stop
from replication.datasets.table import DATASETS
from replication.stacks.structures import STRUCTURES, WITH_SPECIAL_LAYERS, structure, theory_stack

SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"
MEASURES = Path(__file__).resolve().parents[2] / "scripts/replication/claims/measures.py"
ALONE = {  # sections of which figures name entries, and the file of an entry that can be asked for
    "networks": "networks/{name}.csv",
    "trainings": "erf/{name}/seed_0.csv",
    "reach": "reach/{name}/seed_0.csv",
    "models": "models/{name}.csv",
    "questions": "questions/{name}.csv",
}
WIDEST = 32_768  # pixels: a receptive field for which no machine has the memory


def check_config(run: Run, files: Iterable[str], changes: dict) -> None:
    """Names that one section uses another defines, networks can be built, and figures can hold against each other what
    they show.

    files : that the configuration was read from
    changes : of the command line
    """
    configuration = run.configuration
    strict.check_plain(configuration.config)
    for path in map(Path, files):
        if path.is_file():  # and no pipe, which Snakemake has read to its end
            strict.check_file(path)
    check_command_line(changes)
    schema = config_schema()
    strict.check_schema(schema, configuration.config)
    if "trust" in configuration.config and "trust" not in changes:
        stop("trust", "only the command line can say whose code may run: --config=trust=nets.py")
    for name in configuration["networks"]:
        check_network(name, configuration.network(name))
    check_slopes(configuration)
    check_coverage(configuration)
    for name in configuration["models"]:
        check_model(name, configuration.model(name))
    for name in configuration["trainings"]:
        dataset, settings = configuration.dataset_of(name), configuration.training(name)
        part = {"$ref": f"#/$defs/{dataset}_training", "$defs": schema["$defs"]}
        strict.check_schema(part, settings, "trainings", name)
        check_training(configuration, name, dataset, settings)
    for name in configuration["reach"]:
        settings = configuration.reach(name)
        strict.check_schema({"$ref": "#/$defs/reach", "$defs": schema["$defs"]}, settings, "reach", name)
        check_reach(f"reach.{name}", settings)
    for figure, shown in configuration["figures"].items():
        for section in FIGURES[figure].shows:
            check_names(configuration, f"figures.{figure}.{section}", shown[section], section)
    for figure in configuration.targets:
        check_figure(run, figure, configuration["figures"][figure])
    check_claims_file(Path(run.place.claims))


@functools.cache
def config_schema() -> dict:
    """The schema of a configuration: its file's, with what the tables of figures and datasets say."""
    schema = strict.read_schema(SCHEMAS / "config.schema.yaml")
    sections = schema["properties"]
    sections["targets"]["items"] = {"enum": list(FIGURES)}
    sections["figures"] |= {
        "required": list(FIGURES),
        "properties": {name: figure.schema() for name, figure in FIGURES.items()},
    }
    by_dataset = {
        "datasets": {name: {"$ref": f"#/$defs/{name}_source"} for name in DATASETS},
        "snapshots": {name: {"$ref": "#/$defs/epochs_kept"} for name in DATASETS},
        "training_defaults": {name: {"$ref": f"#/$defs/{name}_training"} for name in DATASETS},
    }
    for section, properties in by_dataset.items():
        sections[section] |= {"required": list(DATASETS), "properties": properties}
    sections["trainings"]["additionalProperties"]["properties"]["dataset"] = {"enum": list(DATASETS)}
    schema["$defs"]["network"]["properties"]["structure"]["enum"] = list(STRUCTURES)
    schema["$defs"]["scores_by_dataset"] |= {
        "required": list(DATASETS),
        "properties": {name: {"$ref": "#/$defs/scores"} for name in DATASETS},
    }
    return schema


def check_command_line(changes: dict) -> None:
    """What --config nests is text to Snakemake, numbers too."""
    for path, value in strict.every_value(changes, ()):
        if len(path) > 1 and strict.as_number(value, "number"):
            stop(
                strict.dotted(path),
                "numbers within a section are text to --config; set them in a file, for --configfile",
            )


def check_names(configuration: Configuration, key: str, names: Sequence[str], section: str) -> None:
    """What one section uses, another defines."""
    for number, name in enumerate(names):
        if name not in configuration[section]:
            stop(f"{key}.{number}", f"{brief(name)} is not in {section}{near(name, configuration[section])}")


def unshown(run: Run) -> Iterator[str]:
    """Entries that `all` leaves out, since no target shows them, one line each. Those that the paper's configuration
    shows are not told: another may show less."""
    paper = Configuration(strict.read(run.place.project / "config/config.yaml"))
    for section, path in ALONE.items():
        known = {*shown_in(paper, section), *shown_in(run.configuration, section)}
        known |= {*paper["trainings"]} if section == "trainings" else set()
        figures = [name for name, figure in FIGURES.items() if section in figure.shows]
        for name in run.configuration[section]:
            if name not in known:
                where = " or ".join(f"figures.{figure}.{section}" for figure in figures[:2])
                alone = run.place.results(path.format(name=name))
                yield f"{section}.{name}: no target shows it, so it is left out: add it to {where}, or ask for {alone}"


def shown_in(configuration: Configuration, section: str) -> list[str]:
    """Names of a section's entries that the targets measure, or `make coverage`."""
    if section != "networks":
        return configuration.used(section)
    coverage = configuration["coverage"]
    return [*configuration.measured_networks(), *coverage["networks"], *coverage["structures"]]


# Networks, trainings, models.


def check_network(name: str, settings: dict) -> None:
    """A network of these settings can be built, and means something."""
    if settings["weights"] == "uniform" and settings["activation"] != "none":
        stop(f"networks.{name}.activation", "uniform weights are measured without an activation")
    if settings["weights"] == "uniform" and settings["centre_light"]:
        stop(f"networks.{name}.centre_light", "uniform weights are all equal")
    check_taps(f"networks.{name}.taps", settings)
    if settings["structure"] == "skip" and min(settings["depths"]) < 3:
        stop(f"networks.{name}.depths", "a network with skip connections has at least 3 layers")
    check_special_layers(f"networks.{name}", settings, min(settings["depths"]))
    receptive_field(f"networks.{name}", settings, max(settings["depths"]))


def check_taps(key: str, settings: dict) -> None:
    """Taps are there for fixed weights, fit the kernel, and are a distribution."""
    taps = settings["taps"]
    if settings["weights"] == "fixed" and not taps:
        stop(key, "fixed weights need one number for each position of the kernel along an axis")
    if not taps:
        return
    if settings["weights"] == "uniform":
        stop(key, "uniform weights are all equal")
    if settings["weights"] == "fixed" and settings["activation"] != "none":
        stop(f"{key.removesuffix('.taps')}.activation", "fixed weights are measured without an activation")
    if settings["centre_light"]:
        stop(f"{key.removesuffix('.taps')}.centre_light", "a kernel has either taps or a centre_light")
    if len(taps) != settings["kernel"]:
        stop(key, f"a kernel of side {settings['kernel']} needs {settings['kernel']} numbers, not {len(taps)}")
    if not sum(taps) > 0:
        stop(key, "they are all zero")


def check_special_layers(key: str, settings: dict, depth: int) -> None:
    """The layers that a structure treats in a special way are there."""
    if settings["structure"] in WITH_SPECIAL_LAYERS:
        key, special = f"{key}.special_layers", settings["special_layers"]
        if not special:
            stop(key, f"{settings['structure']} needs at least one")
        if max(special) > depth:
            stop(key, f"a network of {depth} layers has no layer {max(special)}")


def receptive_field(key: str, settings: dict, depth: int) -> int:
    """Side of a network's theoretical receptive field, pixels; it is one that a machine may have the memory for."""
    special = tuple(settings["special_layers"]) if settings["structure"] in WITH_SPECIAL_LAYERS else ()
    layers = structure(settings["structure"], depth, settings.get("kernel", 3), special)
    side = max(stack_rf(theory_stack(layers, "uniform")))
    if side > WIDEST:
        stop(key, f"the receptive field of {depth} layers is more than {WIDEST} pixels wide")
    return side


def check_training(configuration: Configuration, name: str, dataset: str, settings: dict) -> None:
    """What a training asks of its dataset is there."""
    key, last = f"trainings.{name}", settings["recipe"]["epochs"]
    if any(epoch > last for epoch in configuration["snapshots"][dataset]):
        stop(f"snapshots.{dataset}", f"some lie beyond the {last} epochs of {key}")
    source, validation = configuration["datasets"][dataset], settings.get("validation", 0)
    images = source.get("splits", DATASETS[dataset].images)  # in each split
    train, held_out = images["train"] - validation, sum(images.values()) - images["train"] + validation
    if settings["images"] > held_out:
        stop(f"{key}.images", f"there are only {held_out} images for validation and test")
    if settings["batch_size"] > train:
        left = f"validation leaves only {train}" if validation else f"there are only {train}"
        stop(f"{key}.batch_size", f"{left} training images")
    if "crop" in settings and any(side > limit for side, limit in zip(settings["crop"], source["size"], strict=True)):
        stop(f"{key}.crop", f"the images have only {source['size'][0]} x {source['size'][1]} pixels")
    if settings.get("label_shift", 0) >= settings.get("crop", [0, 1])[1]:
        stop(f"{key}.label_shift", f"no label is left in a crop of {settings['crop'][1]} columns")


def check_reach(key: str, settings: dict) -> None:
    """The network can be built, and the cue, 3 pixels wide, lies in its receptive field."""
    check_special_layers(key, settings, settings["depth"])
    if settings["structure"] == "skip" and settings["depth"] % 2:
        stop(f"{key}.depth", "with skip connections it is even: blocks of two layers, and one below and above them")
    radius = (receptive_field(key, settings, settings["depth"]) - 1) // 2
    if max(settings["distances"]) > radius - 1:
        stop(f"{key}.distances", f"the cue must lie in the receptive field: at most {radius - 1}")


def check_model(name: str, settings: dict) -> None:
    """What its factory is given can be handed on, and every channel has a mean and a std."""
    channels = len(settings["mean"])
    if channels != len(settings["std"]):
        stop(f"models.{name}.std", f"{len(settings['std'])} of them, but {channels} in mean: one for each channel")
    if settings["source"] != "noise" and channels not in (1, 3):
        stop(f"models.{name}.mean", f"images of a folder have 3 channels, or 1, not {channels}")
    try:
        as_json(settings["kwargs"])
    except TypeError:  # YAML knows dates, and sets
        stop(f"models.{name}.kwargs", "only text, numbers, true, false, null, lists and sections can be handed on")


def check_slopes(configuration: Configuration) -> None:
    """Slopes are of plain networks, at depths at which they are measured."""
    slopes = configuration["slopes"]
    for key, section in (("slopes.networks", slopes), ("slopes.samples.networks", slopes["samples"])):
        check_names(configuration, key, section["networks"], "networks")
        for name in section["networks"]:
            settings = configuration.network(name)
            if settings["structure"] != "plain" or settings["centre_light"] or settings["taps"]:
                stop(key, f"{name!r} is not plain")
    check_ranges("slopes.depths", slopes["depths"])
    check_ranges("slopes.samples.depths", slopes["samples"]["depths"])
    ranges, counts = len(slopes["samples"]["depths"]), len(slopes["samples"]["counts"])
    if counts != ranges:
        stop("slopes.samples.counts", f"{counts} of them, but {ranges} ranges of depths: one for each range")
    check_depths(configuration, "slopes.depths", [*itertools.chain(*slopes["depths"])], slopes["networks"])


def check_coverage(configuration: Configuration) -> None:
    """The repeated experiments are with networks of random weights, at depths that they can have."""
    section = configuration["coverage"]
    for key in ("networks", "drifting", "structures"):
        check_names(configuration, f"coverage.{key}", list(section[key]), "networks")
        for name in section[key]:
            settings = configuration.coverage_network(key, name)
            if settings["weights"] != "random":
                stop(f"coverage.{key}", f"{name!r} has no random weights: its runs are all the same")
            if settings["runs"] < 2:
                stop(f"coverage.{key}", f"{name!r} has one run, and so no interval")
            check_network(name, settings if key == "structures" else {**settings, "depths": section["depths"]})
            if key != "structures" and (settings["structure"] != "plain" or settings["centre_light"]):
                stop(f"coverage.{key}", f"{name!r} is not plain")
    for depth in section["shape_depths"]:
        if depth not in section["depths"]:
            stop("coverage.shape_depths", f"{depth} is not among coverage.depths")
    if section["images"]["network"] not in configuration["networks"]:
        stop("coverage.images.network", f"{section['images']['network']!r} is not in networks")
    seen = configuration.network(section["images"]["network"])
    if seen["weights"] != "random":
        stop(
            "coverage.images.network",
            f"{section['images']['network']!r} has no random weights: all images give the same",
        )
    check_network(section["images"]["network"], {**seen, "depths": [section["images"]["depth"]]})
    compared = {name: configuration.coverage_network("structures", name) for name in section["structures"]}
    if sum(settings["structure"] == "plain" for settings in compared.values()) != 1:
        stop("coverage.structures", "one must be plain, and the others not")
    if any(len(settings["depths"]) > 1 for settings in compared.values()):
        stop("coverage.structures", "each must have one depth")
    for trait in ("depths", "runs", "activation"):
        if len({str(settings[trait]) for settings in compared.values()}) > 1:
            stop("coverage.structures", f"they must not differ in {trait}")


def check_ranges(key: str, ranges: Sequence[Sequence[int]]) -> None:
    """No two ranges of depths have the same ends, by which tables name them."""
    ends = [(min(depths), max(depths)) for depths in ranges]
    for first, last in ends:
        if ends.count((first, last)) > 1:
            stop(key, f"two ranges from {first} to {last} layers could not be told apart")


def check_depths(configuration: Configuration, key: str, depths: Sequence[int], names: Sequence[str]) -> None:
    """All these networks are measured at all these depths."""
    for name in names:
        measured = configuration.network(name)["depths"]
        for depth in depths:
            if depth not in measured:
                stop(key, f"{name!r} is not measured at {depth} layers, but at {', '.join(map(str, measured))}")


# Figures: what they hold against each other can be.


def check_figure(run: Run, figure: str, shown: dict) -> None:
    """What a figure shows can be told apart, and held against each other."""
    configuration, told = run.configuration, FIGURES[figure]
    if told.told_apart_by:
        check_figure_of_networks(configuration, figure, shown["networks"])
    if told.one_of_each:
        check_figure_of_trainings(configuration, figure, shown["trainings"])
    if figure == "fixed_point":
        check_figure_of_fixed_point(configuration, shown["trainings"], shown["windows"])
    if figure == "reach":
        check_figure_of_reach(configuration, shown["reach"])
    if figure == "models":
        check_figure_of_models(run, shown["models"])


def check_figure_of_networks(configuration: Configuration, figure: str, names: Sequence[str]) -> None:
    """The networks of a figure can be compared, told apart, and were measured as it shows them."""
    key, told, seen = f"figures.{figure}.networks", FIGURES[figure], {}
    first = configuration.network(names[0])
    for name in names:
        settings = configuration.network(name)
        if "abs" not in settings["variants"]:
            stop(key, f"{name!r} is not measured in the variant abs, of which maps are drawn")
        for trait in told.alike:
            if settings[trait] != first[trait]:
                stop(key, f"{name!r} and {names[0]!r} differ in {trait}")
        if figure != "moments" and (settings["taps"] or settings["kernel"] % 2 == 0):
            stop(key, f"{name!r} has {'taps' if settings['taps'] else 'an even kernel'}, which moments alone draws")
        if "depths" in told.alike and len(settings["depths"]) > 1:
            stop(key, f"{name!r} must have one depth")
        if "structure" in told.alike and settings["structure"] != "plain":
            stop(key, f"{name!r} is not plain")
        twin = seen.setdefault(traits(settings, *told.told_apart_by), name)
        if twin != name:
            stop(key, f"{name!r} and {twin!r} have the same {' and '.join(told.told_apart_by)}")
        if figure == "structures" and ("plain", settings["activation"]) not in seen:
            stop(key, f"{name!r} has no plain network of its activation before it, to be held against")
        if figure == "growth" and name not in configuration["slopes"]["networks"]:
            stop(key, f"{name!r} is not in slopes.networks")
    if figure == "initialization" and all(configuration.network(name)["centre_light"] for name in names):
        stop(key, "one must have a centre_light of 0, to hold the others against")
    if figure == "gaussian_shape":
        depths = configuration["figures"][figure]["depths"]
        check_depths(configuration, "figures.gaussian_shape.depths", depths, names)


def traits(settings: dict, *names: str) -> tuple:
    """Values of settings, to be compared: 0 is 0.0, and the order of a list is of no account, but that of taps."""
    values = ((name, settings.get(name)) for name in names)
    return tuple(
        tuple(value if name == "taps" else sorted(value)) if isinstance(value, list) else value
        for name, value in values
    )


def check_figure_of_trainings(configuration: Configuration, figure: str, names: Sequence[str]) -> None:
    """The trainings of a figure differ in one setting of the network, and have the same seeds."""
    key, trait, seen = f"figures.{figure}.trainings", FIGURES[figure].one_of_each, {}
    for name in names:
        dataset, settings = configuration.dataset_of(name), configuration.training(name)
        value = settings["network"].pop(trait)
        first = seen.setdefault(dataset, {"name": name, "settings": settings, "values": {}})
        if settings != first["settings"]:
            stop(key, f"{name!r} and {first['name']!r} differ in more than {trait}")
        twin = first["values"].setdefault(value, name)
        if twin != name:
            stop(key, f"{name!r} and {twin!r} have the same {trait}")
    for dataset, found in seen.items():
        if trait == "centre_light" and 0 not in found["values"]:
            stop(key, f"one on {dataset} must have a centre_light of 0, to hold the others against")


def check_figure_of_fixed_point(configuration: Configuration, names: Sequence[str], windows: Sequence[dict]) -> None:
    """Its runs are independent, on one dataset, and differ in their start and the shift of their labels alone; there
    are enough of them, and snapshots where growth is taken."""
    key, seen, users, first = "figures.fixed_point.trainings", {}, {}, None
    for name in names:
        dataset, settings = configuration.dataset_of(name), configuration.training(name)
        what = settings["network"].pop("residual_scale"), settings.pop("label_shift", 0)
        for seed in settings.pop("seeds"):
            if (twin := users.setdefault(seed, name)) != name:
                stop(key, f"{name!r} and {twin!r} both have the seed {seed}: each run needs one of its own")
        first = first or (name, dataset, settings)
        if (dataset, settings) != first[1:]:
            stop(key, f"{name!r} and {first[0]!r} differ in more than residual_scale, label_shift and seeds")
        if (twin := seen.setdefault(what, name)) != name:
            stop(key, f"{name!r} and {twin!r} have the same residual_scale and label_shift")
    shifts = [shift for _, shift in seen]
    for shift in sorted({0, *shifts}):
        if shifts.count(shift) < 2:
            stop(key, f"labels that are shifted by {shift} pixels need two starts, and have {shifts.count(shift)}")
    if len(users) < len({*shifts}) + 2:
        stop(key, f"{len(users)} runs leave nothing to tell their scatter by: give them more seeds")
    kept = configuration["snapshots"][first[1]]
    for number, window in enumerate(windows):
        for part, (begin, end) in window.items():
            if not any(begin <= epoch <= end for epoch in kept):
                stop(
                    f"figures.fixed_point.windows.{number}.{part}", f"no snapshot is of an epoch from {begin} to {end}"
                )
        if window["early"][1] >= window["late"][0]:
            stop(f"figures.fixed_point.windows.{number}", "early must end before late begins")


def check_figure_of_reach(configuration: Configuration, names: Sequence[str]) -> None:
    """The networks of the figure differ in structure, initialisation and length of training, and in nothing else."""
    key, seen, first = "figures.reach.reach", {}, configuration.reach(names[0])
    for name in names:
        settings = configuration.reach(name)
        for trait in ("depth", "width", "batch_size", "images", "seeds"):
            if settings[trait] != first[trait]:
                stop(key, f"{name!r} and {names[0]!r} differ in {trait}")
        if settings["centre_light"] and settings["structure"] != "plain":
            stop(key, f"{name!r} is centre-light, and must be plain then")
        steps = settings["steps"] * settings["recipe"]["epochs"]
        twin = seen.setdefault((*traits(settings, "structure", "centre_light"), steps), name)
        if twin != name:
            stop(key, f"{name!r} and {twin!r} have the same structure, centre_light and number of steps")


def check_figure_of_models(run: Run, names: Sequence[str]) -> None:
    """The files that its models need are there, Snakemake can take them, and the user has named those that are code."""
    for name in names:
        settings, code = run.configuration.model(name), run.model_code(name)
        for key, path in (("factory", code), ("weights", settings["weights"])):
            if (
                path not in ("none", "default")
                and (key == "weights" or path.endswith(".py"))
                and not os.path.isfile(path)  # noqa: PTH113, a name may be too long for pathlib
            ):
                stop(f"models.{name}.{key}", f"there is no file {brief(path)}")
        if settings["source"] != "noise" and not os.path.isdir(settings["source"]):  # noqa: PTH112
            stop(f"models.{name}.source", f"there is no folder {brief(settings['source'])}")
        if not is_library(code) and not lies_in(code, run.configuration.trusted):
            given = shlex.quote(f"trust={code}") if code.isprintable() and len(code) < 100 else "trust=..."
            stop(f"models.{name}.factory", f"{brief(code)} is code; if you know what it does, add --config {given}")
        run.model_files(name)


# The list of claims.


def check_claims_file(path: Path) -> None:
    """The list of claims, before hours of training and not after them."""
    schema, seen = claims_schema(), set()
    for number, claim in enumerate(strict.read_list(path, "claims")):
        name = claim.get("id")
        strict.check_schema(schema, claim, "claims", name if isinstance(name, str) else number)
        if name in seen:
            stop(f"claims.{number}.id", f"{name!r} is another claim's, too")
        seen.add(name)
        check_claim(f"claims.{name}", claim)


@functools.cache
def claims_schema() -> dict:
    """The schema of a claim, with the names of figures, structures and datasets."""
    schema = strict.read_schema(SCHEMAS / "claims.schema.yaml")
    schema["properties"]["figure"]["enum"] = list(FIGURES)
    arguments = schema["properties"]["of"]["properties"]
    arguments["structure"]["enum"] = [name for name in STRUCTURES if name != "plain"]
    arguments["dataset"]["enum"] = list(DATASETS)
    return schema


def check_claim(key: str, claim: dict) -> None:
    """A claim can be judged and drawn: what it calls is there, its values lie between two ends, its formulas are
    whole."""
    for kind, known in claim_functions().items():
        if function := claim.get(kind):
            if function not in known:
                stop(f"{key}.{kind}", f"there is no {kind} {brief(function)}{near(function, known)}")
            check_arguments(f"{key}.of", function, known[function], claim.get("of", {}))
    low, high = claim["accept"].get("between", (0, 0))
    if low > high:
        stop(f"{key}.accept.between", f"the lower end comes first: [{high:g}, {low:g}]")
    for text in ("topic", "statement", "paper", "unit"):
        check_formulas(f"{key}.{text}", claim.get(text, ""))


def check_arguments(key: str, function: str, parameters: dict[str, bool], given: dict) -> None:
    """A claim gives a function what it asks for."""
    for name in given:
        if name not in parameters and not parameters.get("**"):
            stop(f"{key}.{name}", f"no argument of {function}{near(name, parameters)}")
    for name, needed in parameters.items():
        if needed and name != "**" and name not in given:
            stop(f"{key}.{name}", f"missing; {function} needs it")


@functools.cache
def claim_functions() -> dict[str, dict[str, dict[str, bool]]]:
    """What claims may call, by the key that names it: each function's arguments, and whether it must be given them.
    Read from the module's text, since importing it takes longer than everything else here."""
    source = ast.parse(MEASURES.read_text(encoding="utf-8"))
    functions = {node.name: node.args for node in source.body if isinstance(node, ast.FunctionDef)}
    found = {}
    for kind, table, own in (("measure", "MEASURES", 1), ("obstacle", "OBSTACLES", 2)):  # own: arguments not of claims
        (assigned,) = (node for node in source.body if isinstance(node, ast.Assign) and node.targets[0].id == table)
        names = [node.id for node in ast.walk(assigned.value) if isinstance(node, ast.Name) and node.id in functions]
        found[kind] = {name: parameters_of(functions[name], own) for name in names}
    return found


def parameters_of(arguments: ast.arguments, own: int) -> dict[str, bool]:
    """Names of a function's arguments but the first ones, each with whether it has no default; ** if it takes any."""
    names = [argument.arg for argument in arguments.args]
    needed = len(names) - len(arguments.defaults)
    found = {name: number < needed for number, name in enumerate(names) if number >= own}
    return {**found, "**": True} if arguments.kwarg else found


def check_formulas(key: str, text: str) -> None:
    """What stands between two $ is a formula to matplotlib."""
    if "$" not in text:
        return
    try:
        from matplotlib import cbook, mathtext
    except ImportError:  # Snakemake runs in an environment of its own
        return
    if cbook.is_math_text(text):
        try:
            mathtext.MathTextParser("path").parse(text)
        except ValueError as error:
            problem = str(error).strip().splitlines()[-1]
            stop(key, f"no formula that matplotlib can read ({brief(problem)[1:-1]}); a dollar sign is written \\$")
