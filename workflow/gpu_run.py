"""Train and measure what a bundle holds (gpu_bundle.py): python run.py [--seconds 540]. Needs torch, and no network.

Unpacks the parts beside it, once; does the jobs in their order; ends after so many seconds, and goes on from there when
called again: a training from its last epoch. Then packs what was made into results_000, results_001, … of at most 60
MiB, without the states of trainings. Exit status 0 if all is done, 3 if something is left, 1 if a job has failed.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PART = 60 * 2**20  # bytes
GRACE = 20  # seconds that a program has to end, and the packing after it


def unpack(digests: dict[str, str]) -> None:
    """Put the parts together and unpack them here; once."""
    if (HERE / "scripts").exists():
        return
    archive = HERE / "bundle.tar.gz"
    with archive.open("wb") as whole:
        for name, digest in digests.items():
            content = (HERE / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                sys.exit(f"error: {name} is damaged: copy it anew")
            whole.write(content)
    with tarfile.open(archive) as packed:
        packed.extractall(HERE, filter="data")
    archive.unlink()


def do(job: dict, deadline: float) -> bool:
    """Whether a job is done, which may take until the deadline."""
    if (HERE / job["leaves"]).exists():
        return True
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    print(" ".join(job["words"]), flush=True)
    program = subprocess.Popen([sys.executable, *job["words"]], cwd=HERE)
    try:
        status = program.wait(left)
    except subprocess.TimeoutExpired:
        program.terminate()  # it ends in one line, and its state stays
        program.wait()
        return False
    if status:
        sys.exit(f"error: {job['words'][0]} has failed")
    return True


def pack() -> list[Path]:
    """The results in parts."""
    for old in HERE.glob("results_*"):
        old.unlink()
    archive = HERE / "results.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        packed.add(HERE / "results", "results", filter=lambda file: None if "/resume" in file.name else file)
    return split(archive, HERE / "results")


def split(path: Path, stem: Path) -> list[Path]:
    """Replace a file by parts of at most PART bytes, <stem>_000, <stem>_001, …, and return these."""
    parts = []
    with path.open("rb") as whole:
        while content := whole.read(PART):
            parts.append(stem.with_name(f"{stem.name}_{len(parts):03d}"))
            parts[-1].write_bytes(content)
    path.unlink()
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="in which to end; all of it if not given")
    args = parser.parse_args()
    deadline = time.monotonic() + args.seconds - (GRACE if args.seconds < float("inf") else 0)
    plan = json.loads((HERE / "jobs.json").read_text(encoding="utf-8"))
    unpack(plan["parts"])
    done = 0
    for job in plan["jobs"]:
        if not do(job, deadline):
            break
        done += 1
    parts = pack()
    print(f"{done} of {len(plan['jobs'])} jobs are done; results in {', '.join(path.name for path in parts)}")
    sys.exit(0 if done == len(plan["jobs"]) else 3)


if __name__ == "__main__":
    main()
