"""The figures, each told once: rules, schema, checks and report follow from this table.

A figure's program is scripts/figure_<name>.py, its caption workflow/report/<name>.rst.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from lib.configuration import Configuration
from lib.place import Place

Files = Callable[[Configuration, Place, dict], list[str]]  # of a configuration, a place and what the figure shows


@dataclass(frozen=True)
class Figure:
    """A figure.

    part, title : of the report, and under which title it is there
    shows : sections of the configuration from which it names entries
    reads : options of its program, each with the files that it is given
    options : further settings of its program, each with its JSON schema
    told_apart_by : settings of networks, of which no two of its networks have the same
    alike : settings of networks in which all its networks agree
    one_of_each : the one setting of networks in which its trainings on a dataset differ
    """

    part: str
    title: str
    shows: tuple[str, ...] = ()
    reads: dict[str, Files] = field(default_factory=dict)
    options: dict[str, dict] = field(default_factory=dict)
    told_apart_by: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
    one_of_each: str = ""

    def schema(self) -> dict:
        """Of its entry in the configuration's section `figures`."""
        names = {section: {"$ref": "#/$defs/names"} for section in self.shows}
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [*names, *self.options],
            "properties": names | self.options,
        }

    def settings(self, shown: dict) -> dict:
        """What its program is told, of its entry in the configuration."""
        return {key: shown[key] for key in self.options}


def network_fields(configuration: Configuration, place: Place, shown: dict) -> list[str]:
    return [place.results(f"networks/{name}.npz") for name in shown["networks"]]


def model_fields(configuration: Configuration, place: Place, shown: dict) -> list[str]:
    return [place.results(f"models/{name}.npz") for name in shown["models"]]


def question_tables(configuration: Configuration, place: Place, shown: dict) -> list[str]:
    return [place.results(f"questions/{name}.csv") for name in shown["questions"]]


def network_tables(section: str) -> Files:
    """Tables of the networks that the figure shows, or that the slopes are of."""
    return lambda configuration, place, shown: [
        place.results(f"networks/{name}.csv")
        for name in (shown["networks"] if section == "networks" else configuration["slopes"]["networks"])
    ]


def slope_samples(configuration: Configuration, place: Place, shown: dict) -> list[str]:
    return [place.results(f"slope_samples/{name}.csv") for name in configuration["slopes"]["samples"]["networks"]]


def growth_slopes(configuration: Configuration, place: Place, shown: dict) -> list[str]:
    return [place.results("growth_slopes.csv")]


def every_seed(section: str, path: str) -> Files:
    """Results of every seed of the trainings or reach experiments that the figure shows; {name} and {seed} are filled
    in."""
    return lambda configuration, place, shown: [
        place.results(path.format(name=name, seed=seed))
        for name in shown[section]
        for seed in configuration.seeds(section, name)
    ]


def datasets(configuration: Configuration, place: Place, shown: dict) -> list[str]:
    return [place.data(name) for name in sorted({configuration.dataset_of(name) for name in shown["trainings"]})]


ERF_TABLES = every_seed("trainings", "erf/{name}/seed_{seed}.csv")
METRICS = every_seed("trainings", "trainings/{name}/seed_{seed}/metrics.csv")
KERNELS = every_seed("trainings", "erf/{name}/seed_{seed}.tsv")

THEORY, UNTRAINED, TRAINED, BEYOND = "Theory", "Untrained networks", "Trained networks", "Beyond the paper"
PLAIN = ("kernel", "structure", "reading", "centre_light")
EPOCHS = {  # the first and the last one of a part of training
    "type": "array",
    "minItems": 2,
    "maxItems": 2,
    "items": {"type": "integer", "minimum": 0, "maximum": 999},
}
ONE_DEPTH = ("kernel", "reading", "weights", "width", "depths")

