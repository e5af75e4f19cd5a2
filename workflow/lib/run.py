"""A run: all that it makes, how its figures are remade, what the report is told, and what happens around its jobs."""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from snakemake.io import contains_wildcard, expand

from erf.models.trust import LIBRARIES, lies_in
from erf.system.files import atomic
from lib import safekeeping
from lib.configuration import Configuration, without
from lib.figures import FIGURES
from lib.place import SKEW, STARTED, Place
from replication.commands.kept import RECORD
from replication.datasets.table import DATASETS

# Whose tables claims are judged by.
JUDGED_FIGURES = ("structures", "convolution", "initialization", "reviewers", "reach", "units", "fixed_point")


def as_json(settings: object) -> str:
    """Settings as a program reads them; sorted, so that their order in the configuration triggers nothing."""
    return json.dumps(settings, sort_keys=True, indent=1, ensure_ascii=False)


def options(reads: Iterable[str], *words: str) -> Callable:
    """For `params:`, words of a command: those given, and each of the options with the files that are its inputs."""
    return lambda wildcards, input: shlex.join(
        [*words, *(word for option in reads for word in (f"--{option}", *input[option]))]
    )


def untracked(value: object) -> Callable:
    """For `params:`, a value of which a change reruns nothing, since it says where or on what a job runs, and not what
    it makes. Snakemake takes it for a consequence of the threads, and so does not compare it."""
    return lambda wildcards, threads: value


