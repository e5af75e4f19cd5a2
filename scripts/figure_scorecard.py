"""Figure: every claim of the paper, its value, ours with its 95 % interval, and the verdict.

The strip beside each shows all measurements that it is judged by, and shaded the values that its rule accepts. Where a
claim has several, the printed one speaks most against it. Claims are counted by kind, since an identity cannot fail.

Reads what check_claims has written; takes seconds.
"""

import sys

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from replication.claims.tables import counts_by_kind, ours, read_checked, strip_of, verdict_of
from replication.claims.verdicts import NOT_RUN
from replication.commands.cli import command, figure_arguments
from replication.drawing.plots import VERDICT_STYLES, WIDTH, save, use_style

LINE = 0.2  # inches
# Shares of the width.
COLUMNS = {"statement": 0.0, "kind": 0.345, "paper": 0.41, "ours": 0.505, "strip": 0.716, "verdict": 0.79}
STRIP = (0.716, 0.779)


def tabulate(claims: list[dict]) -> pd.DataFrame:
    """One row for each measurement of each claim, or one without a value for a claim that was not run."""
    rows = []
    for claim in claims:
        label = {name: claim[name] for name in ("id", "topic", "kind", "statement", "paper", "verdict", "otherwise")}
        low, high = claim["region"]
        region = {"accepted_low": low, "accepted_high": high, "unit": claim["unit"]}
        for part in claim["parts"] or [{}]:
            own = {"part": part.get("label"), "part_verdict": part.get("verdict")}
            rows.append({**label, **own, **{name: part.get(name) for name in ("value", "low", "high")}, **region})
    return pd.DataFrame(rows)


def draw_strip(axes: Axes, claim: dict, middle: float) -> None:
    """All measurements of a claim and what its rule accepts, each claim on a scale of its own."""
    strip = strip_of(claim)

    def place(share: float) -> float:
        return STRIP[0] + (STRIP[1] - STRIP[0]) * share

    left, right = map(place, strip["accepted"])
    axes.add_patch(Rectangle((left, middle - 0.36), max(right - left, 0.001), 0.72, color="0.88", linewidth=0))
    for order, part in enumerate(strip["parts"]):
        y = middle + 0.5 * ((order + 0.5) / len(strip["parts"]) - 0.5)
        colour = VERDICT_STYLES[part["verdict"]][0]
        if part["low"] is not None:
            axes.plot([place(part["low"]), place(part["high"])], [y, y], "-", color=colour, linewidth=0.9)
        axes.plot(place(part["value"]), y, "o", color=colour, markersize=2.2)


def draw(claims: list[dict]):
    topics = list(dict.fromkeys(claim["topic"] for claim in claims))
    kinds = counts_by_kind(claims)
    lines = len(claims) + len(topics) + len(kinds) + 2
    figure, axes = plt.subplots(figsize=(WIDTH, LINE * lines), layout="none")
    figure.subplots_adjust(left=0.01, right=0.995, top=0.995, bottom=0.005)
    axes.set(xlim=(0, 1), ylim=(lines - 0.3, -0.7))
    axes.set_axis_off()
    text = {"va": "center", "fontsize": 6}
    heads = {"kind": "kind", "paper": "paper", "ours": "here [95 %]", "strip": "accepted", "verdict": "verdict"}
    for name, title in heads.items():
        axes.text(COLUMNS[name], 0, title, color="0.35", **text)
    line = 0
    for topic in topics:
        line += 1
        axes.text(0, line, topic, fontweight="bold", va="center", fontsize=7)
        axes.axhline(line - 0.5, color="0.8", linewidth=0.5)
        for claim in (claim for claim in claims if claim["topic"] == topic):
            line += 1
            colour, symbol = VERDICT_STYLES[claim["verdict"]]
            axes.text(COLUMNS["statement"] + 0.012, line, claim["statement"], **text)
            axes.text(COLUMNS["kind"], line, claim["kind"], color="0.35", **text)
            axes.text(COLUMNS["paper"], line, claim["paper"], **text)
            axes.text(COLUMNS["ours"], line, ours(claim), **text)
            if claim["verdict"] != NOT_RUN:
                draw_strip(axes, claim, line)
            axes.plot(COLUMNS["verdict"] + 0.006, line, symbol, color=colour, markersize=4.5)
            axes.text(COLUMNS["verdict"] + 0.022, line, verdict_of(claim), color=colour, **text)
    axes.axhline(line + 0.5, color="0.8", linewidth=0.5)
    for title, counts in kinds.items():
        line += 1
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        axes.text(0, line, f"{sum(counts.values())} {title}: {told}", **text)
    return figure, tabulate(claims)


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, claims="what check_claims wrote, .json")
    use_style()
    save(*draw(read_checked(args.claims[0])), args.out)


if __name__ == "__main__":
    sys.exit(main())
