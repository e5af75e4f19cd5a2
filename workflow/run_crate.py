"""A finished run as one archive that says what made what: `make crate CONFIG=config/quick.yaml`.

Writes a Provenance Run Crate, the most detailed kind of Workflow Run RO-Crate. It holds the workflow, its programs, and
the results and figures of one configuration. The record beside each result says of its job which program ran, with
which arguments, on which files and machine, when, and what it wrote. Datasets are named with their digests, and are not
packed, because of their licences.
"""

import argparse
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

import yaml
from rocrate.model import ContextEntity
from rocrate.rocrate import ROCrate

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "workflow"), str(PROJECT / "scripts")]

from erf.system.files import atomic, digest, record_of  # noqa: E402
from lib import strict  # noqa: E402
from lib.configuration import on_top  # noqa: E402
from lib.place import Place  # noqa: E402

PROFILES = {  # of RO-Crates, by address: name, version
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
COMPLETED = "http://schema.org/CompletedActionStatus"
BIOSCHEMAS = "https://bioschemas.org/profiles/"
ABOUT = ("LICENSE", "CITATION.cff", "codemeta.json", "requirements.lock", "requirements.hashes", "environment.yml")
KINDS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".npz": "application/zip",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".pt": "application/zip",
    ".py": "text/x-python",
    ".yaml": "application/yaml",
}


def single(values: list):
    """One value by itself, several as they are: RO-Crate wants no list of one."""
    return values[0] if len(values) == 1 else values


def records(folders: list[Path]) -> dict[Path, dict]:
    """The records of all jobs that left files in `folders`, in the order in which they ended, by their paths.

    SystemExit if there are none, or if a file is missing or no longer what its record says.
    """
    found = {}
    for path in sorted(one for folder in folders for one in folder.rglob("*") if one.is_file()):
        if ".kept" not in path.parts and (record := record_of(path)):
            found[record[0]] = record[1]
    if not found:
        sys.exit(f"error: there is nothing in {' or '.join(map(str, folders))}: run the configuration first")
    for path, record in found.items():
        for name, told in record["written"].items():
            file = path.with_name(name)
            if not file.exists() or digest(file) != told:
                sys.exit(f"error: {file} is missing, or no longer what was made: run the configuration again")
    return dict(sorted(found.items(), key=lambda item: (item[1]["finished"], str(item[0]))))


