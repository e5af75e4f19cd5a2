"""Bad configurations: each ends in one line that names the key, before anything starts, and none reaches a shell."""

import contextlib
import copy
import datetime
import functools
import itertools
import json
import math
import os
import random
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT, Project, network_settings, snakemake
from erf.theory import stack_rf
from lib import checks, strict
from lib.configuration import Configuration, on_top
from lib.place import Place
from lib.run import Run
from replication.stacks.structures import STRUCTURES, structure_of, theory_stack

PAPER = yaml.safe_load((ROOT / "config/config.yaml").read_text())
SCHEMA = checks.config_schema()


def check(config: dict, folder: Path = ROOT, files: tuple = (), changes: dict | None = None) -> Run:
    """Check a configuration as the rules do."""
    changes = changes or {}
    run = Run(Configuration(config, changes.get("trust")), Place(folder, "any"), rules=None, workflow=None)
    checks.check_config(run, files, changes)
    return run


def line_of(config: dict, **options) -> str | None:
    """The one line in which a configuration ends; None if it is good."""
    try:
        check(config, **options)
    except SystemExit as stopped:
        assert stopped.code.isprintable() and len(stopped.code) < 400, stopped.code
        assert stopped.code.startswith("error: config: ")
        return stopped.code
    return None


def changed(path: str | tuple, value: object, config: dict = PAPER) -> dict:
    """The configuration with one key, given by its path, set to a value (removed, if that is `...`)."""
    config = copy.deepcopy(config)
    *parents, last = path.split(".") if isinstance(path, str) else path
    node = config
    for key in parents:
        node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return config


# The schema's own account of what is good and bad, for every key that it has.

# The paper's configuration, in which one network and one model say everything: nothing of the schema is left out.
FULL = changed("networks.uniform", {**PAPER["network_defaults"], **PAPER["networks"]["uniform"]})
FULL = changed("models.alexnet", {**PAPER["model_defaults"], **PAPER["models"]["alexnet"]}, FULL)
Position = tuple  # keys and numbers of entries, from the top
Part = tuple[Position, dict, dict]  # where settings lie that are held against a schema, the schema, and the settings


def checked_parts() -> list[Part]:
    """What is held against a schema, once for each schema: recorded from a run, so that a new one is among them."""
    found, check_schema = {}, strict.check_schema

    def record(schema, part, *place):
        found.setdefault(json.dumps(schema), (place, schema, part))
        check_schema(schema, part, *place)

    strict.check_schema = record
    try:
        check(FULL)
    finally:
        strict.check_schema = check_schema
    return [part for part in found.values() if part[0][:1] != ("claims",)]


def resolved(schema: dict, root: dict) -> dict:
    """The schema with what it refers to."""
    while "$ref" in schema:
        inner = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        schema = inner | {key: value for key, value in schema.items() if key != "$ref"}
    return schema


def ends(schema: dict) -> tuple:
    """The lowest and the highest number that a schema lets through."""
    low = schema["minimum"] if "minimum" in schema else math.nextafter(schema["exclusiveMinimum"], math.inf)
    high = schema["maximum"] if "maximum" in schema else math.nextafter(schema["exclusiveMaximum"], -math.inf)
    return low, high


def good_values(schema: dict, value: object, root: dict) -> Iterator:
    """Values at the ends of what a schema lets through in place of `value`, which it does too."""
    schema = resolved(schema, root)
    yield value
    match schema:
        case {"enum": choices}:
            yield from choices
        case {"anyOf": branches}:
            for branch, example in zip(branches, EXAMPLES_OF[schema["anyOfErrorMessage"]], strict=True):
                yield from good_values(branch, example, root)
        case {"type": "integer" | "number"}:
            yield from ends(schema)
        case {"type": "string", "maxLength": longest} if re.fullmatch(schema["pattern"], "a" * longest):
            yield "a" * longest
        case {"type": "array"}:
            wanted = [part["contains"]["const"] for part in (schema, *schema.get("allOf", [])) if "contains" in part]
            fewest = value[: schema.get("minItems", 0)]
            yield fewest if all(one in fewest for one in wanted) else wanted
            value = value or [1]  # taps and more_runs.depths are empty in the paper's configuration
            for item in good_values(schema["items"], value[-1], root):
                kept = [*value[:-1], *(one for one in wanted if one not in value[:-1])]
                if item not in kept or not schema.get("uniqueItems"):
                    yield [*kept, item]
        case {"type": "object"}:
            for key, inner in inner_schemas(schema, value):
                yield from ({**value, key: good} for good in good_values(inner, value[key], root))


def inner_schemas(schema: dict, section: dict) -> list[tuple[str, dict]]:
    """Keys of a section with their schemas; of names that anybody may give, the first."""
    properties = schema.get("properties", {})
    found = [(key, properties[key]) for key in properties if key in section]
    if isinstance(schema.get("additionalProperties"), dict):
        found.append((next(iter(section)), schema["additionalProperties"]))
    return found


EXAMPLES_OF = {  # one for each branch of what may be of several kinds
    "center, or row and column as [7, 7]": ["center", [7, 7]],
    "sum, each, or the number of a channel": ["sum", 3],
}


KIND = {"integer": int, "number": int | float, "string": str, "array": list, "object": dict}
KINDS = [None, True, "text", 5, 5.5, math.nan, [], [[]], {}, {"a": 1}]
BAD_NAMES = ["", "a\n", "a;b", "$(a)", "-a", "a" * 201, "é", 1, None, True]


def bad_values(schema: dict, value: object, root: dict) -> Iterator[tuple[Position, object]]:
    """Values that a schema must refuse in place of `value`, each with the place in it of what is wrong."""
    schema = resolved(schema, root)
    if "anyOf" in schema:
        for branch, example in zip(schema["anyOf"], EXAMPLES_OF[schema["anyOfErrorMessage"]], strict=True):
            others = tuple(KIND[other["type"]] for other in schema["anyOf"] if other is not branch and "type" in other)
            for inner, bad in bad_values(branch, example, root):
                if isinstance(bad, bool) or not isinstance(bad, others):
                    yield inner if "0" * 400 in repr(bad) else (), bad  # too long a number is named by itself
        return
    kind = schema.get("type")
    yield from (((), bad) for bad in KINDS if isinstance(bad, bool) or not kind or not isinstance(bad, KIND[kind]))
    if "enum" in schema:
        yield from (((), bad) for choice in schema["enum"] for bad in (f"{choice}x", [choice]))
        yield from (((), float(choice)) for choice in schema["enum"] if isinstance(choice, int))
    elif kind in ("integer", "number"):
        yield from (((), bad) for bad in bad_numbers(schema))
    elif kind == "string":
        yield from (
            ((), bad) for bad in (f"{value}\n", f"\n{value}", f"{value}\0", "{input}", "\x1b[31m", "\ud800", "a" * 1001)
        )
        yield from (((), bad) for bad in schema.get("not", {}).get("enum", ()))
    elif kind == "array":
        yield from bad_lists(schema, value, root)
    else:
        yield from bad_sections(schema, value, root)


