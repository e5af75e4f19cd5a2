"""What must hold of a configuration before anything starts: the schema first, then what a schema cannot say."""

import ast
import functools
import itertools
import shlex
from pathlib import Path

import strict
from strict import brief, near, stop

SCHEMA = Path(workflow.basedir) / "workflow/schemas/config.schema.yaml"
CIFAR10_IMAGES, CIFAR10_TEST = 50_000, 10_000  # of its training and test sets
WIDEST = 32_768  # pixels: a receptive field for which no machine has the memory
LONGEST_JSON = 60_000  # characters: the report's command carries the configuration, and Linux takes no word of 131,072


def check_config():
    """Names that one section uses another defines, networks can be built, and figures can hold against each other what
    they show."""
    strict.check_plain(config)
    for path in map(Path, itertools.chain(workflow.configfiles, workflow.overwrite_configfiles)):
        if path.is_file():  # and no pipe, which Snakemake has read to its end
            strict.check_file(path)
    check_command_line(workflow.config_settings.config)
    schema = strict.read_schema(SCHEMA)
    strict.check_schema(schema, config)
    if "trust" in config and "trust" not in workflow.config_settings.config:
        stop("trust", "only the command line can say whose code may run: --config trust=nets.py")
    for name in config["networks"]:
        check_network(name)
    check_slopes()
    for name in config["models"]:
        check_model(name)
    for name, training in config["trainings"].items():
        dataset, settings = training["dataset"], merged(name)
        strict.check_schema(
            {"$ref": f"#/$defs/{dataset}_training", "$defs": schema["$defs"]}, settings, "trainings", name
        )
        check_training(name, dataset, settings)
    for name in config["reach"]:
        settings = reach_settings(name)
        strict.check_schema({"$ref": "#/$defs/reach", "$defs": schema["$defs"]}, settings, "reach", name)
        check_reach(f"reach.{name}", settings)
    for figure, settings in config["figures"].items():
        for section in ("networks", "trainings", "reach", "models"):
            check_names(f"figures.{figure}.{section}", settings.get(section, []), section)
        if figure in config["targets"] and figure in TOLD_APART_BY:
            check_figure_of_networks(figure, settings["networks"])
        if figure in config["targets"] and figure in ONE_OF_EACH:
            check_figure_of_trainings(figure, settings["trainings"])
    if "reach" in config["targets"]:
        check_figure_of_reach(config["figures"]["reach"]["reach"])
    if "models" in config["targets"]:
        check_figure_of_models(config["figures"]["models"]["models"])
    if (length := len(as_json(config))) > LONGEST_JSON:
        stop("(top level)", f"{length} characters of settings, as JSON; {LONGEST_JSON} can be handled")
    check_claims_file()


def check_command_line(changes):
    """What --config nests is text to Snakemake, numbers too."""
    for path, value in strict.every_value(changes, ()):
        if len(path) > 1 and strict.as_number(value, "number"):
            stop(
                strict.dotted(path),
                "numbers within a section are text to --config; set them in a file, for --configfile",
            )


def check_claims_file():
    """The list of claims, before hours of training and not after them."""
    schema, seen = strict.read_schema(SCHEMA.with_name("claims.schema.yaml")), set()
    for number, claim in enumerate(strict.read_list(Path(CLAIMS), "claims")):
        name = claim.get("id")
        strict.check_schema(schema, claim, "claims", name if isinstance(name, str) else number)
        if name in seen:
            stop(f"claims.{number}.id", f"{name!r} is another claim's, too")
        seen.add(name)
        check_claim(f"claims.{name}", claim)


def check_claim(key, claim):
    """A claim can be judged and drawn: what it calls is there, its values lie between two ends, its formulas are whole."""
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


def check_arguments(key, function, parameters, given):
    """A claim gives a function what it asks for."""
    for name in given:
        if name not in parameters and not parameters.get("**"):
            stop(f"{key}.{name}", f"no argument of {function}{near(name, parameters)}")
    for name, needed in parameters.items():
        if needed and name != "**" and name not in given:
            stop(f"{key}.{name}", f"missing; {function} needs it")


@functools.cache
def claim_functions():
    """What claims may call, by the key that names it: each function's arguments, and whether it must be given them. Read
    from the module's text, since importing it takes longer than everything else here."""
    source = ast.parse((SCRIPTS / "replication/claims/measures.py").read_text(encoding="utf-8"))
    functions = {node.name: node.args for node in source.body if isinstance(node, ast.FunctionDef)}
    found = {}
    for kind, table, own in (("measure", "MEASURES", 1), ("obstacle", "OBSTACLES", 2)):  # own: arguments not of claims
        (assigned,) = (node for node in source.body if isinstance(node, ast.Assign) and node.targets[0].id == table)
        names = [node.id for node in ast.walk(assigned.value) if isinstance(node, ast.Name) and node.id in functions]
        found[kind] = {name: parameters_of(functions[name], own) for name in names}
    return found


def parameters_of(arguments, own):
    """Names of a function's arguments but the first ones, each with whether it has no default; ** if it takes any."""
    names = [argument.arg for argument in arguments.args]
    needed = len(names) - len(arguments.defaults)
    found = {name: number < needed for number, name in enumerate(names) if number >= own}
    return {**found, "**": True} if arguments.kwarg else found


def check_formulas(key, text):
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


