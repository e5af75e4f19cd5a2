"""What the pipeline promises to make again, byte for byte on the CPU, and whether it did.

Not promised: times (speed.csv, the report that shows them, the provenance beside every result), the states that
trainings go on from, what is kept aside meanwhile, and the settings that programs are told.
"""

from pathlib import Path

from erf.system.files import digest

FOLDERS = ("data", "results", "figures")
UNREPEATABLE = ("*provenance.json", "speed.csv", "report/index.html", "*.damaged", ".*")
STATES = {"resume", "downloads", ".kept", "settings"}  # folders


def digests(project: Path) -> dict[str, str]:
    """SHA-256 by path, as seen from the project's folder, of all that is promised."""
    return {
        path.relative_to(project).as_posix(): digest(path)
        for folder in FOLDERS
        for path in sorted((project / folder).rglob("*"))
        if path.is_file() and not STATES & {*path.parts} and not any(path.match(pattern) for pattern in UNREPEATABLE)
    }


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """What differs, is missing, or is there and should not be, in words."""
    return [
        f"{path}: " + ("missing" if path not in found else "not expected" if path not in expected else "differs")
        for path in sorted({*found, *expected})
        if found.get(path) != expected.get(path)
    ]
