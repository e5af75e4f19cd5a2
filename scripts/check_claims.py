"""Hold every claim of the paper against what was measured: a verdict each, by the rules of config/claims.yaml.

The table has one row a claim, with the measurement that speaks most against it; the .json beside it has all of them.

Reads the tables of the results and of two figures; takes seconds.
"""

import json
import math
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import yaml

from erf.errors import InputError
from erf.system.files import atomic, noted
from replication.claims.claims import check, claims_of
from replication.claims.measures import Results
from replication.commands.cli import add_settings, command, new_parser, read_table, write_table
from replication.trained.tables import read_scores, read_sizes

COLUMNS = ["id", "statement", "paper", "measured", "low", "high", "verdict", "reason", "command"]
PROJECT = os.path.relpath(Path(__file__).parent.parent)  # from the working folder, as in the commands of the rules
NONE = {"trainings": {}, "shown": {}}  # what is told of no configuration
OWN = {"fixed_point"}  # figures with a configuration of their own, of the same name; config/laptop.yaml has all others


def elsewhere(figure: str) -> str:
    """The command that makes a figure which is not among the targets."""
    name = figure if figure in OWN else "laptop"
    words = ["snakemake", "--cores", "all"]
    words += [] if PROJECT == "." else ["--snakefile", f"{PROJECT}/Snakefile"]
    overlay = os.path.normpath(f"{PROJECT}/config/{name}.yaml")
    return shlex.join([*words, f"--configfile={overlay}", f"figures/{name}/{figure}.png"])


def reader(*columns: str) -> Callable[[list[Path]], pd.DataFrame]:
    """A function that reads tables as one, each of which has these columns."""
    return lambda paths: pd.concat([read_table(path, *columns) for path in paths], ignore_index=True)


TABLES = {  # by the argument that names the files: what makes them, and how they are read
    "networks": ("measure_network", reader("network", "variant", "r2", "kurtosis", "departure", "box_share")),
    "slopes": ("growth_slopes", reader("weights", "quantity", "slope", "theory", "range")),
    "structures": ("figure_structures", reader("structure", "series", "ratio")),
    "convolution": ("figure_convolution", reader("panel", "kernel", "fourier", "value")),
    "initialization": ("figure_initialization", reader("panel", "series", "strength", "change")),
    "reviewers": ("figure_reviewers", reader("question", "condition", "quantity", "value", "theory")),
    "reach": ("figure_reach", reader("network", "steps", "quantity", "value")),
    "units": ("figure_units", reader("varied", "snapshot", "ratio")),
    "fixed_point": (
        "figure_fixed_point",
        reader("panel", "quantity", "early", "late", "shift", "value", "low", "high"),
    ),
    "sizes": ("measure_snapshots", read_sizes),
    "scores": ("the trainings' tests", read_scores),
}


def read_claims(path: Path) -> list:
    """The claims of a .yaml; InputError where it is not as `replication.claims.claims.Claim` has it."""
    try:
        entries = yaml.safe_load(noted(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: must be a list of claims")
    return claims_of(entries)


def finite(value):
    """The same for JSON, which has neither NaN nor infinity: None."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--claims", type=Path, required=True, help="the claims, .yaml")
    for name, (maker, _) in TABLES.items():
        text = f"tables of {maker}, .csv; none if not measured"
        parser.add_argument(f"--{name}", type=Path, nargs="*", default=[], help=text)
    add_settings(
        parser, "settings of the paper's trainings, the networks that each figure shows, what makes a figure", NONE
    )
    parser.add_argument("--out", type=Path, required=True, help=".csv; the .json comes beside it")
    args = parser.parse_args(argv)
    given = {name: read(getattr(args, name)) for name, (_, read) in TABLES.items() if getattr(args, name)}
    shown = args.settings["shown"]
    results = Results(given, args.settings["trainings"], shown)
    checked = []
    for claim in read_claims(args.claims):
        own = args.settings.get("command", "") if claim.figure in shown else ""
        makes = own.replace("{figure}", claim.figure) or elsewhere(claim.figure)
        checked.append(finite(check(claim, results)) | {"command": makes})
    write_table(pd.DataFrame(checked)[COLUMNS], args.out)
    with atomic(args.out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(checked, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(pd.DataFrame(checked)[["id", "paper", "measured", "low", "high", "verdict"]].to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
