"""A configuration: what each name in it stands for, and what its targets use."""

from copy import deepcopy

from snakemake.utils import update_config

from replication.datasets.table import DATASETS


class Configuration:
    """The settings that Snakemake has read, by their sections; what an entry does not say, the section's defaults do.

    trust : modules and .py files whose code may run as models, as the command line names them
    """

    def __init__(self, config: dict, trust: str | list[str] | None = None):
        self.config = config
        self.trusted = [trust] if isinstance(trust, str) else trust if isinstance(trust, list) else []

    def __getitem__(self, section: str):
        return self.config[section]

    def network(self, name: str) -> dict:
        """Settings of an untrained network."""
        return {**self["network_defaults"], **self["networks"][name]}

    def coverage_network(self, section: str, name: str) -> dict:
        """Settings of an untrained network in the repeated experiments; section is "networks", "drifting" or
        "structures"."""
        read = {"thresholds": [], "variants": ["abs", "square"]}
        return {**self.network(name), **self["coverage"][section][name], **read}

    def model(self, name: str) -> dict:
        """Settings of a model of any kind."""
        return {**self["model_defaults"], **self["models"][name]}

    def question(self, name: str) -> dict:
        """Settings of a question about untrained networks."""
        return {**self["question_defaults"], **self["questions"][name]}

    def reach(self, name: str) -> dict:
        """Settings of a reach experiment."""
        return on_top(self["reach_defaults"], self["reach"][name])

    def training(self, name: str) -> dict:
        """Settings of a training."""
        changes = without(self["trainings"][name], "dataset")
        return on_top(self["training_defaults"][self.dataset_of(name)], changes)

    def dataset_of(self, training: str) -> str:
        """Name of the dataset on which a training is trained and measured."""
        return self["trainings"][training]["dataset"]

    def trained_by(self, name: str) -> dict:
        """What a training depends on; its seeds, and what is measured afterwards, are not among it."""
        dataset = self.dataset_of(name)
        return {
            "dataset": dataset,
            "sha256": self["datasets"][dataset]["sha256"],
            **without(self.training(name), "seeds", "images"),
            "snapshots": self["snapshots"][dataset],
        }

    def trainings_on(self, dataset: str) -> list[str]:
        """Names of the trainings on a dataset."""
        return [name for name in self["trainings"] if self.dataset_of(name) == dataset]

    def snapshots(self, dataset: str) -> list[str]:
        """Stems of the snapshots of a training on a dataset, in order."""
        return [f"epoch_{epoch:03d}" for epoch in self["snapshots"][dataset]] + ["best"]

    def seeds(self, section: str, name: str) -> list[int]:
        """Seeds of a training or reach experiment."""
        return (self.training if section == "trainings" else self.reach)(name)["seeds"]

    def all_seeds(self) -> list[str]:
        """Seeds of all trainings and reach experiments, as paths have them."""
        runs = [(section, name) for section in ("trainings", "reach") for name in self[section]]
        return sorted({str(seed) for section, name in runs for seed in self.seeds(section, name)})

    @property
    def targets(self) -> list[str]:
        """The figures that `all` makes."""
        return self["targets"]

    def used(self, section: str) -> list[str]:
        """Names of the trainings, reach experiments, models or questions that the targets show."""
        return sorted({name for figure in self.targets for name in self["figures"][figure].get(section, [])})

    def networks_shown(self) -> dict[str, list[str]]:
        """Names of the networks that each target shows."""
        shown = {figure: self["figures"][figure].get("networks", []) for figure in self.targets}
        if "sensitivity" in shown:
            shown["sensitivity"] = sorted({*shown["sensitivity"], *self["slopes"]["networks"]})
        return shown

    def measured_networks(self) -> list[str]:
        """Names of all networks that the targets measure."""
        names = {name for networks in self.networks_shown().values() for name in networks}
        if "growth" in self.targets:
            names.update(self["slopes"]["networks"])
        return sorted(names)

    def paper_trainings(self) -> list[str]:
        """Names of the trainings that the paper has, if they are among the targets."""
        return self["figures"]["before_after"]["trainings"] if "before_after" in self.targets else []

    def judged_trainings(self) -> dict[str, dict]:
        """Of each of the paper's trainings what it depends on, and its planned seeds."""
        return {
            name: {**self.trained_by(name), "seeds": self.seeds("trainings", name)} for name in self.paper_trainings()
        }

    def used_datasets(self) -> list[str]:
        """Names of the datasets of the trainings that the targets show, in the table's order."""
        found = {self.dataset_of(name) for name in self.used("trainings")}
        return [name for name in DATASETS if name in found]


def on_top(defaults: dict, changes: dict) -> dict:
    """Nested settings: the defaults, and on top of them the changes; a list replaces a list."""
    settings = deepcopy(defaults)
    update_config(settings, changes)
    return settings


def without(settings: dict, *keys: str) -> dict:
    """Settings but for some keys."""
    return {key: value for key, value in settings.items() if key not in keys}
