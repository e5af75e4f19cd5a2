"""Run a configuration twice, as differently as may be, and compare all that is promised to be the same, byte for byte.

    python tests/check_reproducibility.py config/quick.yaml

Both runs begin with nothing, in folders of their own. The second has one core, makes the targets one by one in a random
order, and has other networks and experiments in its configuration. Exit status 1 if anything differs.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from conftest import copy_project  # noqa: E402
from repeatable import differences, digests  # noqa: E402

MORE = {  # before and after the names that are there
    "networks": {"aaa": {"weights": "random", "depths": [3], "seed": 5}, "zzz": {"weights": "uniform", "width": 1}},
    "reach": {"aaa": {"width": 8}, "zzz": {"seeds": [7]}},
    "trainings": {"aaa": {"dataset": "cifar10", "seeds": [9]}, "zzz": {"dataset": "camvid"}},
}


def snakemake(folder: Path, overlay: str, *arguments: str) -> None:
    """Run it in `folder`; SystemExit with its output if it fails."""
    command = [sys.executable, "-m", "snakemake", f"--configfile={overlay}", *arguments]
    result = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        sys.exit(f"{result.stdout}\n{' '.join(command)} failed in {folder}")


def run_at_once(folder: Path, overlay: str) -> None:
    """As usual, on all cores."""
    snakemake(folder, overlay, "--cores", "all", "all")


def run_piecemeal(folder: Path, overlay: str, chance: random.Random) -> None:
    """On one core, target by target in random order, beside other experiments."""
    path = folder / "config/config.yaml"
    config = yaml.safe_load(path.read_text())
    for section, entries in MORE.items():
        (first, more), (last, others) = entries.items()
        config[section] = {first: more, **dict(reversed(config[section].items())), last: others}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    config |= yaml.safe_load((folder / overlay).read_text())
    targets = [f"{'/'.join(['figures', config['name']]).rstrip('/')}/{figure}.png" for figure in config["targets"]]
    chance.shuffle(targets)
    for count in (1, len(targets) // 2):  # one alone, several together, and what is left
        snakemake(folder, overlay, "--cores", "1", *targets[:count])
        del targets[:count]
    snakemake(folder, overlay, "--cores", "1", "all")


def compare(overlay: str, seed: int = 0) -> tuple[int, list[str]]:
    """How many files were compared, and what differs."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (Path(folder) / name for name in ("at_once", "piecemeal"))
        for project in (first, second):
            project.mkdir()
            copy_project(project)
        run_at_once(first, overlay)
        run_piecemeal(second, overlay, random.Random(seed))
        expected = digests(first)
        return len(expected), differences(digests(second), expected)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overlay", help="configuration, as seen from the project's folder")
    overlay = parser.parse_args(argv).overlay
    os.environ.pop("OMP_NUM_THREADS", None)
    count, found = compare(overlay)
    print(*found, f"{overlay}: {count} files compared, {len(found)} differ", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
