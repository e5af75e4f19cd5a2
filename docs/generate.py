"""Write docs/results.md, and what is generated in README and other pages, from figures/reference.

`python docs/generate.py`. Nothing on the page of results is typed: verdicts and values come from the kept claims,
tables from the kept tables, captions from workflow/report/, which the report uses too.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "workflow")]

import figure_sensitivity  # noqa: E402
from erf.result.intervals import mean_interval  # noqa: E402
from figure_units import layer_name  # noqa: E402
from lib.figures import FIGURES  # noqa: E402
from replication.claims.kept_tables import (  # noqa: E402
    Table,
    arm,
    growth_table,
    kernel_table,
    read_erf,
    rising_table,
    runs_table,
    slope_table,
)
from replication.claims.measures import mean_ratio  # noqa: E402
from replication.claims.tables import capital, counts_in_words, is_the_papers, ours, part_of, read_checked, verdict_of  # noqa: E402
from replication.datasets.table import DATASETS  # noqa: E402
from replication.drawing.labels import over_seeds, with_interval  # noqa: E402
from replication.statistics.gaussianity import LIMITS  # noqa: E402
from replication.statistics.slopes import BOX  # noqa: E402

CLAIMS = yaml.safe_load((ROOT / "config/claims.yaml").read_text(encoding="utf-8"))
REFERENCE = ROOT / "figures/reference"
LAPTOP = REFERENCE / "laptop"


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def kept(make: Callable[[Path], Table]) -> Callable[[], str]:
    """A function that makes a table of what is kept, as Markdown."""
    return lambda: table(*make(REFERENCE))


def kept_claims() -> list[dict]:
    """The claims as judged on the kept tables (figures/reference/judge.py)."""
    return read_checked(REFERENCE / "claims.json")


def summary() -> str:
    """How many claims of each kind have each verdict, in sentences; then the empirical ones that are not reproduced."""
    claims = kept_claims()
    papers, others = ([one for one in claims if is_the_papers(one) is whose] for whose in (True, False))
    lines = [f"- {line}" for line in counts_in_words(papers)]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(one["verdict"] for one in others).items())
    lines.append(f"- Of {len(others)} questions that its reviewers asked, or we: {counts}.")
    failed = [f"{claim['statement']} ({ours(claim)})" for claim in claims if claim["verdict"] == "not reproduced"]
    return "\n".join(lines) + (f"\n\nNot reproduced: {'; '.join(failed)}." if failed else "")


def brief(*names: str) -> Callable[[], str]:
    """What was found on these claims, one line each, with the scorecard's value."""

    def lines() -> str:
        claims = {claim["id"]: claim for claim in kept_claims()}
        told = []
        for claim in map(claims.get, names):
            told_apart = claim["unit"] == "× before" and claim["parts"]
            value = "; ".join(part_of(claim, part) for part in claim["parts"]) if told_apart else ours(claim)
            paper = "asked by its reviewers" if claim["paper"] == "asked" else f"the paper: {claim['paper']}"
            told.append(f"- {claim['statement']} ({paper}): *{verdict_of(claim)}*{f', {value}' if value else ''}.")
        return "\n".join(told)

    return lines


def training_scale() -> str:
    """Width and epochs of the runs by which the growth during training is judged."""
    paper, short = (
        yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8")) for name in ("config", "short")
    )
    told = []
    for dataset in DATASETS:
        settings = short["training_defaults"][dataset]
        full = paper["training_defaults"][dataset]["network"]["width"]
        told.append(
            f"{DATASETS[dataset].title}: width {settings['network']['width']} of {full}, "
            f"{settings['recipe']['epochs']} epochs"
        )
    return f"{'; '.join(told)}."