class Crate:
    """A crate of one configuration's run, filled from its records.

    place : where the configuration's files lie, as seen from the working folder
    configfile : of the configuration
    """

    def __init__(self, place: Place, configfile: Path):
        self.place, self.crate = place, ROCrate(version="1.1")
        self.project = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
        self.jobs = records([Path(place.results()), Path(place.figures())])
        self.actions, self.controls = [], []
        self.crate.metadata.extra_contexts.append(TERMS)
        where = {"url": self.project["repository-code"]} if "repository-code" in self.project else {}
        self.authors = self.entity("#authors", "Organization", name=self.project["authors"][0]["name"], **where)
        self.add_workflow(configfile)
        for path, record in self.jobs.items():
            self.add_files(path, record)
        for path, record in self.jobs.items():
            self.add_job(path, record)
        self.add_run()

    def entity(self, name: str, kind: str, /, **properties) -> ContextEntity:
        """Something that is no file, once."""
        return self.crate.get(name) or self.crate.add(
            ContextEntity(self.crate, name, properties={"@type": kind} | properties)
        )

    def file(self, path: Path, inside: str | None = None, /, **properties):
        """A file, under its name in the archive, once."""
        inside = inside or Path(os.path.relpath(path)).as_posix()
        if found := self.crate.get(inside):
            return found
        kind = KINDS.get(path.suffix, "text/plain")
        properties = {"name": path.name, "encodingFormat": kind, "sha256": digest(path)} | properties
        return self.crate.add_file(path, inside, properties=properties, record_size=True)

    def code(self, path: str, /, **properties):
        """A file of the project's, as seen from its folder."""
        return self.file(PROJECT / path, path, **properties)

    def add_workflow(self, configfile: Path) -> None:
        """The Snakefile, all that belongs to it, and the configuration, which is its input."""
        last = list(self.jobs.values())[-1]
        self.commits = sorted({record["commit"] for record in self.jobs.values()})
        properties = {
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            "name": self.project["title"],
            "version": ", ".join(self.commits),
            "license": {"@id": "LICENSE"},
            "encodingFormat": "text/plain",
            "creator": self.authors,
            "url": {"@id": self.project["references"][0]["url"]},
            "conformsTo": {"@id": f"{BIOSCHEMAS}ComputationalWorkflow/1.0-RELEASE"},
        }
        lang = {"lang": "snakemake", "lang_version": last["snakemake"]}
        self.workflow = self.crate.add_workflow(
            PROJECT / "Snakefile", "Snakefile", properties=properties, main=True, record_size=True, **lang
        )
        self.code("README.md", about={"@id": "./"}, encodingFormat="text/markdown")
        for name in ABOUT:
            self.code(name)
        programs = {f"scripts/{record['script']}" for record in self.jobs.values()}
        tool = {
            "@type": ["File", "SoftwareSourceCode"],
            "version": ", ".join(self.commits),
            "programmingLanguage": "Python",
            "url": self.project["references"][0]["url"],
        }
        for folder in ("config", "scripts", "workflow"):
            for path in sorted((PROJECT / folder).rglob("*.*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    name = path.relative_to(PROJECT).as_posix()
                    self.code(name, **(tool if name in programs else {}))
        inside = configfile.resolve().is_relative_to(PROJECT)
        name = configfile.resolve().relative_to(PROJECT).as_posix() if inside else f"config/{configfile.name}"
        self.configuration = self.file(configfile, name, exampleOfWork={"@id": "#configuration"})
        self.configuration["exampleOfWork"] = {"@id": "#configuration"}  # it is there already if it is the project's
        parameter = self.entity(
            "#configuration",
            "FormalParameter",
            name="configuration",
            description="Settings, laid over config/config.yaml",
            additionalType="File",
            workExample=self.configuration,
            conformsTo={"@id": f"{BIOSCHEMAS}FormalParameter/1.0-RELEASE"},
        )
        self.workflow["input"] = parameter
        self.engine = self.entity(
            f"https://snakemake.readthedocs.io/en/v{last['snakemake']}/",
            "SoftwareApplication",
            name="Snakemake",
            url=f"https://snakemake.readthedocs.io/en/v{last['snakemake']}/",
            softwareVersion=last["snakemake"],
        )

    def add_files(self, path: Path, record: dict) -> None:
        """What a job wrote, and its record."""
        self.file(path, name=f"Record of {record['script']}")
        for name in record["written"]:
            self.file(path.with_name(name))

    def read(self, path: str, told: str) -> ContextEntity:
        """What a job read: a file of the archive, or the name and digest of one that is left out."""
        inside = Path(path).as_posix()
        if self.crate.get(inside):
            return self.crate.get(inside)
        if not Path(path).is_absolute() and inside.startswith("results/") and Path(path).is_file():
            return self.file(Path(path))
        name = inside if not Path(path).is_absolute() else Path(path).name
        return self.entity(f"#{told[:16]}", "CreativeWork", name=name, sha256=told, description="Not in the archive")

    def tool(self, script: str) -> tuple:
        """A program, and the step of the workflow that it is."""
        tool = self.crate.get(f"scripts/{script}")
        step = self.entity(f"#step-{Path(script).stem}", "HowToStep", name=Path(script).stem, workExample=tool)
        return tool, step

    def add_job(self, path: Path, record: dict) -> None:
        """One job: its program, what it read and wrote, when, on what machine, in what memory."""
        tool, step = self.tool(record["script"])
        name = path.as_posix().removesuffix(".provenance.json")
        ended = datetime.fromisoformat(record["finished"])
        memory = self.entity(
            f"#memory-{name}",
            "PropertyValue",
            name="memory",
            value=str(round(record["memory"], 1)),
            unitCode="https://qudt.org/vocab/unit/MebiBYTE",
            propertyID="https://bioschemas.org/properties/memoryRequirements",
        )
        action = self.entity(
            f"#job-{name}",
            "CreateAction",
            name=f"{Path(record['script']).stem} of {name}",
            description=" ".join(["python", f"scripts/{record['script']}", *record["arguments"]]),
            instrument=tool,
            agent=self.authors,
            startTime=(ended - timedelta(seconds=record["seconds"])).isoformat(timespec="seconds"),
            endTime=record["finished"],
            actionStatus=COMPLETED,
            object=single([self.read(*item) for item in record["read"].items()]),
            result=single([self.file(path.with_name(name)) for name in record["written"]]),
            environment=self.environment(record),
            resourceUsage=memory,
        )
        self.actions.append(action)
        self.controls.append(
            self.entity(f"#control-{name}", "ControlAction", name=f"Start of {name}", instrument=step, object=action)
        )

    def environment(self, record: dict) -> list[ContextEntity]:
        """Machine and versions, each once."""
        shown = ("processor", "cores", "GPU", "system", "Python", "torch", "numpy", "scipy", "pandas", "matplotlib")
        return [
            self.entity(f"#{key}-{record[key]}".replace(" ", "_"), "PropertyValue", name=key, value=record[key])
            for key in shown
            if key in record
        ]

    def add_run(self) -> None:
        """The run as a whole, by Snakemake, and what the crate is."""
        steps = sorted({control["instrument"].id for control in self.controls})
        self.workflow["step"] = single([self.crate.get(step) for step in steps])
        self.workflow["hasPart"] = single([self.crate.get(step)["workExample"] for step in steps])
        whole = {
            "name": f"The configuration {self.place.name}",
            "agent": self.authors,
            "startTime": min(action["startTime"] for action in self.actions),
            "endTime": max(action["endTime"] for action in self.actions),
        }
        figures = Path(self.place.figures()).as_posix()
        ends = [
            self.crate.get(path.with_name(name).as_posix())
            for path, told in self.jobs.items()
            for name in told["written"]
        ]
        run = self.entity(
            "#run",
            "CreateAction",
            **whole,
            description=f"snakemake --configfile={self.configuration.id} all",
            instrument=self.workflow,
            object=self.configuration,
            result=single([file for file in ends if file.id.startswith(figures) or "/report/" in file.id]),
            actionStatus=COMPLETED,
        )
        engine = {"instrument": self.engine, "object": single(self.controls), "result": run}
        self.entity("#organisation", "OrganizeAction", **whole | {"name": "Snakemake's run"} | engine)
        root = self.crate.root_dataset
        root["name"] = f"{self.project['title']}: {self.place.name}"
        root["description"] = (
            f"The configuration {self.place.name}: its workflow, results and figures, with the record of every job"
        )
        root["license"] = {"@id": "LICENSE"}
        root["datePublished"] = whole["endTime"]
        root["version"], root["author"], root["publisher"] = self.project["version"], self.authors, self.authors
        root["mentions"] = [run, *self.actions]
        root["conformsTo"] = [
            self.entity(address, "CreativeWork", name=name, version=number)
            for address, (name, number) in PROFILES.items()
        ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, required=True, help="the configuration that has been run")
    parser.add_argument("--out", type=Path, help="the archive; results/<name>/crate.zip if it is not given")
    args = parser.parse_args(argv)
    strict.check_file(args.configfile)
    config = on_top(strict.read(PROJECT / "config/config.yaml"), strict.read(args.configfile))
    place = Place(PROJECT, config["name"])
    made = Crate(place, args.configfile)
    out = args.out or Path(place.results("crate.zip"))
    with atomic(out) as temporary:
        made.crate.write_zip(temporary)
    print(f"{out}: {len(made.actions)} jobs, {out.stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