def check_training(name, dataset, settings):
    """What a training asks of its dataset is there."""
    key, last = f"trainings.{name}", settings["recipe"]["epochs"]
    if any(epoch > last for epoch in config["snapshots"][dataset]):
        stop(f"snapshots.{dataset}", f"some lie beyond the {last} epochs of {key}")
    registry = config["datasets"][dataset]
    held_out = (
        settings["validation"] + CIFAR10_TEST
        if dataset == "cifar10"
        else registry["splits"]["val"] + registry["splits"]["test"]
    )
    if settings["measure_images"] > held_out:
        stop(f"{key}.measure_images", f"there are only {held_out} images for validation and test")
    if dataset == "cifar10" and settings["batch_size"] > CIFAR10_IMAGES - settings["validation"]:
        left = CIFAR10_IMAGES - settings["validation"]
        stop(f"{key}.batch_size", f"validation leaves only {left} training images")
    if dataset == "camvid":
        if settings["batch_size"] > registry["splits"]["train"]:
            stop(f"{key}.batch_size", f"there are only {registry['splits']['train']} training images")
        if any(side > limit for side, limit in zip(settings["crop"], registry["size"])):
            stop(f"{key}.crop", f"the images have only {registry['size'][0]} x {registry['size'][1]} pixels")


def check_reach(key, settings):
    """The network can be built, and the cue, 3 pixels wide, lies in its receptive field."""
    check_special_layers(key, settings, settings["depth"])
    if settings["structure"] == "skip" and settings["depth"] % 2:
        stop(f"{key}.depth", "with skip connections it is even: blocks of two layers, and one below and above them")
    radius = (receptive_field(key, settings, settings["depth"]) - 1) // 2
    if max(settings["distances"]) > radius - 1:
        stop(f"{key}.distances", f"the cue must lie in the receptive field: at most {radius - 1}")


def receptive_field(key, settings, depth):
    """Side of a network's theoretical receptive field, pixels; it is one that a machine may have the memory for."""
    structure, special, kernel = settings["structure"], settings["special_layers"], settings.get("kernel", 3)
    side, step = 1, 1
    for layer in range(1, depth + 1):
        order = sum(other <= layer for other in special) if layer in special else 0
        side += step * (kernel - 1) * (2**order if structure == "dilation" else 1)
        if order and structure in ("subsample", "average_pool"):
            side += step if structure == "average_pool" else 0
            step *= 2
        if side > WIDEST:
            stop(key, f"the receptive field of {depth} layers is more than {WIDEST} pixels wide")
    return side


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
    for number, name in enumerate(names):
        if name not in config[section]:
            stop(f"{key}.{number}", f"{brief(name)} is not in {section}{near(name, config[section])}")


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
    receptive_field(f"networks.{name}", settings, max(settings["depths"]))


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
        twin = seen.setdefault(traits(settings, *TOLD_APART_BY[figure]), name)
        if twin != name:
            stop(key, f"{name!r} and {twin!r} have the same {' and '.join(TOLD_APART_BY[figure])}")
        if figure == "structures" and ("plain", settings["activation"]) not in seen:
            stop(key, f"{name!r} has no plain network of its activation before it, to be held against")
        if figure == "growth" and name not in config["slopes"]["networks"]:
            stop(key, f"{name!r} is not in slopes.networks")
    if figure == "initialization" and all(network_settings(name)["centre_light"] for name in names):
        stop(key, "one must have a centre_light of 0, to hold the others against")
    if figure == "gaussian_shape":
        check_depths("figures.gaussian_shape.depths", config["figures"][figure]["depths"], names)


def traits(settings, *names):
    """Values of settings, to be compared: 0 is 0.0, and the order of a list is of no account."""
    return tuple(tuple(sorted(value)) if isinstance(value, list) else value for value in map(settings.get, names))


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
        twin = seen.setdefault((*traits(settings, "structure", "centre_light"), steps), name)
        if twin != name:
            stop(key, f"{name!r} and {twin!r} have the same structure, centre_light and number of steps")


def check_model(name):
    """What its factory is given can be handed on, and every channel has a mean and a std."""
    settings = model_settings(name)
    channels = len(settings["mean"])
    if channels != len(settings["std"]):
        stop(f"models.{name}.std", f"{len(settings['std'])} of them, but {channels} in mean: one for each channel")
    if settings["images"] != "noise" and channels not in (1, 3):
        stop(f"models.{name}.mean", f"images of a folder have 3 channels, or 1, not {channels}")
    try:
        as_json(settings["kwargs"])
    except TypeError:  # YAML knows dates, and sets
        stop(f"models.{name}.kwargs", "only text, numbers, true, false, null, lists and sections can be handed on")


def check_figure_of_models(names):
    """The files that its models need are there, Snakemake can take them, and the user has named those that are code."""
    for name in names:
        settings = model_settings(name)
        for key, path in (("factory", settings["factory"].rpartition(":")[0]), ("weights", settings["weights"])):
            if (
                path not in ("none", "default")
                and (key == "weights" or path.endswith(".py"))
                and not os.path.isfile(path)
            ):
                stop(f"models.{name}.{key}", f"there is no file {brief(path)}")
        if settings["images"] != "noise" and not os.path.isdir(settings["images"]):
            stop(f"models.{name}.images", f"there is no folder {brief(settings['images'])}")
        code = model_code(name)
        if not is_library(code) and not is_named(code, trusted()):
            given = shlex.quote(f"trust={code}") if code.isprintable() and len(code) < 100 else "trust=..."
            stop(f"models.{name}.factory", f"{brief(code)} is code; if you know what it does, add --config {given}")
        model_files(name)


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


check_config()
