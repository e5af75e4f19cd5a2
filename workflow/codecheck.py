"""Make anew what codecheck.yml lists, in a clean clone of the last commit, and compare: `make codecheck`.

Each file of the manifest is told to be *the same* (every byte), *equal* (a table whose numbers agree to RELATIVE, which
other processors may round otherwise; a picture that differs in few pixels) or *different*. Exit status 1 if any is
different or missing. Ten minutes on two cores; no dataset, no GPU, no network.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
REMADE = "config/untrained.yaml"  # the configuration whose figures and tables are kept and need no data
RELATIVE, PIXELS = 1e-3, 0.01  # of a number; share of a picture's pixels


def manifest(project: Path = PROJECT) -> list[str]:
    """The files that a check remakes, as seen from the project's folder."""
    return [
        entry["file"] for entry in yaml.safe_load((project / "codecheck.yml").read_text(encoding="utf-8"))["manifest"]
    ]


def steps(cores: str) -> list[list[str]]:
    """The commands that make the manifest's files anew, in a clone."""
    python = sys.executable
    return [
        [python, "-m", "snakemake", "--cores", cores, f"--configfile={REMADE}", "all"],
        [python, "figures/reference/gather.py", "untrained"],
        [python, "figures/reference/judge.py"],
    ]


def remake(folder: Path, cores: str) -> None:
    """Clone the last commit into `folder`, take what is to be remade out of it, and run the steps; SystemExit if one
    fails, with its output."""
    clone = ["git", "clone", "--quiet", "--no-local", str(PROJECT), str(folder)]
    subprocess.run(clone, check=True)
    for name in manifest(folder):
        (folder / name).unlink()
    for step in steps(cores):
        print(f"codecheck: {' '.join(step[1:])}", flush=True)
        environment = {**os.environ, "PYTHONPATH": ""}
        done = subprocess.run(step, cwd=folder, capture_output=True, encoding="utf-8", env=environment)
        if done.returncode:
            sys.exit(f"{done.stdout}{done.stderr}error: {' '.join(step)} failed")


def verdict(made: Path, kept: Path) -> str:
    """How a file that was made anew compares with the one that is kept: "the same", "equal", or what is different."""
    if not made.exists():
        return "missing: it was not made anew"
    if made.read_bytes() == kept.read_bytes():
        return "the same"
    if made.suffix == ".csv":
        return _tables(*(pd.read_csv(path, encoding="utf-8") for path in (made, kept)))
    return _pictures(made, kept)


def _tables(made: pd.DataFrame, kept: pd.DataFrame) -> str:
    try:
        pd.testing.assert_frame_equal(made, kept, rtol=RELATIVE)
    except AssertionError as error:
        return f"different: {str(error).splitlines()[0]}"
    return "equal"


def _pictures(made: Path, kept: Path) -> str:
    with Image.open(made) as ours, Image.open(kept) as theirs:
        ours, theirs = (np.asarray(image.convert("RGB"), np.int16) for image in (ours, theirs))
    if ours.shape != theirs.shape:
        return f"different: {ours.shape[:2]} pixels, not {theirs.shape[:2]}"
    share = (np.abs(ours - theirs).max(2) > 8).mean()
    return "equal" if share <= PIXELS else f"different: {share:.1%} of its pixels"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", default="all", help="for Snakemake")
    parser.add_argument("--out", type=Path, help="a new folder that keeps what was made anew")
    args = parser.parse_args(argv)
    if args.out and args.out.exists():
        sys.exit(f"error: {args.out} is there already: name another folder, or remove it")
    status = ["git", "-C", str(PROJECT), "status", "--porcelain"]
    if subprocess.run(status, capture_output=True, encoding="utf-8").stdout:
        print("codecheck: changes that are not committed are not checked")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "clone"
        remake(folder, args.cores)
        found = {name: verdict(folder / name, PROJECT / name) for name in manifest(folder)}
        if args.out:
            for name in found:
                (args.out / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, args.out / name)
    for name, how in found.items():
        print(f"{name}: {how}")
    wrong = [name for name, how in found.items() if how not in ("the same", "equal")]
    print(f"codecheck: {len(found) - len(wrong)} of {len(found)} files remade")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
