"""What power the claims on untrained networks have with the standard errors that were measured: power.csv.

`python figures/reference/power.py` takes seconds. A row is the part of a claim that has the least power. `finished`
says when the last of the kept untrained networks was measured; rows of earlier ones stay, and docs/protocol.md cites
them.

- standard_error: of the estimate; half of the measured 95 % interval over 1.96
- expected: the truth that the claim names, if it accepts what is near to a value; else the measured value
- power: the chance that an interval of this width lies wholly in the accepted region, if the estimate is normal about
  the expected one

`plan` is empty, or tells of how many runs the next measurement is to be (`PLANS`), if these are of fewer. A standard
error then falls with the root of the number of runs; that of a slope follows from those of the sizes at each depth.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path[:0] = [str(PROJECT / "scripts"), str(HERE)]

from judge import FROM, kept_results  # noqa: E402

from check_claims import read_claims  # noqa: E402
from erf.result.intervals import LEVEL  # noqa: E402
from replication.claims.claims import Claim  # noqa: E402
from replication.claims.measures import MEASURES, Results, plain_stacks  # noqa: E402
from replication.claims.verdicts import Part, Region  # noqa: E402

TABLE = HERE / "power.csv"
PLANS = {"finite_depth_linear": 200, "finite_depth_relu": 200, "signed_kernels": 600}  # runs, of slopes at 40 layers
SLOPE_DEPTHS = (10, 20, 40)
Z = ndtri((1 + LEVEL) / 2)


def power(region: Region, expected: float, error: float) -> float:
    """Chance that a 95 % interval lies in the region, if estimates scatter normally about `expected`."""
    low, high = region.low + Z * error, region.high - Z * error
    return max(0.0, float(ndtr((high - expected) / error) - ndtr((low - expected) / error)))


def row(finished: str, claim: Claim, part: Part, error: float, plan: str = "") -> dict:
    """A row of the table."""
    region = claim.region
    expected = (region.low + region.high) / 2 if "near" in claim.accept else part.value
    told = {"finished": finished, "claim": claim.id, "plan": plan, "part": part.label, "measured": part.value}
    return told | {"standard_error": error, "expected": expected, "power": power(region, expected, error)}


def measured(finished: str, claim: Claim, results: Results) -> list[dict]:
    """The rows of a claim's parts, least power first, but for those in which nothing varies."""
    parts = MEASURES[claim.measure](results.of(claim.figure), **claim.of)
    found = [row(finished, claim, part, (part.high - part.low) / (2 * Z)) for part in parts if part.high > part.low]
    return sorted(found, key=lambda one: one["power"])


def planned(finished: str, claim: Claim, results: Results) -> list[dict]:
    """The row of a claim with as many runs as `PLANS` has; none if there are as many."""
    least, runs = measured(finished, claim, results)[0], PLANS[claim.id]
    part = Part(least["part"], least["measured"])
    if claim.measure == "slopes_beside_theory":
        rows = plain_stacks(results.of(claim.figure), claim.of["series"]).set_index("depth").loc[list(SLOPE_DEPTHS)]
        before = rows["runs"].iloc[-1]
        after = rows["runs"].where(rows.index != SLOPE_DEPTHS[-1], runs)
        errors = (rows["high"] - rows["low"]) / (2 * Z * rows["size"]) * np.sqrt(rows["runs"] / after)  # of log size
        apart = np.log(SLOPE_DEPTHS) - np.log(SLOPE_DEPTHS).mean()
        error = math.hypot(*(apart * errors)) / (apart**2).sum()
        plan = f"{runs} runs at {SLOPE_DEPTHS[-1]} layers"
    else:
        before = results["reviewers"].query("question == @claim.of['question']")["runs"].max()
        error, plan = least["standard_error"] * math.sqrt(before / runs), f"{runs} runs"
    return [row(finished, claim, part, error, plan)] if before < runs else []


def table() -> pd.DataFrame:
    """The rows of the kept tables."""
    results, found = kept_results(), []
    origins = pd.read_csv(HERE / "provenance.csv")
    finished = origins.loc[origins["result"].str.startswith("networks/"), "finished"].max()
    claims = [claim for claim in read_claims(PROJECT / "config/claims.yaml") if claim.figure not in FROM]
    claims = [claim for claim in claims if claim.kind != "identity" and claim.obstacle != "open_protocol"]
    for claim in claims:
        found += measured(finished, claim, results)[:1]
        found += planned(finished, claim, results) if claim.id in PLANS else []
    return pd.DataFrame(found).round(9)


if __name__ == "__main__":
    made = table()
    if TABLE.exists():
        kept = pd.read_csv(TABLE, keep_default_na=False)
        made = pd.concat([kept[kept["finished"] != made["finished"].iloc[0]], made])
    made.to_csv(TABLE, index=False, lineterminator="\n")
    print(made.to_string(index=False))
