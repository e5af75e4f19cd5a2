"""All that a machine with a GPU needs to train and measure, in files of at most 60 MiB, where neither a network nor
Snakemake is: `make gpu-bundle CONFIG=config/config.yaml`.

Writes a folder with the parts of one archive (the programs, their settings, the datasets) and run.py, which unpacks
them, does one job after the other and packs the results. The datasets must have been fetched: `make data`.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "workflow"), str(PROJECT / "scripts")]

from gpu_run import split  # noqa: E402
from lib import strict  # noqa: E402
from lib.configuration import Configuration, on_top  # noqa: E402
from lib.place import Place  # noqa: E402
from lib.run import Run, as_json  # noqa: E402
from replication.datasets.table import DATASETS  # noqa: E402


def jobs(run: Run) -> Iterator[dict]:
    """The jobs in order, each with its words after `python`, what it leaves, and its settings by path."""
    configuration, results = run.configuration, run.place.results
    for name in configuration.used("trainings"):
        dataset, settings = configuration.dataset_of(name), configuration.training(name)
        told = run.place.settings(f"trainings/{name}")
        given = ["--data", run.place.data(dataset), "--settings", told]
        for seed in settings["seeds"]:
            folder, where = results(f"trainings/{name}/seed_{seed}"), ["--seed", str(seed), "--device", "auto"]
            snapshots = [f"{folder}/{stem}.pt" for stem in configuration.snapshots(dataset)]
            fields = results(f"erf/{name}/seed_{seed}.npz")
            train = [f"scripts/{DATASETS[dataset].program}.py", *given, *where]
            train += ["--resume", run.training_state(name, str(seed)), "--out", folder]
            measure = ["scripts/measure_snapshots.py", "--snapshots", *snapshots, *given, *where]
            measure += ["--images", str(settings["images"]), "--threads", str(settings["threads"]), "--out", fields]
            yield {"words": train, "leaves": f"{folder}/provenance.json"}
            yield {"words": measure, "leaves": fields}


def bundle(run: Run, out: Path) -> list[Path]:
    """Write the parts, their checksums and run.py into a new folder; the parts."""
    configuration, project = run.configuration, run.place.project
    plan = list(jobs(run))
    if not plan:
        sys.exit(f"error: {configuration['name']} trains nothing: its targets show no trainings")
    data = [run.place.data(name) for name in configuration.used_datasets()]
    for path in data:
        if not Path(path).exists():
            sys.exit(f"error: there is no {path}: make data first")
    out.mkdir(parents=True)
    archive = out / "bundle.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        packed.add(project / "scripts", "scripts", filter=lambda file: None if "__pycache__" in file.name else file)
        for path in data:
            packed.add(path, path)
        for name in configuration.used("trainings"):
            file = out / "settings.json"
            file.write_text(as_json(configuration.trained_by(name)) + "\n", encoding="utf-8")
            packed.add(file, run.place.settings(f"trainings/{name}"))
            file.unlink()
    parts = split(archive, out / "part")
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in parts}
    told = {"name": configuration["name"], "parts": digests, "jobs": plan}
    (out / "jobs.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(project / "workflow/gpu_run.py", out / "run.py")
    return parts


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, required=True, help="a configuration, laid over config/config.yaml")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    args = parser.parse_args(argv)
    config = strict.read(PROJECT / "config/config.yaml")
    if args.configfile.resolve() != PROJECT / "config/config.yaml":
        strict.check_file(args.configfile)
        config = on_top(config, strict.read(args.configfile))
    if args.out.exists():
        sys.exit(f"error: {args.out} is there already: name another folder, or remove it")
    run = Run(Configuration(config), Place(PROJECT, config["name"]), rules=None, workflow=None)
    parts = bundle(run, args.out)
    print(f"{args.out}: {len(parts)} parts; there: python run.py --seconds 540, again until it says that all is done")


if __name__ == "__main__":
    main()