def bad_numbers(schema: dict) -> Iterator:
    (low, high), whole = ends(schema), schema["type"] == "integer"
    yield from (low - 1, high + 1) if whole else (math.nextafter(low, -math.inf), math.nextafter(high, math.inf))
    yield from (math.inf, -math.inf, math.nan, str(high), "5e-4", "1_000", 10**400, -(10**400))
    if whole:
        yield float(low)


def bad_lists(schema: dict, value: list, root: dict) -> Iterator[tuple[Position, object]]:
    value = value or [1]
    if schema.get("minItems"):
        yield (), value[: schema["minItems"] - 1]
    if "maxItems" in schema:
        more = itertools.count(max(value)) if isinstance(value[0], int) else itertools.repeat(value[0])
        yield (), list(itertools.islice(more, schema["maxItems"] + 1))
    if schema.get("uniqueItems"):
        yield (), [*value, value[0]]
    if "contains" in schema:
        yield (), [item for item in value if item != schema["contains"]["const"]]
    for inner, bad in bad_values(schema["items"], value[-1], root):
        yield (len(value) - 1, *inner), [*value[:-1], bad]


def bad_sections(schema: dict, value: dict, root: dict) -> Iterator[tuple[Position, object]]:
    properties, more = schema.get("properties", {}), schema.get("additionalProperties")
    if schema.get("minProperties"):
        yield (), {}
    for key in schema.get("required", ()):
        yield (key,), {other: kept for other, kept in value.items() if other != key}
    for key in properties if more is False else ():
        others = {other: kept for other, kept in value.items() if other != key}
        for bad in {key[:-2] + key[:-3:-1], f"{key}s", key.upper(), f" {key}", 1, None} - properties.keys():
            yield (bad,), {**others, bad: value.get(key)}
    if "propertyNames" in schema:
        yield from (((bad,), {**value, bad: next(iter(value.values()))}) for bad in BAD_NAMES)
    for key, inner_schema in inner_schemas(schema, value):
        for inner, bad in bad_values(inner_schema, value[key], root):
            yield (key, *inner), {**value, key: bad}


def bad_configurations() -> Iterator[tuple[str, dict]]:
    """The key in which a configuration is bad, and the configuration."""
    for place, schema, part in checked_parts():
        for inner, bad in bad_values(schema, part, schema):
            if not place:
                yield strict.dotted(inner), bad
            elif isinstance(bad, dict) and str(on_top(part, bad)) != str(part):  # it lies on defaults, which are whole
                dataset = FULL[place[0]][place[1]].get("dataset")
                yield strict.dotted((*place, *inner)), changed(place, {"dataset": dataset, **bad} if dataset else bad)


def test_every_bad_configuration_ends_in_one_line_that_names_the_key():
    count, missed = 0, []
    for key, config in bad_configurations():
        count += 1
        line = line_of(config)
        if not line or not line.startswith(f"error: config: {key}: "):
            missed.append((key, line))
    assert not missed, (len(missed), missed[:20])
    assert count > 3000


def test_every_value_at_an_end_of_its_range_is_let_through():
    count = 0
    for place, schema, part in checked_parts():
        for good in good_values(schema, part, schema):
            strict.check_schema(schema, good, *place)
            count += 1
    assert count > 400


def test_every_number_has_two_ends_and_every_text_is_bounded():
    def nodes(node):
        if isinstance(node, dict):
            yield node
        for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from nodes(inner)

    for node in nodes(SCHEMA):
        if node.get("type") in ("integer", "number") and "enum" not in node:
            assert {"minimum", "exclusiveMinimum"} & node.keys() and {"maximum", "exclusiveMaximum"} & node.keys(), node
        if "pattern" in node:
            assert "patternErrorMessage" in node and ("maxLength" in node or "{" in node["pattern"]), node


