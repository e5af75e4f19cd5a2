"""What was run, on what: versions, machine, commit; and the record of it beside every result."""

import contextlib
import itertools
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from erf.system.files import atomic, digest, journal, record_paths

try:
    import resource
except ImportError:  # Windows
    resource = None

PACKAGES = ("torch", "numpy", "scipy", "pandas", "matplotlib", "seaborn", "snakemake")


@contextlib.contextmanager
def recorded(script: str | os.PathLike, arguments: Sequence[str], code: str = "unknown") -> Iterator[None]:
    """Beside what is written meanwhile, leave a record: the script, the digest of its code and its arguments, digests
    of what it read and wrote, time, memory, commit, machine and versions. None if it fails.

    Files of one stem share `<stem>.provenance.json`; where a folder gets files of several, it is `provenance.json`.
    """
    started, origin = time.monotonic(), provenance(Path(script).parent)  # the commit may be another one at the end
    with journal() as files:
        yield
        made = {
            "script": Path(script).name,
            "code": code,
            "arguments": list(arguments),
            **origin,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            "memory": process_memory(),
            "read": {path: found for path, found in files.read.items() if Path(path) not in files.written},
        }
        written = sorted({path for path in files.written if path.exists()}, key=lambda path: (path.parent, path.name))
        for _, paths in itertools.groupby(written, key=lambda path: path.parent):
            here = list(paths)
            of_stem, of_folder = record_paths(here[0])
            record = made | {"written": {path.name: digest(path) for path in here}}
            with atomic(of_stem if len({path.stem for path in here}) == 1 else of_folder) as temporary:
                temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def provenance(folder: str | os.PathLike) -> dict[str, str]:
    """Everything, in words; `folder` is in the project's repository."""
    return {"commit": commit(folder), **machine(), "Python": platform.python_version(), **versions()}


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, str]:
    """Processor, cores that this process may use, memory, GPUs and system of this machine."""
    found = {"processor": processor(), "cores": str(cores())}
    try:
        found["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError):
        found["memory"] = "unknown"
    return {**found, "GPU": gpus(), "system": f"{platform.system()} {platform.release()}"}


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1]
        for line in (info.read_text(encoding="utf-8", errors="replace") if info.exists() else "").splitlines()
        if "model name" in line
    ]
    return names[0].strip() if names else platform.processor() or platform.machine()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_memory() -> float:
    """Most memory (MiB) that this process has held so far; NaN where that is not known."""
    if not resource:
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def gpus() -> str:
    """Names of NVIDIA's GPUs, by their own tool: it starts faster than torch does."""
    names = output_of(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    return names.replace("\n", ", ") if names else "none"


def commit(folder: str | os.PathLike) -> str:
    """Commit of the repository that tracks the code in `folder`, and whether tracked files have changed since; or why
    it is unknown. The repository around a project that was exported without its own says nothing about the project."""
    folder = Path(folder).resolve()
    root = next((above for above in (folder, *folder.parents) if (above / ".git").exists()), None)
    if root is None:
        return "unknown: this is no git repository"
    git = ["git", "--no-optional-locks", "-C", str(folder)]  # many jobs ask, and the user may commit meanwhile
    if owner_of(root) == owner_of(folder):
        # Git refuses a repository of another user, whose configuration may run commands. Here that user's code runs.
        git[1:1] = ["-c", f"safe.directory={root}"]
    name, tracked = output_of([*git, "rev-parse", "HEAD"]), output_of([*git, "ls-files", "--", "."])
    if name is None or tracked is None:
        return "unknown: git is missing, or cannot read this repository"
    if not tracked:
        return "unknown: the repository around this folder tracks none of its files"
    changes = output_of([*git, "status", "--porcelain", "--untracked-files=no"])
    return name + (", with changes since" if changes else "" if changes == "" else ", perhaps with changes since")


def owner_of(path: Path) -> int:
    """The user that a file or folder belongs to, by number; always 0 on Windows."""
    return path.stat().st_uid


def output_of(command: list[str]) -> str | None:
    """What a command prints; None if it fails or is not there."""
    try:
        found = subprocess.run(command, capture_output=True, check=True, timeout=30)
        return found.stdout.decode("utf-8", "replace").strip()
    except (OSError, subprocess.SubprocessError):
        return None
