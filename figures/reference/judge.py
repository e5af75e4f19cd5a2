"""Hold the tables that are kept here against every claim: claims.json, claims.csv and scorecard.png.

The untrained networks are those of config/untrained.yaml; the trainings are those of config/short.yaml and of
config/fixed_point.yaml, which docs/protocol.md governs. Other units, reach and the paper's initialisation are of
laptop/, which no protocol governs.
`python figures/reference/judge.py` takes seconds.
"""

import json
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path[:0] = [str(PROJECT / "scripts"), str(PROJECT / "workflow")]

from check_claims import COLUMNS, finite, read_claims  # noqa: E402
from figure_scorecard import draw  # noqa: E402
from lib.configuration import Configuration, on_top  # noqa: E402
from lib.strict import read  # noqa: E402
from replication.claims.claims import check  # noqa: E402
from replication.claims.measures import Results  # noqa: E402
from replication.drawing.plots import use_style  # noqa: E402

UNTRAINED = ("growth_slopes", "networks", "structures", "convolution", "reviewers")
TABLES = {  # where they lie, by the name that measures call them
    **{{"growth_slopes": "slopes"}.get(name, name): f"{name}.csv" for name in UNTRAINED},
    **{name: f"laptop/{name}.csv" for name in ("initialization", "reach", "units")},
    "fixed_point": "fixed_point/fixed_point.csv",
    "sizes": "short/erf.csv",
    "scores": "short/test.csv",
}
FROM = {"initialization": "laptop", "reach": "laptop", "units": "laptop"}
FROM |= {"before_after": "short", "fixed_point": "fixed_point"}


def configuration(name: str) -> Configuration:
    """A configuration, on top of the paper's."""
    paper, overlay = (read(PROJECT / f"config/{stem}.yaml") for stem in ("config", name))
    return Configuration(on_top(paper, overlay))


def kept_results() -> Results:
    """The kept tables, as claims read them."""
    tables = {
        name: pd.read_csv(HERE / path).rename(columns={"name": "training"})
        for name, path in TABLES.items()
        if (HERE / path).exists()
    }
    # The paper's initialisation is not among the figures of the untrained networks.
    light = pd.read_csv(HERE / "laptop/networks.csv").query("centre_light > 0")
    tables["networks"] = pd.concat([tables["networks"], light], ignore_index=True)
    shown = configuration("laptop").networks_shown() | configuration("fixed_point").networks_shown()
    return Results(tables, configuration("short").judged_trainings(), shown)


def judged() -> list[dict]:
    """Every claim with its verdict, and the command that makes anew what it is judged by."""
    results, claims = kept_results(), read_claims(PROJECT / "config/claims.yaml")
    checked = []
    for claim in claims:
        name = FROM.get(claim.figure, "untrained")
        command = f"snakemake --cores all --configfile=config/{name}.yaml figures/{name}/{claim.figure}.png"
        found = finite(check(claim, results)) | {"command": command}
        if name == "laptop" and found["parts"]:
            found["note"] = f"{found['note']} Judged on trainings from before the protocol.".strip()
        checked.append(found)
    return checked


if __name__ == "__main__":
    claims = judged()
    (HERE / "claims.json").write_text(json.dumps(claims, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    pd.DataFrame(claims)[COLUMNS].to_csv(HERE / "claims.csv", index=False, lineterminator="\n")
    use_style()
    figure, _ = draw(claims)
    figure.savefig(HERE / "scorecard.png", dpi=200)
    print(
        pd.DataFrame(claims)[["id", "kind", "measured", "low", "high", "verdict", "otherwise"]].to_string(index=False)
    )