BAD = [
    ("devise", "cpu", "devise: not a setting; did you mean 'device'?"),
    ("device", "gpu", "device: must be one of auto, cpu, cuda, not 'gpu'; did you mean 'cpu'?"),
    ("name", "../elsewhere", "name: must be lower-case letters, digits and _, a letter first, not '../elsewhere'"),
    ("name", 2024, "name: must be text, not 2024; put it in quotes"),
    ("name", "reference", "name: must not be 'reference', which has another use"),
    ("name", "article", "name: must not be 'article', which has another use"),
    (
        "targets",
        ["grwoth"],
        "targets.0: must be one of convolution, gaussian_shape, nonlinearity, structures, growth,",
    ),
    ("networks.relu.depths", [0], "networks.relu.depths.0: must be at least 1, not 0"),
    ("networks.relu.kernel", 4, "networks.relu.kernel: must be one of 2, 3, 5, 7, 9, 11, not 4"),
    ("networks.skewed.taps", [], "networks.skewed.taps: fixed weights need one number for each position of the kernel"),
    ("networks.skewed.taps", [0.5, 0.5], "networks.skewed.taps: a kernel of side 3 needs 3 numbers, not 2"),
    ("networks.skewed.taps", [0, 0, 0], "networks.skewed.taps: they are all zero"),
    ("networks.skewed.taps", [0.5, -0.1, 0.6], "networks.skewed.taps.1: must be at least 0, not -0.1"),
    ("networks.skewed.activation", "relu", "networks.skewed.activation: fixed weights are measured without an"),
    ("networks.uniform.taps", [1, 1, 1], "networks.uniform.taps: uniform weights are all equal"),
    ("networks.random_skewed.centre_light", 0.5, "networks.random_skewed.centre_light: a kernel has either taps or a"),
    ("networks.random_skewed.taps", [], "figures.moments.networks: 'random_skewed' and 'random' have the same weights"),
    ("networks.random_skewed.activation", "relu", "figures.moments.networks: 'random_skewed' and 'uniform_kernel_2'"),
    ("networks.relu.taps", [0.6, 0.3, 0.1], "slopes.networks: 'relu' is not plain"),
    (
        "networks.tanh_20.taps",
        [0.6, 0.3, 0.1],
        "figures.nonlinearity.networks: 'tanh_20' has taps, which moments alone",
    ),
    ("networks.plain.kernel", 2, "figures.structures.networks: 'plain' has an even kernel, which moments alone"),
    (
        "networks.relu.activation",
        "cosine",
        "networks.relu.activation: must be one of none, relu, leaky_relu, gelu, tanh, sigmoid, not 'cosine';",
    ),
    (
        "networks.relu.structure",
        "dense",
        "networks.relu.structure: must be one of plain, subsample, dilation, average_pool, skip, dropout,",
    ),
    (
        "networks.relu.variants",
        ["log"],
        "networks.relu.variants.0: must be one of abs, square, signed, equal, maximum, not 'log'",
    ),
    ("networks.relu.weights", ..., "networks.relu.weights: missing"),
    ("networks.relu.depth", 5, "networks.relu.depth: not a setting; did you mean 'depths'?"),
    (
        "networks.x;rm -rf",
        {"weights": "random"},
        "networks.'x;rm -rf': must be lower-case letters, digits and _, a letter first, not 'x;rm -rf'",
    ),
    (
        "networks.subsample.special_layers",
        [16],
        "networks.subsample.special_layers: a network of 15 layers has no layer 16",
    ),
    ("networks.skip.depths", [2], "networks.skip.depths: a network with skip connections has at least 3 layers"),
    ("networks.dilation.special_layers", [], "networks.dilation.special_layers: dilation needs at least one"),
    ("networks.subsample.dropout", 1, "networks.subsample.dropout: must be less than 1, not 1"),
    (
        "training_defaults.camvid.recipe.learning_rate",
        -1,
        "training_defaults.camvid.recipe.learning_rate: must be more than 0, not -1",
    ),
    ("trainings.cifar10.seeds", [1, 1], "trainings.cifar10.seeds: must have no entry twice, as 1"),
    ("trainings.cifar10.dataset", "mnist", "trainings.cifar10.dataset: must be one of cifar10, camvid, not 'mnist'"),
    ("trainings.camvid.validation", 5, "trainings.camvid.validation: not a setting here"),
    ("trainings.camvid.network", {"blocks": 17}, "trainings.camvid.network.blocks: must be a list, not 17"),
    (
        "trainings.cifar10.network",
        {"blocks": [3]},
        "trainings.cifar10.network.blocks: must be a whole number, not a list",
    ),
    ("trainings.camvid.batch_size", 368, "trainings.camvid.batch_size: there are only 367 training images"),
    ("trainings.camvid.crop", [481, 360], "trainings.camvid.crop: the images have only 360 x 480 pixels"),
    ("trainings.camvid.label_shift", 320, "trainings.camvid.label_shift: no label is left in a crop of 320 columns"),
    ("trainings.cifar10.label_shift", 8, "trainings.cifar10.label_shift: not a setting here"),
    ("trainings.camvid.recipe.schedule", "flat", "trainings.camvid.recipe.schedule: must be one of triangle, constant"),
    ("trainings.camvid.images", 335, "trainings.camvid.images: there are only 334 images for"),
    (
        "trainings.cifar10_centre_light.network.centre_light",
        1.5,
        "trainings.cifar10_centre_light.network.centre_light: must be at most 1, not 1.5",
    ),
    (
        "trainings.cifar10.recipe",
        {"epochs": 20},
        "snapshots.cifar10: some lie beyond the 20 epochs of trainings.cifar10",
    ),
    ("snapshots.camvid", [1, 2], "snapshots.camvid: must have 0 among its entries"),
    ("datasets.camvid.sha256", "abc", "datasets.camvid.sha256: must be 64 hexadecimal digits, not 'abc'"),
    ("reach.plain.distances", [2, 16], "reach.plain.distances: the cue must lie in the receptive field: at most 15"),
    ("reach.dilated.distances", [20], "reach.dilated.distances: the cue must lie in the receptive field: at most 19"),
    ("reach.subsampled.distances", [32], "reach.subsampled.distances: the cue must lie in the receptive field: at"),
    ("reach.dilated.special_layers", [17], "reach.dilated.special_layers: a network of 16 layers has no layer 17"),
    ("reach.dilated.special_layers", [], "reach.dilated.special_layers: dilation needs at least one"),
    ("figures.reach.reach", ["plain", "plain_longer", "reach"], "figures.reach.reach.2: 'reach' is not in reach"),
    ("reach.residual", {}, "figures.reach.reach: 'residual' and 'plain' have the same structure, centre_light and"),
    ("reach.residual.depth", 18, "figures.reach.reach: 'residual' and 'plain' differ in depth"),
    ("reach.residual.depth", 17, "reach.residual.depth: with skip connections it is even"),
    ("reach.dilated.centre_light", 1, "figures.reach.reach: 'dilated' is centre-light, and must be plain then"),
    (
        "figures.convergence.trainings",
        ["cifar10", "cifar10_centre_light"],
        "figures.convergence.trainings: 'cifar10_centre_light' and 'cifar10' differ in more than",
    ),
    (
        "trainings.camvid_small_start.network.residual_scale",
        0.2,
        "figures.convergence.trainings: 'camvid_matched_start' and 'camvid_small_start' have the same residual_scale",
    ),
    (
        "figures.initialization.trainings",
        ["camvid_centre_light"],
        "figures.initialization.trainings: one on camvid must have a centre_light of 0",
    ),
    (
        "trainings.cifar10_centre_light.seeds",
        [0, 1],
        "figures.initialization.trainings: 'cifar10_centre_light' and 'cifar10' differ in more than",
    ),
    (
        "figures.initialization.networks",
        ["centre_light_25", "centre_light_50"],
        "figures.initialization.networks: one must have a centre_light of 0",
    ),
    ("networks.relu.centre_light", 1, "slopes.networks: 'relu' is not plain"),
    (
        "networks.tanh_20.centre_light",
        1,
        "figures.nonlinearity.networks: 'tanh_20' and 'linear_20' differ in centre_light",
    ),
    ("networks.uniform.centre_light", 1, "networks.uniform.centre_light: uniform weights are all equal"),
    ("name", "", "name: must be lower-case letters, digits and _, a letter first, not ''"),
    (
        "reach.plain.structure",
        "dropout",
        "reach.plain.structure: must be one of plain, subsample, dilation, skip, not 'dropout'",
    ),
    ("questions.gaets", {}, "questions.gaets: not a setting; did you mean 'gates'?"),
    ("questions.gates.widht", [4], "questions.gates.widht: not a setting; did you mean 'widths'?"),
    ("questions.means.activations", ["rleu"], "questions.means.activations.0: must be one of none, relu, not 'rleu'"),
    ("questions.signed_kernels.mean_shares", [0, 0.5], "questions.signed_kernels.mean_shares: must have 1 among"),
    ("questions.batch_norm.images", 1, "questions.batch_norm.images: must be at least 2, not 1"),
    ("question_defaults.runs", 1, "question_defaults.runs: must be at least 2, not 1"),
    ("figures.reviewers.questions", ["gaets"], "figures.reviewers.questions.0: 'gaets' is not in questions"),
    ("reach.plain.distance", [2], "reach.plain.distance: not a setting; did you mean 'distances'?"),
    ("figures.growth.networks", ["rleu"], "figures.growth.networks.0: 'rleu' is not in networks; did you mean 'relu'?"),
    (
        "networks.tanh_20.structure",
        "skip",
        "figures.nonlinearity.networks: 'tanh_20' and 'linear_20' differ in structure",
    ),
    ("figures.growth.networks", ["tanh_20"], "figures.growth.networks: 'tanh_20' is not in slopes.networks"),
    (
        "networks.relu.variants",
        ["square"],
        "figures.gaussian_shape.networks: 'relu' is not measured in the variant abs",
    ),
    (
        "figures.sensitivity.networks",
        ["skip", "skip_relu"],
        "figures.sensitivity.networks: 'skip_relu' and 'skip' differ in activation",
    ),
    ("figures.evolution.trainings", ["mnist"], "figures.evolution.trainings.0: 'mnist' is not in trainings"),
    ("figures.gaussian_shape.depths", [5, 7], "figures.gaussian_shape.depths: 'uniform' is not measured at 7 layers"),
    ("figures.nonlinearity.networks", ["relu"], "figures.nonlinearity.networks: 'relu' must have one depth"),
    ("figures.structures.networks", ["skip"], "figures.structures.networks: 'skip' has no plain network"),
    ("figures.structures.networks", ["plain", "skip_relu"], "figures.structures.networks: 'skip_relu' has no plain"),
    (
        "figures.sensitivity.networks",
        ["plain", "relu_20"],
        "figures.sensitivity.networks: 'relu_20' and 'plain' differ in depths",
    ),
    ("networks.uniform.activation", "relu", "networks.uniform.activation: uniform weights are measured without an"),
    ("networks.relu.kernel", 5, "figures.gaussian_shape.networks: 'relu' and 'uniform' differ in kernel"),
    (
        "networks.relu.activation",
        "none",
        "figures.gaussian_shape.networks: 'relu' and 'random' have the same weights and",
    ),
    (
        "slopes.networks",
        ["uniform", "random", "relu", "relu_20"],
        "slopes.depths: 'relu_20' is not measured at 5 layers",
    ),
    ("slopes.networks", ["none"], "slopes.networks.0: 'none' is not in networks"),
    ("slopes.depths", [[5]], "slopes.depths.0: must have at least 2 entries, not 1"),
    ("slopes.depths", [[5, 10]] * 3, "slopes.depths: must have at most 2 entries, not 3"),
    ("slopes.depths", [[5, 40], [5, 10, 40]], "slopes.depths: two ranges from 5 to 40 layers could not be told apart"),
    ("slopes.samples.networks", ["skip"], "slopes.samples.networks: 'skip' is not plain"),
    ("coverage.networks", {"none": {}}, "coverage.networks.0: 'none' is not in networks"),
    ("coverage.networks", {"uniform": {}}, "coverage.networks: 'uniform' has no random weights: its runs are all the"),
    ("coverage.networks", {"skip": {}}, "coverage.networks: 'skip' is not plain"),
    ("coverage.networks.relu.runs", 1, "coverage.networks: 'relu' has one run, and so no interval"),
    ("coverage.networks.relu.rnus", 5, "coverage.networks.relu.rnus: not a setting; did you mean 'runs'?"),
    ("coverage.shape_depths", [15], "coverage.shape_depths: 15 is not among coverage.depths"),
    ("coverage.structures", {"skip": {}, "dropout": {}}, "coverage.structures: one must be plain, and the others not"),
    ("coverage.structures.skip.depths", [15, 20], "coverage.structures: each must have one depth"),
    ("coverage.structures.skip.runs", 20, "coverage.structures: they must not differ in runs"),
    ("coverage.drifting", {"skip": {}}, "coverage.drifting: 'skip' is not plain"),
    ("coverage.images.network", "none", "coverage.images.network: 'none' is not in networks"),
    (
        "coverage.images.network",
        "uniform",
        "coverage.images.network: 'uniform' has no random weights: all images give the same",
    ),
    ("coverage.questions.gates.rnus", 5, "coverage.questions.gates.rnus: not a setting; did you mean 'runs'?"),
    ("coverage.experiments", 1, "coverage.experiments: must be at least 3, not 1"),
    ("slopes.samples.depths", [20, 40], "slopes.samples.depths.0: must be a list, not 20"),
    (
        "slopes.samples.depths",
        [[5, 40], [10, 40], [40, 20, 10]],
        "slopes.samples.depths: two ranges from 10 to 40 layers could not be told apart",
    ),
    ("slopes.samples.counts", [100], "slopes.samples.counts: 1 of them, but 3 ranges of depths: one for each range"),
    ("figures.slope_pair.thresholds", [1], "figures.slope_pair.thresholds.0: must be less than 1, not 1"),
    (
        "figures.structures.networks",
        ["plain", "uniform"],
        "figures.structures.networks: 'uniform' and 'plain' differ in",
    ),
    ("networks.relu_after.structure", "skip", "slopes.networks: 'relu_after' is not plain"),
    ("trainings.cifar10.images", 15001, "trainings.cifar10.images: there are only 15000 images"),
    (
        "datasets.cifar10.members.test_batch",
        "abc",
        "datasets.cifar10.members.test_batch: must be 32 hexadecimal digits, not 'abc'",
    ),
    ("networks.relu.kernel", 3.0, "networks.relu.kernel: must be a whole number, not 3.0; write 3"),
    ("networks.relu.runs", True, "networks.relu.runs: must be a whole number, not true"),
    ("networks.relu.runs", "20", "networks.relu.runs: must be a whole number, not '20'; write 20"),
    ("networks.relu.runs", 5.0, "networks.relu.runs: must be a whole number, not 5.0; write 5"),
    ("networks.relu.seed", 2**60, "networks.relu.seed: a number of more than 15 digits; text needs quotes"),
    (
        "training_defaults.cifar10.recipe.weight_decay",
        "5e-4",
        "training_defaults.cifar10.recipe.weight_decay: must be a number, not '5e-4'; write 0.0005 or 5.0e-4",
    ),
    (
        "training_defaults.cifar10.recipe.learning_rate",
        "1e-5",
        "training_defaults.cifar10.recipe.learning_rate: must be a number, not '1e-5'; write 0.00001 or",
    ),
    (
        "training_defaults.cifar10.recipe.learning_rate",
        math.nan,
        "training_defaults.cifar10.recipe.learning_rate: must be a number, not .nan",
    ),
    (
        "training_defaults.cifar10.recipe.learning_rate",
        math.inf,
        "training_defaults.cifar10.recipe.learning_rate: must be a number, not .inf",
    ),
    ("name", None, "name: must be text, not nothing"),
    ("name", "a" * 65, "name: must have at most 64 characters, not 65"),
    ("name", "quick\n", "name: must be lower-case letters, digits and _, a letter first, not 'quick\\n'"),
    ("name", "\x1b[31mred", "name: must be lower-case letters, digits and _, a letter first, not '\\x1b[31mred'"),
    ("networks", None, "networks: must be a section (key: value), not nothing"),
    ("networks.relu", [1], "networks.relu: must be a section (key: value), not a list"),
    ("trainings.cifar10.sedes", [0], "trainings.cifar10.sedes: not a setting; did you mean 'seeds'?"),
    ("slopes.depths", ..., "slopes.depths: missing"),
    (
        "datasets.cifar10.sources",
        ["a\nb"],
        "datasets.cifar10.sources.0: must be a URL or a path, in one line, without braces and with no - in front, not",
    ),
    ("models.alexnet.factory", ..., "models.alexnet.factory: missing"),
    ("models.alexnet.layer", ..., "models.alexnet.layer: missing"),
    ("models.alexnet.wieghts", "none", "models.alexnet.wieghts: not a setting; did you mean 'weights'?"),
    ("models.alexnet.factory", "alexnet", "models.alexnet.factory: must be torchvision.models:resnet50, timm:NAME,"),
    ("models.alexnet.unit", "corner", "models.alexnet.unit: must be center, or row and column as [7, 7], not 'corner'"),
    ("models.alexnet.unit", [7], "models.alexnet.unit: must be center, or row and column as [7, 7], not a list"),
    ("models.alexnet.channels", "all", "models.alexnet.channels: must be sum, each, or the number of a channel, not"),
    ("models.alexnet.channels", 1.5, "models.alexnet.channels: must be sum, each, or the number of a channel, not 1.5"),
    ("models.alexnet.weights", None, "models.alexnet.weights: must be text, not nothing"),
    ("models.alexnet.weights", "no.pt", "models.alexnet.weights: there is no file 'no.pt'"),
    ("models.alexnet.weights", "config", "models.alexnet.weights: there is no file 'config'"),
    ("models.alexnet.factory", "no/net.py:build", "models.alexnet.factory: there is no file 'no/net.py'"),
    ("models.alexnet.source", "photos", "models.alexnet.source: there is no folder 'photos'"),
    ("models.alexnet.images", "photos", "models.alexnet.images: must be a whole number, not 'photos'"),
    ("models.alexnet.count", 8, "models.alexnet.count: not a setting"),
    (
        "models.alexnet.kwargs",
        {"since": datetime.date(2016, 12, 5)},
        "models.alexnet.kwargs: only text, numbers, true, false, null, lists and sections can be handed on",
    ),
    ("model_defaults.std", [1, 0, 1], "model_defaults.std.1: must be more than 0, not 0"),
    ("models.alexnet.std", [1, 1], "models.alexnet.std: 2 of them, but 3 in mean: one for each channel"),
    (
        "models.alexnet",
        {"factory": "a:b", "layer": "", "source": "config", "mean": [0, 0], "std": [1, 1]},
        "models.alexnet.mean: images of a folder have 3 channels, or 1, not 2",
    ),
    (
        "figures.models.models",
        ["alexnte"],
        "figures.models.models.0: 'alexnte' is not in models; did you mean 'alexnet'?",
    ),
    (
        "datasets.camvid.archive_folder",
        "a/../../etc",
        "datasets.camvid.archive_folder: must be folders' names of letters, digits, ., _ and -, with /",
    ),
    (
        "trainings.cifar10.batch_size",
        45001,
        "trainings.cifar10.batch_size: validation leaves only 45000 training images",
    ),
    (
        "networks.dilation.special_layers",
        list(range(1, 16)),
        "networks.dilation: the receptive field of 15 layers is more than 32768 pixels wide",
    ),
    (
        "reach.dilated.special_layers",
        list(range(1, 17)),
        "reach.dilated: the receptive field of 16 layers is more than 32768 pixels wide",
    ),
    (
        "networks.centre_light_25.centre_light",
        0.0,
        "figures.initialization.networks: 'centre_light_25' and 'relu_20' have the same centre_light",
    ),
    (
        "reach.centre_light.centre_light",
        0.0,
        "figures.reach.reach: 'centre_light' and 'plain' have the same structure, centre_light and number of",
    ),
]