def finding(claim: dict) -> str:
    """One claim, what was found, and by which rule, in plain sentences."""
    heading = f"**{claim['statement']}** ({claim['kind']}; the paper: {claim['paper']}). *{capital(verdict_of(claim))}*"
    if not claim["parts"]:
        return f"{heading}: {claim['reason']}."
    parts = "; ".join(part_of(claim, part) for part in claim["parts"])
    rule = f"The rule accepts {claim['accepted']}: {claim['why']}. {capital(claim['against'])} would count against it."
    obstacle = f" {capital(claim['reason'])}." if claim["verdict"] == "not comparable" else ""
    note = f" {claim['note']}" if claim["note"] else ""
    return f"{heading}: {parts}.{obstacle} {rule}{note}"


def findings() -> str:
    """All claims, by topic."""
    claims = kept_claims()
    topics = dict.fromkeys(claim["topic"] for claim in claims)
    sections = []
    for topic in topics:
        lines = [f"- {finding(claim)}" for claim in claims if claim["topic"] == topic]
        sections.append(f"### {capital(topic)}\n\n" + "\n".join(lines))
    return "\n\n".join(sections)


def figure_sections() -> str:
    """Every kept figure with its caption and its tables, in the report's order."""
    sections = []
    for name, figure in FIGURES.items():
        folders = (REFERENCE, REFERENCE / "short", REFERENCE / "fixed_point", LAPTOP)
        kept = [folder / f"{name}.png" for folder in folders]
        path = next((path for path in kept if path.exists()), None)
        if path is None:
            continue
        picture = f"![{figure.title}](../{path.relative_to(ROOT).as_posix()})"
        tables = [make() for make in SHOWN_WITH.get(name, [])]
        early = EARLIER if path.parent == LAPTOP else ""
        governed = GOVERNED if name == "before_after" else ""
        parts = [f"### {figure.title}", caption(name), early, picture, governed, *tables]
        sections.append("\n\n".join(filter(None, parts)))
    return "\n\n".join(sections)