class Run:
    """A run of the pipeline with one configuration.

    rules, workflow : Snakemake's
    """

    def __init__(self, configuration: Configuration, place: Place, rules, workflow):
        self.configuration, self.place, self.rules, self.workflow = configuration, place, rules, workflow

    # What is made.

    def figure(self, name: str) -> dict:
        """What a figure shows; the run ends with one line if this configuration has not got it."""
        targets = self.configuration.targets
        if name not in targets:
            sys.exit(f"error: {name} is not a target of this configuration, which has {', '.join(targets)}")
        return self.configuration["figures"][name]

    def inputs_of(self, figure: str) -> Callable:
        """For `input:`, the files that a figure's program reads, by the options that it takes them by."""
        return lambda wildcards: {
            option: files(self.configuration, self.place, self.figure(figure))
            for option, files in FIGURES[figure].reads.items()
        }

    def every_training(self, path: str, names: list[str] | None = None) -> list[str]:
        """Results of every seed of the trainings of the targets, or of those named; {name} and {seed} are filled in."""
        return [
            self.place.results(path.format(name=name, seed=seed))
            for name in (self.configuration.used("trainings") if names is None else names)
            for seed in self.configuration.seeds("trainings", name)
        ]

    def if_target(self, figure: str, path: str) -> list[str]:
        """A file that is made for a figure, if that is among the targets."""
        return [path] if figure in self.configuration.targets else []

    def data_of(self, training: str) -> str:
        """The arrays on which a training is trained and measured."""
        return self.place.data(self.configuration.dataset_of(training))

    def training_outputs(self, dataset: str) -> list[str]:
        """What a training on a dataset leaves: snapshots, tables, and the record of it."""
        names = [f"{stem}.pt" for stem in self.configuration.snapshots(dataset)]
        names += ["metrics.csv", "speed.csv", "test.csv", "provenance.json"]
        return [self.place.results(f"trainings/{{training}}/seed_{{seed}}/{name}") for name in names]

    def measured(self) -> list[str]:
        """Every file that the jobs before the report declare: tables, records and snapshots too, so that none is
        missed."""
        rules, configuration, targets = self.rules, self.configuration, self.configuration.targets
        makers = [getattr(rules, f"figure_{figure}") for figure in targets]
        files = [path for maker in [*makers, rules.check_claims, rules.figure_scorecard] for path in maker.output]
        files += expand(rules.measure_network.output, network=configuration.measured_networks())
        files += expand(rules.measure_model.output, model=configuration.used("models"))
        if {"growth", "sensitivity"} & {*targets}:
            files += rules.growth_slopes.output
        if {"sensitivity", "slope_pair"} & {*targets}:
            files += expand(rules.slope_samples.output, network=configuration["slopes"]["samples"]["networks"])
        files += expand(rules.measure_question.output, question=configuration.used("questions"))
        for name in configuration.used("reach"):
            files += expand(rules.train_reach.output, reach=name, seed=configuration.seeds("reach", name))
        for name in configuration.used("trainings"):
            program = DATASETS[configuration.dataset_of(name)].program
            makers = [getattr(rules, program), rules.measure_snapshots]
            if "units" in targets and name in configuration["figures"]["units"]["trainings"]:
                makers.append(rules.measure_units)
            for maker in makers:
                files += expand(maker.output, training=name, seed=configuration.seeds("trainings", name))
        return sorted({*map(str, files)})

    def all_files(self) -> list[str]:
        """Every file that this configuration makes. Of the datasets it is the arrays alone, which count by their
        content."""
        data = [self.place.data(name) for name in self.configuration.used_datasets()]
        return [*data, *self.measured(), *self.rules.replication_report.output]

    def records(self) -> list[str]:
        """The records of all jobs before the report."""
        return [path for path in self.measured() if path.endswith(RECORD)]

    # What programs are told.

    def given(self, path: str, content: dict | Callable) -> dict:
        """For `params:`, the settings that a program is given: their content, of which a change reruns the job, and the
        file in which it finds them, which is written when the run starts. `content` may be a function of the
        wildcards."""
        told = content if callable(content) else lambda wildcards: content
        # A function, since braces in a text would be wildcards.
        return {"settings": lambda wildcards: as_json(told(wildcards)), "settings_file": self.place.settings(path)}

    def options_of(self, figure: str) -> dict:
        """For `params:`, the options of a figure's program, and the settings among them."""
        reads, settings = FIGURES[figure].reads, FIGURES[figure].settings(self.configuration["figures"][figure])
        given = self.given(f"figures/{figure}", settings) if settings else {}
        words = ["--settings", given["settings_file"]] if given else []
        return given | {"options": options(reads, *words)}

    def slope_samples(self, network: str) -> dict:
        """What the repeated experiments with a network depend on."""
        samples = self.configuration["slopes"]["samples"]
        settings = without(self.configuration.network(network), "depths", "variants")
        return {"name": network, **settings, "depths": samples["depths"], "counts": samples["counts"]}

    def interval_coverage(self) -> dict:
        """What the repeated experiments of the intervals' coverage depend on."""
        configuration, section = self.configuration, self.configuration["coverage"]
        networks = {
            key: {name: configuration.coverage_network(key, name) for name in section[key]}
            for key in ("networks", "drifting", "structures")
        }
        images = {**section["images"], "network": configuration.network(section["images"]["network"])}
        questions = {name: {**configuration.question(name), **own} for name, own in section["questions"].items()}
        return {**section, **networks, "images": images, "questions": questions}

    def training_state(self, name: str, seed: str) -> str:
        """Where the state of a training lies."""
        program = DATASETS[self.configuration.dataset_of(name)].program
        return self.state_folder(name, seed, self.configuration.trained_by(name), program)

    def reach_state(self, name: str, seed: str) -> str:
        """Where the state of a reach experiment lies."""
        return self.state_folder(name, seed, without(self.configuration.reach(name), "seeds"), "train_reach")

    def state_folder(self, name: str, seed: str, settings: dict, program: str) -> str:
        """Where the state of a long job lies, apart for all settings and each version of its code: what was begun in
        another way is begun anew."""
        told = as_json(settings) + self.place.code_digest(program)
        return self.place.results(f"resume/{name}/seed_{seed}/{hashlib.sha256(told.encode()).hexdigest()[:12]}")

    def trust_options(self, model: str) -> str:
        """What of the trusted code the command line names, as options for a shell; none for a library's model, which
        needs no trust."""
        names = [] if is_library(self.model_code(model)) else sorted(set(self.configuration.trusted))
        return shlex.join(word for one in names for word in ("--trust", one))

    def model_code(self, name: str) -> str:
        """The module, or the path of the .py file, in which a model's factory is."""
        return self.configuration.model(name)["factory"].rpartition(":")[0]

    def model_files(self, name: str) -> list[str]:
        """What a model is made of and measured on, as far as it is files: its factory's, weights, images."""
        settings, code = self.configuration.model(name), self.model_code(name)
        paths = [code] if code.endswith(".py") else []
        paths += [settings["weights"]] if settings["weights"] not in ("none", "default") else []
        if settings["source"] != "noise":
            paths += sorted(str(path) for path in Path(settings["source"]).rglob("*") if path.is_file())
        for path in paths:
            if contains_wildcard(path):
                sys.exit(f"error: models.{name}: braces in {path!r} are wildcards to Snakemake: rename it")
            if Path(path).exists() and Path(path).stat().st_mtime > STARTED + SKEW:
                sys.exit(f"error: models.{name}: {path!r} is dated in the future: touch it")
        return paths

    # What the report says.

    def figures_shown(self) -> list[dict[str, str]]:
        """The figures of this configuration in the report's order: name, title and part."""
        return [
            {"name": name, "title": figure.title, "part": figure.part}
            for name, figure in FIGURES.items()
            if name in self.configuration.targets
        ]

    def remade_by(self) -> str:
        """The command that makes a figure of this configuration, with {figure} for its name."""
        overlays = [os.path.relpath(path) for path in self.workflow.overwrite_configfiles]
        changes = [
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in self.workflow.config_settings.config.items()
        ]
        words = ["snakemake", "--cores", "all"]
        if self.place.project != Path():  # started in another folder
            words += ["--snakefile", str(self.place.project / "Snakefile")]
        if len(overlays) == 1 and not changes:
            words.append(f"--configfile={overlays[0]}")
        elif overlays or changes:
            words += ["--configfile", *overlays] if overlays else []
            words += ["--config", *changes] if changes else []
            words.append("--")
        return f"{shlex.join(words)} {self.place.figures('{figure}.png')}"

    def claims_tables(self) -> dict[str, list[str]]:
        """For `input:`, the tables that claims are judged by, by the options of check_claims that take them."""
        configuration, place = self.configuration, self.place
        tables = {"networks": [place.results(f"networks/{name}.csv") for name in configuration.measured_networks()]}
        tables |= {"slopes": self.if_target("growth", place.results("growth_slopes.csv"))}
        tables |= {name: self.if_target(name, place.figures(f"{name}.csv")) for name in JUDGED_FIGURES}
        trained = configuration.paper_trainings()
        tables |= {"sizes": self.every_training("erf/{name}/seed_{seed}.csv", trained)}
        return tables | {"scores": self.every_training("trainings/{name}/seed_{seed}/test.csv", trained)}

    def claims_options(self) -> dict:
        """For `params:`, the options of check_claims, and the settings among them."""
        return self.given("check_claims", self.claims_facts()) | {"options": options(self.claims_tables())}

    def claims_facts(self) -> dict:
        """What claims are told of the configuration: settings of the trainings that the paper has, the networks that
        each figure shows, and the command that makes a figure."""
        configuration = self.configuration
        shown = configuration.networks_shown()
        return {"trainings": configuration.judged_trainings(), "shown": shown, "command": self.remade_by()}

    def report_facts(self) -> dict:
        """What the report says of the configuration: its figures in their order there, commands, seeds, settings."""
        configuration = self.configuration
        seeds = {
            "untrained networks": {
                name: [configuration.network(name)["seed"]] for name in configuration.measured_networks()
            },
            "trainings": {name: configuration.seeds("trainings", name) for name in configuration.used("trainings")},
            "reach": {name: configuration.seeds("reach", name) for name in configuration.used("reach")},
            "models": {name: [configuration.model(name)["seed"]] for name in configuration.used("models")},
        }
        return {
            "name": configuration["name"],
            "figures": self.figures_shown(),
            "command": self.remade_by(),
            "width": configuration["network_defaults"]["width"],
            "special_layers": configuration["network_defaults"]["special_layers"],
            "trainings": {
                name: {"dataset": configuration.dataset_of(name), **configuration.training(name)}
                for name in configuration.paper_trainings()
            },
            "seeds": seeds,
            "datasets": {name: configuration["datasets"][name] for name in configuration.used_datasets()},
            "configuration": configuration.config,
        }

    # Around the jobs.

    def jobs(self) -> list:
        """The jobs that Snakemake is about to start, but for those without a program."""
        return [job for job in self.workflow.dag.needrun_jobs() if not job.is_norun]

    def start(self) -> None:
        """Before the first job: end if it would fail, keep aside what is made anew, and write the settings of the
        programs."""
        jobs = self.jobs()
        self.check_gpu(jobs)
        for job in [] if self.workflow.touch else jobs:
            try:
                # Snakemake deletes the outputs before the job starts.
                safekeeping.keep(job.output, self.workflow.dag.reason(job).forced)
            except OSError as error:
                print(f"{error.filename}: what was made before cannot be kept ({error.strerror})", file=sys.stderr)
            if "settings_file" in dict(job.params.items()):
                write_settings(Path(job.params.settings_file), job.params.settings)

    def check_gpu(self, jobs: list) -> None:
        """End here, before anything is deleted, if a GPU is asked for and there is none. Of a cluster only its nodes
        know."""
        asked = self.configuration["device"] == "cuda" and any("device" in dict(job.params.items()) for job in jobs)
        if asked and self.workflow.local_exec and not safekeeping.has_gpu():
            sys.exit("error: device: cuda was asked for, but there is no GPU here; set device to auto or cpu")

    def end(self) -> None:
        """After the last job, however it ended: drop what was kept of jobs that have made it anew, or not started."""
        for job in self.workflow.dag.jobs:
            if job.output:
                safekeeping.drop(job.output)

    def succeed(self) -> None:
        """After a run that ended well: drop what was kept and the states of long jobs."""
        self.end()
        self.discard_states()

    def discard_states(self) -> None:
        """Remove the states of the long jobs of this run, which has ended well: Snakemake knows now that they are done.

        With them go states of other settings and code, which the same results were once begun with.
        """
        for job in self.workflow.dag.jobs:
            made = all(Path(path).exists() for path in job.output)  # with --touch they may not be
            if made and "resume" in dict(job.params.items()):
                folder = Path(job.params.resume)
                shutil.rmtree(folder.parent, ignore_errors=True)
                with contextlib.suppress(OSError):  # there are other seeds
                    os.removedirs(folder.parent.parent)

    def what_was_made(self) -> str:
        """Where the figures are, and the report, as far as they were asked for; before it, what is still missing."""
        jobs, page = [*self.workflow.dag.jobs], self.place.results("report/index.html")
        asked = {str(path) for job in jobs for path in job.output}
        lacking = [path for path in self.all_files() if not Path(path).exists()]
        text = ""
        if lacking and any(job.name == "all" for job in jobs):
            text = f"warning: {len(lacking)} files are missing, such as {lacking[0]}: run again\n"
        if any(path.startswith(self.place.figures() + "/") for path in asked):
            return f"{text}The figures are in {self.place.figures()}/" + (f", the report is {page}" * (page in asked))
        files = [str(path) for job in self.workflow.dag.targetjobs for path in job.output if not path.endswith(RECORD)]
        return text + (
            f"Made: {', '.join(files[:3])}{f' and {len(files) - 3} more' if files[3:] else ''}" if files else ""
        )


def write_settings(path: Path, text: str) -> None:
    """Write a program's settings, if they are not what is there."""
    text += "\n"
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def is_library(code: str) -> bool:
    """Whether erf.models runs a module's models without being told to."""
    return code == "timm" or lies_in(code, LIBRARIES)