@pytest.mark.parametrize("path, value, message", BAD, ids=[f"{path}={str(value)[:60]!r}" for path, value, _ in BAD])
def test_a_bad_configuration_says_what_is_wrong(path, value, message):
    assert line_of(changed(path, value)).startswith(f"error: config: {message}")


def test_shown_values_are_short_and_printable():
    assert line_of(changed("device", "x" * 100_000)).count("x") == strict.LONGEST
    assert "'a\\n\\x1b[31mb\\u202e'" in line_of(changed("device", "a\n\x1b[31mb\u202e"))
    assert "networks.'a\\nb': must be" in line_of(changed(("networks", "a\nb"), {}))


def nested(levels: int) -> list:
    return [nested(levels - 1)] if levels else []


def aliased(levels: int) -> list:
    """Ten to the power of `levels` values in little memory, as aliases make them."""
    return [aliased(levels - 1)] * 10 if levels else []


@pytest.mark.parametrize(
    "value, problem",
    [
        (nested(25), "nested in more than 20 levels"),
        (aliased(12), "more than 100000 values"),
        (0xF**9999, "a number of more than 15 digits"),
    ],
    ids=["deep", "many", "long"],
)
def test_what_cannot_be_handled_is_refused(value, problem):
    assert problem in line_of(changed("targets", value))


