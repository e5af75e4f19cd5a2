"""Where files lie, what must hold of the folders that a run meets, and what a program is made of."""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

from replication.commands import source_code

NEEDED = 2**20  # bytes in the folder for temporary files; Snakemake's scheduler writes there
SKEW = 60  # seconds by which a file server's clock may be ahead
STARTED = time.time()


class Place:
    """Paths of a run, all relative to the working folder, so that a project that moves has nothing to do again.

    project : folder of the Snakefile
    name : of the configuration, which has a folder of its own in results/, figures/, logs/ and benchmarks/
    """

    def __init__(self, project: str | os.PathLike, name: str):
        self.project, self.name = Path(os.path.relpath(project)), name
        self.scripts = self.project / "scripts"
        self.report_folder = self.project / "workflow/report"
        self.claims = str(self.project / "config/claims.yaml")
        self.kept = self.project / "figures/reference"

    def results(self, path: str = "") -> str:
        return str(Path("results") / self.name / path)

    def figures(self, path: str = "") -> str:
        return str(Path("figures") / self.name / path)

    def logs(self, path: str = "") -> str:
        return str(Path("logs") / self.name / path)

    def benchmarks(self, path: str = "") -> str:
        return str(Path("benchmarks") / self.name / path)

    def data(self, dataset: str) -> str:
        """Path of a dataset's arrays, which all configurations share."""
        return f"data/{dataset}.npz"

    def settings(self, path: str) -> str:
        """Path of the settings that a program is given."""
        return self.results(f"settings/{path}.json")

    def program(self, name: str) -> dict[str, str | list[str]]:
        """A rule's inputs that are code: its program, and all modules of the project's that this imports, directly or
        not. A change in any of them reruns the rule."""
        script = self.scripts / f"{name}.py"
        return {"script": str(script), "modules": list(map(str, source_code.modules(script)))}

    def code_digest(self, name: str) -> str:
        """SHA-256 of a program and its modules."""
        return source_code.code_digest(self.scripts / f"{name}.py")

    def report_texts(self) -> list[str]:
        """Template, style, script and captions of the report."""
        return sorted(map(str, self.report_folder.glob("*.*")))

    def article_texts(self) -> list[str]:
        """Metadata and bibliography of the article, and the captions that it shares with the report."""
        return sorted(map(str, [*self.report_folder.glob("article/*.*"), *self.report_folder.glob("*.rst")]))

    def kept_results(self) -> list[str]:
        """What is kept of finished runs: claims, tables and figures."""
        return sorted(str(path) for path in self.kept.rglob("*.*") if path.suffix in (".csv", ".json", ".png"))

    def settle_dates(self) -> None:
        """Data, results and sources that are dated in the future are dated now: Snakemake would fail after each job
        that reads one. They all get one time, so that none becomes older than another that it is made from."""
        folders = [Path("data"), Path(self.results()), Path(self.figures()), self.scripts, self.report_folder]
        paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        for path in [*paths, Path(self.claims)]:
            if path.exists() and path.stat().st_mtime > STARTED:
                try:
                    os.utime(path, (STARTED, STARTED))
                except OSError:
                    sys.exit(f"error: {path} is dated in the future, and cannot be dated anew here: touch it")


def record(path: str) -> str:
    """Path of the record of what made a result, which its program leaves beside it."""
    return str(Path(path).with_suffix(".provenance.json"))


def check(project: str | os.PathLike) -> None:
    """Snakemake can name the project's files, and write its notes and temporary files."""
    if re.search("[{}]", str(project)):
        sys.exit(
            f"error: braces in {str(project)!r} are wildcards to Snakemake: give the project's folder another name"
        )
    if not os.access(".", os.W_OK):
        sys.exit(f"error: {Path.cwd()} cannot be written to: add --directory with a folder for what is made")
    try:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(NEEDED))
    except OSError as error:
        folder = tempfile.gettempdir()
        sys.exit(f"error: {folder}: {error.strerror}: free some of it, or set TMPDIR to another folder")