def caption(name: str) -> str:
    """A figure's caption, as Markdown."""
    text = (ROOT / f"workflow/report/{name}.rst").read_text(encoding="utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.startswith(".. "))
    text = re.sub(r"\\ :sup:`([^`]+)`", r"^\1", text)
    text = re.sub(r"`([^`<]+) <([^>]+)>`_", r"[\1](\2)", text.replace("``", "`").replace("\\|", "|"))
    return " ".join(text.split())


def readings_table() -> str:
    """Both slopes of every kind of network by every reading of the impact."""
    slopes = pd.read_csv(REFERENCE / "growth_slopes.csv")
    columns = [(quantity, depths) for quantity in ("size", "ratio") for depths in slopes["range"].unique()]
    names = {"size": "ERF size", "ratio": "ERF size / RF size"}
    header = [f"{names[quantity]}, {depths.replace('-', '–')} layers" for quantity, depths in columns]
    rows = []
    for _, network in slopes.groupby("network", sort=False):
        for variant in sorted(network["variant"].unique(), key=figure_sensitivity.rank):
            own = network[network["variant"] == variant].set_index(["quantity", "range"])
            found = [own.loc[column] for column in columns]
            cells = [with_interval(row["slope"], row["low"], row["high"], 3) for row in found]
            reading = figure_sensitivity.label(variant).replace("|", "\\|")
            rows.append([figure_sensitivity.network_name(network.iloc[0]), reading, *cells])
    title = "Slopes against depth [95 %], without the depths at which the receptive field cuts the ERF off:"
    return f"{title}\n\n{table(['network', 'reading', *header], rows)}"


def structure_table() -> str:
    """ERF sizes of the structures as multiples of the plain stack's."""
    ratios = pd.read_csv(REFERENCE / "structures.csv").set_index(["structure", "series"])
    paper = {"subsample": "larger", "average_pool": "", "dilation": "larger", "skip": "smaller", "dropout": "the same"}
    rows = []
    for name, claim in paper.items():
        row = [name.replace("_", " ")]
        for series in ("random", "random + ReLU"):
            found = ratios.loc[(name, series)]
            row.append(with_interval(found["ratio"], found["ratio_low"], found["ratio_high"], 3))
        theory = with_interval(ratios.loc[(name, "random"), "theory_ratio"], np.nan, np.nan, 3)
        rows.append([*row, theory, claim])
    return table(["15 layers", "random [95 %]", "random + ReLU [95 %]", "theory", "paper"], rows)


def secondary_table() -> str:
    """After / before of the outcomes that docs/protocol.md calls secondary, over its seeds."""
    erf, rows = read_erf(REFERENCE), []
    for name, here in erf.groupby("name", sort=False):
        snapshots = ("epoch_000", f"epoch_{here['epoch'].max():03d}", "best")
        before, last, best = (here[here["snapshot"] == snapshot].set_index("seed") for snapshot in snapshots)
        row = [arm(name), f"{here['residual_scale'].iloc[0]:g}"]
        for after, quantity in ((best, "sigma"), (best, "size"), (last, "size_e2"), (last, "size_maximum")):
            row.append(over_seeds(mean_ratio(before[quantity], after[quantity]), len(before), 3))
        rows.append(row)
    header = ["", "γ", "σ, best snapshot", "size, best snapshot", "size above e⁻²", "size above 4.55 % of the maximum"]
    return f"These secondary outcomes, after / before, have no verdict:\n\n{table(header, rows)}"


def scores_of(training: str) -> pd.Series:
    """Test score of an earlier training by seed: mean IoU where there is one, or else accuracy."""
    found = pd.read_csv(LAPTOP / "test.csv").query("name == @training").set_index("seed")
    return found["test_mean_iou"].fillna(found["test_accuracy"])


def convergence_table() -> str:
    """ERF diameters and test scores from three starts."""
    found = pd.read_csv(LAPTOP / "convergence.csv").query("seed == 'mean'")
    starts = pd.read_csv(LAPTOP / "erf.csv").query("centre_light == 0").set_index(["dataset", "residual_scale"])["name"]
    rows = []
    for dataset in DATASETS:
        for (quantity, start), group in found.query("dataset == @dataset").groupby(["quantity", "start"], dropna=False):
            epochs = group.set_index("epoch").sort_index()
            digits, name = (1, f"{start:g}") if quantity == "diameter" else (2, "largest over smallest start")
            row = [DATASETS[dataset].title, name]
            for epoch in (0, 3, epochs.index[-1]):
                mean = epochs.loc[epoch]
                row.append(over_seeds((mean["value"], mean["low"], mean["high"]), mean["seeds"], digits))
            scores = [] if np.isnan(start) else 100 * scores_of(starts[(dataset, start)].iloc[0])
            rows.append([*row, f"{over_seeds(mean_interval(scores), len(scores))} %" if len(scores) else ""])
    header = [
        "ERF diameter, pixels [95 %]",
        "γ",
        "before training",
        "after 3 epochs",
        "after the last epoch",
        "test score",
    ]
    return table(header, rows)


def initialization_table() -> str:
    """Epochs to a validation score from centre-light weights, relative to He's."""
    found = pd.read_csv(LAPTOP / "initialization.csv", dtype={"seed": str}).query("panel == 'epochs'")
    means = found.query("seed == 'mean'")
    rows = []
    for row in means.query("strength > 0").itertuples():
        he = means.query("strength == 0 and series == @row.series and score == @row.score").iloc[0]
        word = "mean IoU" if row.series == "camvid" else "accuracy"
        change = over_seeds(tuple(100 * value for value in (row.change, row.low, row.high)), row.seeds, 0)
        missed = f"reached by {he['reached']:.0f} and {row.reached:.0f} of {row.seeds:.0f} seeds"
        cells = missed if np.isnan(row.change) else f"{change} %"
        rows.append(
            [
                DATASETS[row.series].title,
                f"{word} {row.score:g}",
                f"{he['epochs']:.1f}".replace("nan", "never"),
                cells,
                f"{row.seeds:.0f}",
            ]
        )
    return table(["", "validation score", "epochs, He", "centre-light: change [95 %]", "seeds"], rows)


def units_table() -> str:
    """What the trained networks' ERF is elsewhere, beside that of the middle unit and that before training."""
    found = pd.read_csv(LAPTOP / "units.csv").query("snapshot == 'best'")
    keys = ["dataset", "varied", "choice"]
    runs = pd.read_csv(LAPTOP / "units_by_seed.csv")
    runs["choice"] = runs["choice"].map(layer_name)
    sizes = runs.pivot_table(index=[*keys, "seed"], columns="snapshot", values="size")
    growth = (sizes["best"] / sizes["epoch_000"]).groupby(keys)
    rows = []
    for row in found.itertuples():
        here = growth.get_group((row.dataset, row.varied, row.choice))
        bound = "at least " if row.clipped and row.size < row.theoretical_rf else ""
        size = bound + over_seeds((row.size, row.low, row.high), row.seeds)
        ratio = over_seeds((row.ratio, row.ratio_low, row.ratio_high), row.seeds, 2)
        what = ["middle unit of the top", ""] if row.varied == "reference" else [row.varied, row.choice]
        rows.append([DATASETS[row.dataset].title, *what, size, ratio, over_seeds(mean_interval(here), len(here), 2)])
    header = ["", "varied", "to", "ERF size, pixels [95 %]", "over the middle unit's", "over its own before training"]
    return table(header, rows)


def reach_table() -> str:
    """How far cues are learnt, beside the radii."""
    found = pd.read_csv(LAPTOP / "reach.csv").query("seed == 'mean' and distance != distance")
    rows = []
    for (network, steps), group in found.groupby(["network", "steps"], sort=False):
        values = group.set_index("quantity")
        row = [network, f"{steps}", f"{values.loc['theoretical_radius', 'value']:.0f}"]
        for quantity in ("erf_radius_untrained", "erf_radius_learnt", "frontier"):
            mean = values.loc[quantity]
            row.append(over_seeds((mean["value"], mean["low"], mean["high"]), mean["seeds"]))
        rows.append([*row[:-1], row[-1] + (" (censored)" if values.loc["frontier", "censored"] else "")])
    header = [
        "network",
        "steps",
        "theoretical radius",
        "ERF radius before",
        "after, cue at the frontier",
        "cues learnt up to",
    ]
    return table(header, rows)


def sample_table() -> str:
    """How far the slopes of one-channel networks scatter, and how often both are the paper's."""
    samples = pd.read_csv(REFERENCE / "slope_samples.csv").dropna(subset="size")
    rows = []
    for (depths, weights, variant), found in samples.groupby(["depths", "weights", "variant"], sort=False):
        kind = {"abs": "size of the mean map", "per run": "mean of the runs' sizes"}[variant]
        slopes, large, pairs = found["size"], (found["size"] >= BOX["size"][0]).sum(), found["pair"].sum()
        row = [depths.replace("-", "–"), weights, kind, f"{slopes.mean():.3f}", f"{slopes.std():.3f}"]
        rows.append([*row, *(f"{hits} of {len(found)}" for hits in (large, pairs))])
    header = [f"1 channel, {samples['runs'].iloc[0]} runs; layers", "weights", "slope of the", "mean"]
    return table([*header, "standard deviation", "0.56 or more", "both, 0.56 and −0.43"], rows)


def measure_table() -> str:
    """`make bench`: how many times faster than the public scripts' way, first and later calls, and with what memory."""
    found = pd.read_csv(REFERENCE / "measure.csv").query("what == 'one unit'")
    rows = []
    for (model, side, images), here in found.groupby(["model", "side", "images"], sort=False):
        here = here.set_index(["call", "baseline"])
        row = [model.removeprefix("own/"), f"{side}²", str(images)]
        for key in (("first", "script"), ("first", "bare"), ("later", "script"), ("later", "bare")):
            one = here.loc[key]
            row.append(f"{one['ratio']:.2f} ({one['ratio_lowest']:.2f} to {one['ratio_highest']:.2f})")
        row += [f"{here.loc[(call, 'bare'), 'memory_ratio']:.2f}" for call in ("first", "later")]
        rows.append(row)
    header = ["model", "image", "images", "first call, script", "first, bare", "later calls, script", "later, bare"]
    return table([*header, "memory, first", "memory, later"], rows)


EARLIER = "*These trainings precede docs/protocol.md, with a quarter of the width, few epochs, two or three seeds.*"
GOVERNED = "The table has the finished seeds of the runs that docs/protocol.md governs (stage a)."
SHOWN_WITH = {  # tables that stand below a figure
    "structures": [structure_table],
    "growth": [kept(slope_table)],
    "sensitivity": [readings_table, sample_table],
    "before_after": [kept(growth_table), secondary_table],
    "evolution": [kept(kernel_table)],
    "convergence": [convergence_table],
    "units": [units_table],
    "initialization": [initialization_table],
    "reach": [reach_table],
}


def convention_sizes() -> str:
    """What each convention reports of one model, and how large its picture looks."""
    found = pd.read_csv(REFERENCE / "conventions.csv").set_index(["convention", "number"])["value"]
    half = "in {side_50:.0f}² px, {area_50:.1f} %"
    told = {
        "luo2016": "ERF size {size:.0f} px; σ {sigma_rows:.0f} × {sigma_columns:.0f} px; half of the mass " + half,
        "netharn": "{height:.0f} × {width:.0f} px; with 95 % of the mass {height_95:.0f} × {width_95:.0f} px",
        "replknet": f"half of the logged mass {half}; 99 % in {{side_99:.0f}}² px, {{area_99:.1f}} %",
        "vmamba": f"half of the map's sum {half}; 99 % in {{side_99:.0f}}² px, {{area_99:.1f}} %",
        "openerf": "fitted σ {sigma_rows:.0f} × {sigma_columns:.0f} px; {mass_40:.0f} % of the mass within 40 px",
        "voxelnext": "none",
    }
    told["slak"] = told["replknet"]
    rows = []
    for name in found.index.unique("convention"):
        own = {key: 100 * value if key.startswith(("area", "mass")) else value for key, value in found[name].items()}
        rows.append([f"`{name}`", told[name].format(**own), f"{own['seen']:.0f} px"])
    return table(["convention", "reported", "seen"], rows)


def convention_scales() -> str:
    """Area ratios against the gradient's scale, linear, by the fifth root and by the logarithm."""
    found = pd.read_csv(REFERENCE / "conventions_scale.csv")
    ratios = found.pivot_table(index=["of", "convention"], columns="scale", values="area_50")
    models = {"gaussian": "a Gaussian", "resnet18": "ResNet-18"}
    transforms = {"luo2016": "linear", "vmamba": "fifth root", "replknet": "logarithm"}
    rows = [
        [models[of], transforms[name], *(f"{100 * ratio:.1f} %" for ratio in ratios.loc[(of, name)])]
        for of in models
        for name in transforms
    ]
    return table(["", "map", *(f"gradient × {scale:,.0f}".replace(",", " ") for scale in ratios)], rows)


def noise_table() -> str:
    """Shares of rings by noise and by the gradient."""
    found = pd.read_csv(REFERENCE / "conventions_noise.csv")
    rows = []
    for row in found.itertuples(index=False):
        shares = [f"{100 * row.share:.1f} ± {100 * row.error:.1f} %", f"{100 * row.predicted:.1f} %"]
        rows.append([f"{row.first} to {row.last} px", str(row.pixels), *shares, f"{row.share / row.predicted:.2f}"])
    whole = found.iloc[0]
    words = f"Distance between the shares: {whole['distance']:.2f}. By chance alone: {whole['by_chance']:.2f}."
    header = ["ring", "pixels", "share by noise", "share by the gradient", "ratio"]
    return f"{table(header, rows)}\n\n{words}"


def own_model() -> str:
    """What README's example printed when figures/reference/own_model.py ran it."""
    return f"```\n{(REFERENCE / 'own_model.txt').read_text(encoding='utf-8').strip()}\n```"


GENERATED = {  # by page: what stands between <!-- name --> and <!-- end -->
    "README.md": {
        "verdicts": summary,
        "own_model": own_model,
        "growth": brief("fraction", "root_growth", "growth_slope"),
        "scale": training_scale,
        "training": brief("camvid_growth", "camvid_growth_matched", "cifar10_growth", "cifar10_growth_matched"),
        "reviewers": brief("maps_show_the_spread", "gates_resampled", "noise_or_images"),
    },
    "docs/performance.md": {"bench": measure_table},
    "docs/conventions.md": {"sizes": convention_sizes, "scales": convention_scales, "noise": noise_table},
}


def coverage_table() -> str:
    """How often the 95 % intervals hold the truth, by `make coverage`; bold where it is not about 95 times of 100."""
    rows = []
    for found in pd.read_csv(REFERENCE / "interval_coverage.csv").itertuples():
        share = f"{100 * found.coverage:.1f} %"
        told = share if 0.93 <= found.coverage <= 0.97 else f"**{share}**"
        between = f"{100 * found.coverage_low:.1f} to {100 * found.coverage_high:.1f}"
        rows.append([found.kind, found.case, str(found.experiments), told, between])
    return table(["interval of", "in", "experiments", "holds the truth", "between, %"], rows)


def words() -> str:
    """What each verdict means, as the report says it, and what the claims on shape are held against."""
    text = (
        (ROOT / "workflow/report/verdicts.rst")
        .read_text(encoding="utf-8")
        .replace("Below stands", "In brackets stands")
    )
    listed = [f"- **{word}**: {meaning}" for word, meaning in re.findall(r"^(\w[\w ]+)\n  (.+)$", text, re.MULTILINE)]
    limits = "; ".join(
        f"*{name}* up to 1 − R² = {1 - limits.r2:.3g}, an excess kurtosis of ±{limits.kurtosis}, and a radial profile "
        f"whose relative departure from a Gaussian is {limits.departure}"
        for name, limits in LIMITS.items()
    )
    return "\n".join([*listed, f"- **of limit**: a map's shape as a share of what its class allows. {limits}."])


PUBLISHED = (
    ["network", "trained for", "test mean IoU", "source"],
    [
        ["ENet, a port", "300 epochs", "42.5 %", "Paszke et al., arXiv 1606.02147; a public port"],
        ["FC-DenseNet103", "750 epochs and more", "66.9 %", "Jégou et al., arXiv 1611.09326"],
        ["DABNet", "1000 epochs, on the validation split too", "66.7 %", "Li et al., arXiv 1907.11357; public code"],
    ],
)


def results_page() -> str:
    """docs/results.md."""
    return f"""# Results

`python docs/generate.py` wrote this page from the tables in `figures/reference/`. Values have 95 % intervals. The rules
are in `config/claims.yaml`; [protocol.md](protocol.md) says when each was written.

## Verdicts

{summary()}

![Every claim with the paper's value, the one found here, and the verdict](../figures/reference/scorecard.png)

### What the words mean

{words()}

{findings()}

## Figures

{figure_sections()}

## Runs of the trained networks

Every finished run that docs/protocol.md governs. A run has one thread. PFLOP are those of its training.

{table(*runs_table(REFERENCE))}

Test scores of networks that were trained on CamVid from random weights, by others, at 480 × 360 pixels with 11 classes:

{table(*PUBLISHED)}

They were trained for many more epochs. The validation score of the runs above, by quarters of the training:

{table(*rising_table(REFERENCE))}

## How often the intervals hold the truth

Whole experiments were repeated with new networks (`make coverage`). Intervals that hold the truth in fewer than 93 or
more than 97 of 100 experiments are bold.

{coverage_table()}
"""


def filled(text: str, parts: dict[str, Callable[[], str]]) -> str:
    """A page with the parts that are generated in it made anew."""
    for name, make in parts.items():
        start, end = f"<!-- {name} -->", "<!-- end -->"
        before, rest = text.split(start, 1)
        text = f"{before}{start}\n{make()}\n{end}{rest.split(end, 1)[1]}"
    return text


if __name__ == "__main__":
    (ROOT / "docs/results.md").write_text(results_page(), encoding="utf-8")
    for page, parts in GENERATED.items():
        path = ROOT / page
        path.write_text(filled(path.read_text(encoding="utf-8"), parts), encoding="utf-8")