@pytest.mark.parametrize(
    "text, line",
    [
        ("name: a\ndevice: cpu\nname: b\n", "name: twice in {path}, in lines 1 and 3"),
        ('slopes:\n  depths: [[5, 10]]\n  "depths": [[5, 20]]\n', "slopes.depths: twice in {path}, in lines 2 and 3"),
        ("networks:\n- {a: 1, a: 2}\n", "networks.0.a: twice in {path}, in lines 2 and 2"),
        ("a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: *a\n", None),
        ('{"name": "a",\n\t"device": "cpu"}', None),
        ("", None),
        ("\ufeffname: a\n", None),
    ],
    ids=["top", "inner", "list", "aliases", "json", "empty", "mark"],
)
def test_a_key_that_stands_twice_in_a_file_is_refused(tmp_path, text, line):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    found = line_of(PAPER, files=(path,))
    assert found == (line and "error: config: " + line.format(path=os.path.relpath(path)))


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"  # each line holds ten of the line above
BOMB += "".join(f"{key}: &{key} [{', '.join([f'*{above}'] * 10)}]\n" for above, key in itertools.pairwise("abcdefgh"))
MERGED_BOMB = BOMB.replace("[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]", "{x: 1}").replace("[", "{<<: [").replace("]", "]}")
BOMB_OF_CLAIMS = "".join(f"- {line}\n" for line in MERGED_BOMB.splitlines())
READABLE = {
    "crlf": "name: mine\r\ntargets: [growth]\r\n",
    "mark and crlf": "\ufeffname: mine\r\n",
    "json with tabs": '{"name": "mine",\n\t"targets": ["growth"]}',
    "merged": "name: mine\nnetworks: {a: &a {runs: 3}, b: {<<: *a, runs: 4}}\n",
}
UNREADABLE = {
    "": "must hold settings (key: value) at its top level, not nothing",
    "# nothing\n": "must hold settings (key: value) at its top level, not nothing",
    "- a\n": "must hold settings (key: value) at its top level, not a list",
    "mine\n": "must hold settings (key: value) at its top level, not 'mine'",
    "a: 1\n---\nb: 1\n": "is not YAML: see line 2, but found another document",
    "a:\n\tb: 1\n": "is not YAML: see line 2, found character",
    "name: mine\t\ntargets:\t[growth]\n": "is not YAML: see line 1, found character",  # though not to the C library
    "a: 1\n? {b: 1}\n: 1\n": "is not YAML: see line 2, found unhashable key",
    "a: 1\nb: {<<: 5}\n": "is not YAML: see line 2, expected a mapping or list of mappings for merging",
    "a: !!python/object/apply:os.system [touch canary]\n": "is not YAML: see line 1, could not determine a constructor",
    "a: *b\n": "is not YAML: see line 1, found undefined alias",
    f"a: {'9' * 5000}\n": "is not YAML (Exceeds the limit",
    "a: x\nb: \x1b[31m\n": r"holds '\x1b', which is no text: see line 2, and save it as text in UTF-8",
    "a: 1\n".encode("utf-16-le"): r"holds '\x00', which is no text: see line 1, and save it as text in UTF-8",
    "a: 1\n".encode("utf-16"): "is not in UTF-8 but in UTF-16: save it as UTF-8",
    "a: é\n".encode("latin-1"): "is not in UTF-8: see line 1, and save it as UTF-8",
    BOMB: "has more than 100000 values",
    MERGED_BOMB: "has more than 100000 values",
    "a: &a {b: *a}\n": "is nested in more than 20 levels",
    "a: " + "[" * 900 + "]" * 900: "is nested in more than 20 levels",
}