FIGURES = {  # in the report's order
    "convolution": Figure(
        THEORY,
        "Why the ERF is Gaussian",
        options={
            "kernels": {
                "description": "Sides of the uniform kernels.",
                "type": "array",
                "minItems": 1,
                "maxItems": 3,
                "uniqueItems": True,
                "items": {"type": "integer", "minimum": 2, "maximum": 11},
            },
            "depths": {"$ref": "#/$defs/depths", "minItems": 2},
        },
    ),
    "gaussian_shape": Figure(
        UNTRAINED,
        "Gaussian shape",
        shows=("networks",),
        reads={"fields": network_fields},
        options={"depths": {"$ref": "#/$defs/depths"}},
        told_apart_by=("weights", "activation"),
        alike=PLAIN,
    ),
    "nonlinearity": Figure(
        UNTRAINED,
        "Nonlinear activations",
        shows=("networks",),
        reads={"fields": network_fields},
        told_apart_by=("activation",),
        alike=(*ONE_DEPTH, "structure", "centre_light"),
    ),
    "structures": Figure(
        UNTRAINED,
        "Subsampling, dilation, skip connections, dropout",
        shows=("networks",),
        reads={"fields": network_fields},
        told_apart_by=("structure", "activation"),
        alike=(*ONE_DEPTH, "centre_light"),
    ),
    "growth": Figure(
        UNTRAINED,
        "Growth and shrinkage with depth",
        shows=("networks",),
        reads={"fields": network_fields, "slopes": growth_slopes},
        told_apart_by=("weights", "activation"),
        alike=PLAIN,
    ),
    "moments": Figure(
        UNTRAINED,
        "Where the ERF lies and how wide it is: moments add",
        shows=("networks",),
        reads={"fields": network_fields, "tables": network_tables("networks")},
        told_apart_by=("weights", "kernel", "taps"),
        alike=("activation", "structure", "reading", "centre_light"),
    ),
    "before_after": Figure(
        TRAINED,
        "Before and after training",
        shows=("trainings",),
        reads={"fields": every_seed("trainings", "erf/{name}/seed_{seed}.npz"), "data": datasets},
    ),
    "initialization": Figure(
        TRAINED,
        "Kernels light in their middle",
        shows=("networks", "trainings"),
        reads={"fields": network_fields, "sizes": ERF_TABLES, "metrics": METRICS},
        options={
            "scores": {
                "description": "Validation scores whose epoch is compared, by dataset.",
                "$ref": "#/$defs/scores_by_dataset",
            }
        },
        told_apart_by=("centre_light",),
        alike=(*ONE_DEPTH, "activation", "structure"),
        one_of_each="centre_light",
    ),
    "layers_to_gaussian": Figure(
        BEYOND,
        "Layers until the ERF is Gaussian",
        shows=("networks",),
        reads={"tables": network_tables("networks")},
        told_apart_by=("weights", "activation"),
        alike=PLAIN,
    ),
    "sensitivity": Figure(
        BEYOND,
        "What the paper leaves open",
        shows=("networks",),
        reads={
            "slopes": growth_slopes,
            "variants": network_tables("slopes"),
            "positions": network_tables("networks"),
            "samples": slope_samples,
        },
        told_apart_by=("structure", "special_layers"),
        alike=(*ONE_DEPTH, "activation", "centre_light"),
    ),
    "slope_pair": Figure(
        BEYOND,
        "The paper's pair of slopes",
        reads={"samples": slope_samples},
        options={
            "kernels": {
                "description": "Sides of the kernels of theory's networks.",
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "items": {"type": "integer", "minimum": 2, "maximum": 11},
            },
            "thresholds": {
                "description": "Shares of the unit's own impact above which a pixel is in the ERF.",
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "items": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            },
            "depths": {
                "description": "Ranges of depths, each with slopes of its own.",
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "items": {"$ref": "#/$defs/depths", "minItems": 2},
            },
        },
    ),
    "reviewers": Figure(
        BEYOND,
        "What the reviewers asked",
        shows=("questions",),
        reads={"tables": question_tables},
    ),
    "evolution": Figure(
        BEYOND,
        "During training",
        shows=("trainings",),
        reads={"sizes": ERF_TABLES, "metrics": METRICS, "kernels": KERNELS},
    ),
    "convergence": Figure(
        BEYOND,
        "From three starts",
        shows=("trainings",),
        reads={"sizes": ERF_TABLES},
        one_of_each="residual_scale",
    ),
    "fixed_point": Figure(
        BEYOND,
        "Where training drives the ERF to",
        shows=("trainings",),
        reads={"sizes": ERF_TABLES},
        options={
            "windows": {
                "description": "Parts of training, from which to which the ERF's growth is taken; the first is judged.",
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["early", "late"],
                    "properties": {"early": EPOCHS, "late": EPOCHS},
                },
            }
        },
    ),
    "units": Figure(
        BEYOND,
        "Other units, layers and images",
        shows=("trainings",),
        reads={"tables": every_seed("trainings", "units/{name}/seed_{seed}.csv")},
    ),
    "reach": Figure(
        BEYOND,
        "How far a unit can use its receptive field",
        shows=("reach",),
        reads={"tables": every_seed("reach", "reach/{name}/seed_{seed}.csv")},
    ),
    "models": Figure(
        BEYOND,
        "Any model",
        shows=("models",),
        reads={"fields": model_fields},
    ),
}
