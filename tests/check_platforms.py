"""On which machines and versions of Python each package of requirements.lock has a wheel, by a dry run of uv, which
reads the index and installs nothing. `make check-platforms` writes docs/platforms.md.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".archive-venv/bin/uv"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = {  # uv's names
    "Linux, x86-64": "x86_64-manylinux_2_28",
    "Linux, arm64": "aarch64-manylinux_2_28",
    "macOS 14, arm64": "aarch64-apple-darwin",
    "macOS 14, x86-64": "x86_64-apple-darwin",
}
PAGE = """# Where the pinned packages install
`requirements.lock` pins every package. The table says *yes* where all of them have a wheel. Elsewhere it names those
without one: pip builds them from source, or fails. The tests run on Linux, x86-64; nothing was tried on the other
machines. `make check-platforms` writes this page.

| | {pythons} |
| --- |{rule}
{rows}

{sources}
"""


def without_wheel(requirements: list[str], python: str, platform: str, uv: Path = UV) -> list[str]:
    """Names of the packages that have no wheel for this Python and platform; SystemExit if uv fails otherwise."""
    found = []
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version", python, "--python-platform", platform]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    environment["MACOSX_DEPLOYMENT_TARGET"] = "14.0"
    while True:
        command = [str(uv), "pip", "compile", *options, "-"]
        text = "\n".join(requirements)
        result = subprocess.run(command, input=text, capture_output=True, text=True, env=environment)
        if not result.returncode:
            return found
        missing = re.search(r"([\w.-]+)==\S+\s+has\s+no\s+(?:usable\s+)?wheels", result.stderr)
        left = [one for one in requirements if not missing or _plain(one) != _plain(missing[1])]
        if len(left) != len(requirements) - 1:
            sys.exit(f"error: uv cannot tell what has a wheel:\n{result.stderr}")
        found += [one.split("==")[0] for one in requirements if one not in left]
        requirements = left


def _plain(requirement: str) -> str:
    """A package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", requirement.split("==")[0]).lower()


def page(requirements: list[str]) -> str:
    """The table of all machines and versions, in Markdown."""
    found = {}
    for machine, platform in MACHINES.items():
        for python in PYTHONS:
            found[machine, python] = without_wheel(requirements, python, platform)
            print(f"Python {python}, {machine}: {found[machine, python] or 'yes'}", flush=True)
    everywhere = set.intersection(*map(set, found.values()))
    rows = []
    for machine in MACHINES:
        lacking = [[f"`{name}`" for name in found[machine, python] if name not in everywhere] for python in PYTHONS]
        rows.append(f"| {machine} | {' | '.join('no: ' + ', '.join(names) if names else 'yes' for names in lacking)} |")
    names = ", ".join(f"`{name}`" for name in sorted(everywhere))
    sources = f"No wheel on any machine: {names}. pip builds it from its source, which is Python alone."
    return PAGE.format(
        pythons=" | ".join(PYTHONS),
        rule=" --- |" * len(PYTHONS),
        rows="\n".join(rows),
        sources=sources if everywhere else "Every package has a wheel somewhere.",
    )


if __name__ == "__main__":
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    (ROOT / "docs/platforms.md").write_text(page([line for line in lines if "==" in line]), encoding="utf-8")