@pytest.mark.parametrize("text", READABLE.values(), ids=READABLE)
def test_a_file_that_snakemake_can_read_passes(tmp_path, text):
    (tmp_path / "mine.yaml").write_bytes(text.encode())
    strict.check_settings(tmp_path / "mine.yaml")


@pytest.mark.parametrize("text, problem", UNREADABLE.items(), ids=range(len(UNREADABLE)))
def test_the_program_says_why_a_file_cannot_be_read(tmp_path, monkeypatch, text, problem):
    """Also where Snakemake names neither file nor line, ends in a traceback, or goes on for ever."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SystemExit) as ended:
        strict.check_settings(Path("mine.yaml"))
    assert ended.value.code.startswith(f"error: config: mine.yaml {problem}") and ended.value.code.isprintable()
    assert not (tmp_path / "canary").exists()


def test_numbers_that_the_command_line_nests_are_refused():
    line = line_of(PAPER, changes={"targets": ["growth"], "slopes": {"depths": [["5", "10"]]}})
    assert line.startswith("error: config: slopes.depths.0.0: numbers within a section are text to --config")
    assert line_of(PAPER, changes={"targets": ["growth"], "seed": 5, "name": "5"}) is None


def project_copy(folder: Path, claims: str | bytes | None = None) -> Path:
    for name in ("config", "workflow", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    if claims is not None:
        content = claims if isinstance(claims, bytes) else claims.encode()
        (folder / "config/claims.yaml").write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "change, message",
    [
        ({"acept": {"above": 1}}, "claims.skip.acept: not a setting; did you mean 'accept'?"),
        ({"accept": {"above": True}}, "claims.skip.accept.above: must be a number, not true"),
        ({"accept": {"above": math.nan}}, "claims.skip.accept.above: must be a number, not .nan"),
        ({"accept": {"above": 1, "below": 2}}, "claims.skip.accept: must have at most 1 entry, not 2"),
        ({"figure": "structure"}, "claims.skip.figure: must be one of convolution, gaussian_shape,"),
        ({"of": {"structure": "averagepool"}}, "claims.skip.of.structure: must be one of subsample, dilation,"),
        ({"statement": False}, "claims.skip.statement: must be text, not false"),  # which YAML makes of a plain no
        ({"paper": 10}, "claims.skip.paper: must be text, not 10; put it in quotes"),  # and of 012
        ({"digits": "two"}, "claims.skip.digits: must be a whole number, not 'two'"),
        ({"id": ["skip"]}, "claims.{number}.id: must be text, not a list"),
        ({"id": "dilation"}, "claims.{number}.id: 'dilation' is another claim's, too"),
        (
            {"measure": "structure_ratio"},
            "claims.skip.measure: there is no measure 'structure_ratio'; did you mean 'structure_ratios'?",
        ),
        ({"obstacle": "np"}, "claims.skip.obstacle: there is no obstacle 'np'"),
        ({"accept": {"between": [2, 1.5]}}, "claims.skip.accept.between: the lower end comes first: [1.5, 2]"),
        ({"of": {"structure": "skip", "deepest": True}}, "claims.skip.of.deepest: no argument of structure_ratios"),
        ({"of": {}}, "claims.skip.of.structure: missing; structure_ratios needs it"),
        ({"obstacle": "setting"}, "claims.skip.of.dataset: missing; setting needs it"),
        ({"statement": r"$\sgima$"}, "claims.skip.statement: no formula that matplotlib can read ("),
        ({"paper": "$x^$"}, "claims.skip.paper: no formula that matplotlib can read ("),
        ({"unit": "$$"}, "claims.skip.unit: no formula that matplotlib can read ("),
    ],
)
def test_a_bad_claim_ends_in_one_line_before_anything_starts(tmp_path, change, message):
    claims = yaml.safe_load((ROOT / "config/claims.yaml").read_text())
    number = next(number for number, claim in enumerate(claims) if claim["id"] == "skip")
    claims[number].update(change)
    line = line_of(PAPER, folder=project_copy(tmp_path, yaml.safe_dump(claims)))
    assert line.startswith(f"error: config: {message.format(number=number)}")


def test_a_claim_with_a_formula_and_dollars_is_good(tmp_path):
    claims = yaml.safe_load((ROOT / "config/claims.yaml").read_text(encoding="utf-8"))
    claims[0].update(statement=r"$\sigma^2$ grows", paper="5 $", unit=r"\$ and \$")
    claims[1]["accept"] = {"between": [1, 1]}
    assert line_of(PAPER, folder=project_copy(tmp_path, yaml.safe_dump(claims))) is None


def test_what_claims_may_call_is_what_the_module_has():
    from inspect import signature

    from replication.claims.measures import MEASURES, OBSTACLES

    for kind, functions, own in (("measure", MEASURES, 1), ("obstacle", OBSTACLES, 2)):
        found = checks.claim_functions()[kind]
        assert found.keys() == functions.keys()
        for name, function in functions.items():
            named = [one for one in list(signature(function).parameters.values())[own:] if one.kind != one.VAR_KEYWORD]
            expected = {one.name: one.default is one.empty for one in named}
            assert {key: needed for key, needed in found[name].items() if key != "**"} == expected


@pytest.mark.parametrize(
    "text, problem",
    [
        ("- {id: a\n- {id: b}\n", "claims: {path} is not YAML: see line 2"),
        ("- id: é\n".encode("latin-1"), "claims: {path} is not in UTF-8: see line 1, and save it as UTF-8"),
        ("- id: a\n".encode("utf-16"), "claims: {path} is not in UTF-8 but in UTF-16: save it as UTF-8"),
        ("- id: a\n  id: b\n", "claims.0.id: twice in {path}, in lines 1 and 2"),
        ("- id: !!timestamp x\n", "claims: {path} is not YAML"),
        ("- id: !!python/object/apply:os.system [touch canary]\n", "claims: {path} is not YAML: see line 1"),
        ("- 5\n", "claims.0: must be a section (key: value), not 5"),
        ("a: 1\n", "claims: must be a list, not a section"),
        ("[" * 5000, "claims: {path} is not YAML"),
        ("", "claims: must be a list, not nothing"),
        ("\ufeff- 5\r\n", "claims.0: must be a section (key: value), not 5"),
        ("- id: a\n\tid: b\n", "claims: {path} is not YAML: see line 2, "),
        (BOMB_OF_CLAIMS, "claims: {path} has more than 100000 values"),
        ("- &a {id: *a}\n", "claims: {path} is nested in more than 20 levels"),
    ],
)
def test_a_file_of_claims_that_holds_none_is_refused(tmp_path, text, problem):
    folder = project_copy(tmp_path, text)
    path = os.path.relpath(folder / "config/claims.yaml")
    assert line_of(PAPER, folder=folder).startswith(f"error: config: {problem.format(path=path)}")


def test_no_claims_at_all_are_named(tmp_path):
    folder = project_copy(tmp_path)
    (folder / "config/claims.yaml").unlink()
    assert line_of(PAPER, folder=folder).endswith("claims.yaml cannot be read: No such file or directory")


def places(node: object, place: Position = ()) -> Iterator[Position]:
    """Where in the configuration anything lies."""
    yield place
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield from places(node[key], (*place, key))


GOOD = [value for place, schema, part in checked_parts() if not place for value in good_values(schema, part, schema)]
PLACES = [place for place in places(PAPER) if place]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ELSEWHERE = st.sampled_from(PLACES).map(lambda place: functools.reduce(lambda node, key: node[key], place, PAPER))


@given(st.sampled_from(GOOD), st.lists(st.tuples(st.sampled_from(PLACES), ANYTHING | ELSEWHERE), max_size=3))
@settings(max_examples=300)
def test_any_configuration_is_good_or_ends_in_one_line(config, changes):
    """Settings at their ends, and anything at all, or what belongs elsewhere, in places chosen at random."""
    for place, value in changes:
        with contextlib.suppress(TypeError, KeyError, IndexError):  # what it belonged to has gone
            config = changed(place, copy.deepcopy(value), config)
    line_of(config)


@given(st.sampled_from([3, 5]), st.integers(1, 12), st.sets(st.integers(1, 12)), st.sampled_from(STRUCTURES))
def test_the_receptive_field_is_that_of_the_networks(kernel, depth, special, structure):
    special = sorted(layer for layer in special if layer <= depth)[:5]
    if structure == "skip" and depth < 3:
        return
    whole = network_settings(structure=structure, special_layers=special, kernel=kernel)
    side = stack_rf(theory_stack(structure_of(whole, depth), "random"))[0]
    assert checks.receptive_field("", whole, depth) == side


# Safety: a name that a shell would obey reaches none.

NASTY = [
    *("$(touch canary)", "`touch canary`", "; touch canary", "a;touch canary", "| touch canary", "a&touch canary"),
    *("a\ntouch canary", "&& touch canary", "'; touch canary; '", '"; touch canary; "', "a>canary", "<a", "(a)", "a|b"),
    *("a\n", "\n", "a\r", "a\t", " a", "a ", "a b", "\0", "a\0b", "\x1b[31m", "\x7f", "\\", "a\\", "!!", "#", "a#b"),
    *("$HOME", "${IFS}", "$'\\n'", "~", "*", "?", "[a]", "{a}", "{a,b}", "{{a}}", "{wildcards.network}", "%s", "a%b"),
    *("-", "-rf", "--out", "--config", "..", ".", "../a", "/etc", "a/../../b", "a//b", "a/", ".hidden", "_a/b"),
    *("a=b", "a:b", "a,b", "a@b", "a+b", "é", "\uff41", "\u0430", "\ufb01", "\u017f", "\u0130", "\u0661", "💥"),
    *("a\u200b", "a\u202eb", "a\u2028b", "\ufeffa", "\ud800", "a" * 1001),
]
NAMES = [  # where names and file names are given, and where they are used
    *(
        ("networks", ...),
        ("models", ...),
        ("trainings", ...),
        ("reach", ...),
        ("datasets", "cifar10", "members", ...),
        ("figures", ...),
    ),
    *(("name",), ("targets", 0), ("device",), ("datasets", "cifar10", "archive"), ("datasets", "cifar10", "folder")),
    *(("datasets", "camvid", name) for name in ("archive", "folder", "archive_folder", "sha256")),
    *(("trainings", "cifar10", "dataset"), ("networks", "relu", "weights"), ("reach", "plain", "structure")),
    *(("slopes", "networks", 0), ("slopes", "samples", "networks", 0), ("figures", "growth", "networks", 0)),
    *(("questions", ...), ("questions", "means", "activations", 0), ("figures", "reviewers", "questions", 0)),
    *(("figures", "reach", "reach", 0), ("figures", "units", "trainings", 0), ("figures", "models", "models", 0)),
    *(("models", "alexnet", "unit"), ("models", "alexnet", "channels")),
]


def test_no_nasty_name_is_let_through(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    missed = []
    for place, name in itertools.product(NAMES, NASTY):
        *above, last = place
        section = functools.reduce(lambda node, key: node[key], above, PAPER)
        place = (*above, name) if last is ... else place
        value = next(iter(section.values())) if last is ... else name
        line = line_of(changed(place, value))
        if not line or not line.startswith(f"error: config: {strict.dotted(place)}: "):
            missed.append((place, line))
    assert not missed and len(NAMES) * len(NASTY) > 1500
    assert not list(tmp_path.iterdir())


FREE = [
    "-a",
    "$(touch canary)",
    "`touch canary`",
    "'; touch canary; '",
    '"; touch canary; "',
    "a b",
    "\\",
    "!",
    "é",
]


LONGEST = ("name_of_" * 8)[:64]


def test_a_shell_makes_of_every_command_the_words_that_are_meant(project):
    """With free text that a shell would obey, and the longest names: each command, given to bash with `python` replaced
    by something that notes its arguments down, is one call with the words that shlex sees, and nothing else happens."""
    project.config = copy.deepcopy(project.config)
    for dataset in project.config["datasets"].values():
        dataset["sources"] = FREE[1:]
    project.config["name"] = LONGEST
    project.config["networks"][LONGEST] = {"weights": "random", "activation": "gelu", "depths": [6], "runs": 4}
    project.config["figures"]["nonlinearity"] = {"networks": ["linear_20", LONGEST]}
    project.config["models"] |= {
        f"free_{number}": {"factory": "torchvision.models:b", "layer": text} for number, text in enumerate(FREE)
    }
    project.config["figures"]["models"] = {"models": [f"free_{number}" for number in range(len(FREE))]}
    output = project.snakemake("all", "--dry-run", "--printshellcmds").stdout
    commands = re.findall(r"^ *(?:Shell command: )?(python scripts/.*)$", output, re.MULTILINE)
    jobs = int(re.search(r"^total +(\d+)$", output, re.MULTILINE)[1])
    assert len(commands) == jobs - 1  # all but `all`
    written = project.folder / "words"
    for command in commands:
        call, redirection = re.fullmatch(r"(.*?)( > \S+ 2>&1)", command).groups()
        assert re.fullmatch(r"[\w/. >&]+", redirection)
        log = project.folder / next(word for word in redirection.split() if word.startswith("logs/"))
        log.parent.mkdir(parents=True, exist_ok=True)
        script = f'python() {{ printf "%s\\0" "$@" > words; }}\n{command}'
        subprocess.run(["bash", "-c", script], cwd=project.folder, check=True, stdin=subprocess.DEVNULL)
        words = written.read_text().split("\0")[:-1]
        assert ["python", *words] == shlex.split(call)
        if "--sources" in words:
            assert words[words.index("--sources") + 1 : -2] == FREE[1:]
    assert not list(project.folder.rglob("canary"))


# The same through the command.


def ends_in_one_line(project: Project, key: str, config: dict) -> None:
    """Snakemake refuses a configuration, written in place of the paper's, with the one line and nothing else."""
    (project.folder / "config/config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    before = set(project.folder.iterdir())
    result = snakemake(project.folder, "all")
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Using workflow specific profile")]
    assert result.returncode == 1 and result.stdout == ""
    assert len(lines) == 1 and lines[0].startswith(f"error: config: {key}: "), result.stderr
    assert set(project.folder.iterdir()) - before <= {project.folder / ".snakemake"}


# What YAML's own reader refuses is Snakemake's to tell.
COMMAND = [item for item in bad_configurations() if not re.search(r"ud800|x00|x1b", repr(item[1]))]


@pytest.mark.parametrize("number", range(8))
def test_snakemake_shows_that_line_and_starts_nothing(project, number):
    ends_in_one_line(project, *random.Random(number).choice(COMMAND))


@pytest.mark.skipif("ERF_LONG" not in os.environ, reason="takes seven minutes: set ERF_LONG=1")
def test_snakemake_shows_that_line_for_hundreds(project):
    for key, config in random.Random(0).sample(COMMAND, 200):
        ends_in_one_line(project, key, config)


@pytest.mark.parametrize(
    "text, line",
    [
        ("name: a\nname: b\n", "error: config: name: twice in strange.yaml, in lines 1 and 2"),
        ('networks: {"relu\\n": {weights: random}}', "error: config: networks.'relu\\n': must be lower-case"),
        ("no: 5\n", "error: config: false: not a setting; keys are text"),
        ("networks:\n", "error: config: networks: must be a section (key: value), not nothing"),
        ("name: !!python/name:os.system\n", "error: config: strange.yaml is not YAML: see line 1, could not determine"),
        (
            "name: !!python/object/apply:os.system [touch canary]\n",
            "error: config: strange.yaml is not YAML: see line 1",
        ),
        ("", "error: config: strange.yaml must hold settings (key: value) at its top level, not nothing"),
        ("name:\n\tx: 1\n", "error: config: strange.yaml is not YAML: see line 2, found character"),
    ],
)
def test_a_strange_file_is_refused_without_a_traceback(project, text, line):
    (project.folder / "strange.yaml").write_text(text)
    result = snakemake(project.folder, "all", "--configfile", "strange.yaml")
    assert result.returncode == 1 and line in result.stderr and "Traceback" not in result.stderr
    assert not (project.folder / "results").exists() and not list(project.folder.rglob("canary"))


def test_aliases_are_of_use(project):
    text = "name: mine\nnetworks:\n  one: &one {weights: random, runs: 3}\n  two: {<<: *one, runs: 4}\n"
    (project.folder / "mine.yaml").write_text(text)
    result = snakemake(project.folder, "results/mine/networks/two.csv", "--dry-run", "--configfile", "mine.yaml")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "path, line",
    [
        ("figures/small/growth.png", "error: growth is not a target of this configuration, which has reach"),
        ("figures/small/grwoth.png", "error: figures/small/grwoth.png: no rule makes it; "),
        (
            "results/small/networks/rleu.csv",
            "no rule makes it; did you mean results/small/networks/relu.csv?",
        ),
        (
            "results/small/reach/plain/seed_2.csv",
            "no rule makes it; did you mean results/small/reach/plain/seed_0.csv?",
        ),
        (
            "results/small/reach/plain/seed_01.csv",
            "no rule makes it; did you mean results/small/reach/plain/seed_0.csv?",
        ),
    ],
)
def test_a_path_that_this_configuration_does_not_make_is_refused(project, path, line):
    project.config = {**project.config, "targets": ["reach"]}
    result = project.snakemake(path)
    assert result.returncode == 1 and line in result.stdout and "Traceback" not in result.stdout
    assert not (project.folder / "results").exists()


def test_every_setting_is_explained():
    """config/README.md names each key of the schema."""
    keys = set()

    def collect(node):
        if isinstance(node, dict):
            keys.update(node.get("properties", {}) if isinstance(node.get("properties"), dict) else {})
            for value in node.values():
                collect(value)

    collect(SCHEMA)
    text = (ROOT / "config/README.md").read_text()
    assert not [key for key in sorted(keys) if f"`{key}`" not in text]


@pytest.mark.parametrize("overlay", ["config.yaml", "laptop.yaml", "untrained.yaml", "quick.yaml", "the README's"])
def test_every_configuration_plans(project, overlay):
    path = project.folder / "config" / overlay
    if overlay == "the README's":
        (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "config/README.md").read_text(), re.DOTALL)
        path.write_text(example)
    result = snakemake(project.folder, "all", "--dry-run", "--configfile", path)
    assert result.returncode == 0, result.stderr
    for dataset in ("cifar10", "camvid"):
        downloads = f"download_{dataset}" in result.stdout + result.stderr
        assert downloads == (overlay in ("config.yaml", "laptop.yaml"))
