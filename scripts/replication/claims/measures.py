"""What claims are judged by, read from the tables that the pipeline leaves: one function for each kind of measurement.

`MEASURES` and `OBSTACLES` have them by the names that `config/claims.yaml` uses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from erf.result.intervals import mean_interval
from replication.claims.verdicts import Part, Region
from replication.datasets.table import DATASETS
from replication.drawing.labels import ENOUGH_SEEDS, counted, with_interval
from replication.statistics.gaussianity import LIMITS

PAPER_DEPTHS = (5, 10, 20, 40)
RANDOM = ("random", "random + ReLU")
ANSWERED = 16  # channels of the networks on which the reviewers' questions are judged
BIG_SAVING = -25  # per cent of the epochs, the paper's "about 30 %"
ENOUGH_PAIRS = 5  # if a third of all runs save so much, one of five does with a chance of 87 %


class NotRunError(Exception):
    """What a claim is judged by was not measured."""


@dataclass
class Results:
    """What was measured: the pipeline's tables by name, the settings of the paper's trainings by theirs, and the
    figures that are made, each with the names of the networks that it shows."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    trainings: dict[str, dict] = field(default_factory=dict)
    shown: dict[str, list[str]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self.tables:
            raise NotRunError(f"there is no table of {name}")
        return self.tables[name]

    def of(self, figure: str) -> "Results":
        """The same with no other untrained networks than the figure's; NotRunError where it is not made."""
        if figure not in self.shown:
            raise NotRunError(f"the figure {figure} is not among the targets of this configuration")
        networks = self.tables.get("networks")
        if networks is None:
            return self
        own = networks[networks["network"].isin(self.shown[figure])]
        return replace(self, tables={**self.tables, "networks": own})


def plain_stacks(results: Results, series: str, variant: str = "abs") -> pd.DataFrame:
    """Rows of the plain stacks without centre-light weights at the paper's depths: of each depth, the widest network,
    and of equally wide ones that of most runs."""
    found = results["networks"].query("series == @series and variant == @variant and depth in @PAPER_DEPTHS")
    found = found.query("structure == 'plain' and kernel == 3 and reading == 'before' and centre_light == 0")
    found = found.sort_values(["width", "runs"], kind="stable")
    return found.drop_duplicates("depth", keep="last").sort_values("depth")


def layers(row) -> str:
    """How to call a network in a list of depths, and what is wrong with its measurement."""
    dead = f", {row.dead} of {row.runs} runs dead" if row.dead else ""
    return f"{row.depth} layers{', cut off by the RF' if row.clipped else ''}{dead}"


def bounds(row, value: float, low: float, high: float) -> tuple[float, float, float]:
    """A network's value with its interval; weights that are not random are the same in every run."""
    return (value, low, high) if row.series.startswith("random") else (value, value, value)


def plain_shapes(results: Results, series: str, shape: str, depths: Sequence[int] = PAPER_DEPTHS) -> list[Part]:
    """How near the maps of plain stacks are to a Gaussian; those that the RF cuts off have no shape of their own."""
    rows = plain_stacks(results, series).query("depth in @depths and not clipped")
    return [part for row in rows.itertuples() for part in shape_parts(layers(row), row, shape)]


def shape_parts(label: str, row, shape: str) -> list[Part]:
    """Three parts for one map: how much of what the limit of its class allows ("Gaussian", "near-Gaussian") it uses of
    unexplained variance, excess kurtosis, and departure of the profile's logarithm from a line."""
    limits = LIMITS[shape]
    used = [
        ("1 − R²", 1 - np.array([row.r2, row.r2_high, row.r2_low]), 1 - limits.r2),
        ("kurtosis", np.array([row.kurtosis, row.kurtosis_low, row.kurtosis_high]), limits.kurtosis),
        ("profile", np.array([row.departure, row.departure_low, row.departure_high]), limits.departure),
    ]
    return [Part(f"{label}, {name}", *bounds(row, *values / limit)) for name, values, limit in used]


def coefficients(results: Results) -> list[Part]:
    """Largest difference, in millionths of the peak, between the n-th power of the Fourier transform and counting."""
    table = results["convolution"].query("panel == 'coefficients'")
    apart = (table["fourier"] - table["value"]).abs() / table.groupby(["kernel", "depth"])["value"].transform("max")
    return [Part.exact(f"kernel {kernel}", 1e6 * here.max()) for kernel, here in apart.groupby(table["kernel"])]


def distances_to_the_limit(results: Results) -> list[Part]:
    """Total variation distance to the Gaussian at the largest depth, for each kernel."""
    table = results["convolution"].query("panel == 'total variation distance'")
    last = table[table["depth"] == table["depth"].max()]
    return [Part.exact(f"{row.kernel}, {row.depth} layers", row.value) for row in last.itertuples()]


def uniform_sigmas(results: Results) -> list[Part]:
    """Standard deviations of the maps of uniform stacks, over the formula's."""
    rows = plain_stacks(results, "uniform")
    return [Part.exact(layers(row), row.sigma_rows / row.limit_sigma_rows) for row in rows.itertuples()]


def energy_sizes(results: Results, depths: Sequence[int] = PAPER_DEPTHS) -> list[Part]:
    """Sizes of the mean of g^2, over those of a uniform kernel's map."""
    rows = plain_stacks(results, "random", "square").query("depth in @depths")
    return [Part(layers(row), *np.array([row.size, row.low, row.high]) / row.theory_size) for row in rows.itertuples()]


def deepest_stacks(results: Results) -> Iterator:
    """Rows of the plain stacks at the largest of the paper's depths, with each kind of weights."""
    for series in ("uniform", *RANDOM):
        yield from plain_stacks(results, series).query("depth == @PAPER_DEPTHS[-1]").itertuples()


def fractions(results: Results) -> list[Part]:
    """Of the theoretical receptive field that the ERF has, at the largest of the paper's depths."""
    return [
        Part(f"{row.series}, {layers(row)}", *bounds(row, row.ratio, row.low / row.rf, row.high / row.rf))
        for row in deepest_stacks(results)
    ]


def moment_ratios(
    results: Results, weights: Sequence[str], variant: str, depths: Sequence[int] = PAPER_DEPTHS
) -> list[Part]:
    """Drift of the map from the unit, and variance about its own mean, over n E[X] and n Var[X] of the kernels.

    Stacks of uniform kernels of side 3 are `uniform_sigmas`' own, those of plain random weights `energy_sizes`'.
    """
    rows = results["networks"].query("structure == 'plain' and variant == @variant and depth in @depths")
    rows = rows[rows["series"].str.split(" ").str[0].isin(weights) & ~rows["series"].str.contains("+", regex=False)]
    rows = rows[~rows["series"].isin(["uniform", "random"]) | (rows["kernel"] != 3)]
    parts = []
    for row in rows.itertuples():
        for name, column, power in (("drift", "drift", 1), ("variance", "spread", 2)):  # spread is its root
            limit = getattr(row, f"limit_{column}")
            if abs(limit) > 1e-9:  # a symmetric kernel does not drift, but for rounding
                values = [(getattr(row, f"{column}{end}") / limit) ** power for end in ("", "_low", "_high")]
                parts.append(
                    Part(f"{row.network}, {layers(row)}, {name}", *bounds(row, values[0], *sorted(values[1:])))
                )
    return parts


def foveal_shares(results: Results) -> list[Part]:
    """Share of the impact within a quarter of the RF's radius, at the largest of the paper's depths."""
    return [
        Part(
            f"{row.series}, {layers(row)}",
            *bounds(row, row.share_quarter, row.share_quarter_low, row.share_quarter_high),
        )
        for row in deepest_stacks(results)
    ]


def structure_shapes(results: Results, structure: str, shape: str) -> list[Part]:
    """How near the maps of a structure are to a Gaussian."""
    rows = results["networks"].query("structure == @structure and variant == 'abs'")
    return [part for row in rows.itertuples() for part in shape_parts(row.series, row, shape)]


def structure_ratios(results: Results, structure: str) -> list[Part]:
    """ERF size of a structure over that of the plain stack of the same activation."""
    rows = results["structures"].query("structure == @structure")
    return [Part(row.series, row.ratio, row.ratio_low, row.ratio_high) for row in rows.itertuples()]


def box_shares(results: Results) -> list[Part]:
    """Share of its bounding box that the dilated stacks' ERF fills."""
    rows = results["networks"].query("structure == 'dilation' and variant == 'abs'")
    return [Part(row.series, row.box_share, row.box_low, row.box_high) for row in rows.itertuples()]


def slope_rows(results: Results, series: Sequence[str] = RANDOM, deepest: bool = False) -> pd.DataFrame:
    """Slopes of the ERF's size against depth of the widest plain stacks, for every range of depths or the deepest."""
    table = results["slopes"].query("variant == 'abs' and reading == 'before' and quantity == 'size'")
    table = table[table["weights"].isin(series) & (table["kernel"] == 3)]
    if deepest:
        table = table[last_depth(table) == last_depth(table).max()]
    return table[table["width"] == table.groupby("weights")["width"].transform("max")]


def last_depth(table: pd.DataFrame) -> pd.Series:
    """Of the range of depths that was asked for."""
    return table["range"].str.split("-").str[-1].astype(int)


def slope_label(row) -> str:
    return f"{row.weights}, {row.depths.replace('-', '–')} layers"


def slopes(results: Results, deepest: bool = False) -> list[Part]:
    """Slopes of the ERF's size against depth, with their intervals."""
    rows = slope_rows(results, deepest=deepest).itertuples()
    return [Part(slope_label(row), row.slope, row.low, row.high) for row in rows]


def slopes_beside_theory(results: Results, series: str) -> list[Part]:
    """By how much the slopes are above theory's, at the shallowest range of depths, which has the least noise."""
    table = slope_rows(results, [series])
    rows = table[last_depth(table) == last_depth(table).min()].itertuples()
    return [Part(slope_label(row), *(np.array([row.slope, row.low, row.high]) - row.theory)) for row in rows]


def trainings_of(
    results: Results, table: str, dataset: str, start: float | None = None
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows of a table for each of the paper's trainings on a dataset, of those from the start γ if it is given; each
    with its start in words."""
    for name, settings in results.trainings.items():
        carried = settings["network"]["residual_scale"]
        here = results[table][results[table]["training"] == name]
        if settings["dataset"] == dataset and start in (None, carried) and len(here):
            yield f"γ = {carried:g}", here


def seeds_part(label: str, seeds: float, value: float, low: float, high: float) -> Part:
    """A mean over seeds; with its interval only where they are enough."""
    label = f"{label}, {counted(int(seeds), 'seed')}".removeprefix(", ")
    return Part(label, value, low, high) if seeds >= ENOUGH_SEEDS else Part(label, value)


def mean_part(label: str, values: pd.Series) -> Part:
    return seeds_part(label, len(values), *mean_interval(values))


def before_and_after(results: Results, training: pd.DataFrame, quantity: str) -> tuple[pd.Series, pd.Series]:
    """A quantity by seed before training and at the last epoch; NotRunError where one of the two was not measured."""
    epochs = results.trainings[training["training"].iloc[0]]["recipe"]["epochs"]
    by_seed = training.query("snapshot != 'best'").pivot_table(index="seed", columns="epoch", values=quantity)
    if not {0, epochs} <= set(by_seed):
        raise NotRunError(f"the snapshots before training and of the last epoch, {epochs}, were not both measured")
    return by_seed[0], by_seed[epochs]


def diameters(results: Results, dataset: str, when: str, start: float | None = None) -> list[Part]:
    """ERF diameter "before" training or "after" it, at the last epoch."""
    parts = []
    for label, here in trainings_of(results, "sizes", dataset, start):
        before, after = before_and_after(results, here, "diameter")
        parts.append(mean_part(label, {"before": before, "after": after}[when]))
    return parts


GROWING = {"sigma": "σ", "size": "ERF size"}  # the primary outcomes of docs/protocol.md


def mean_ratio(before: pd.Series, after: pd.Series) -> tuple[float, float, float]:
    """Geometric mean over seeds of after / before, and its 95 % interval, that of the mean logarithm."""
    return tuple(np.exp(mean_interval(np.log(after / before))))


def growth_ratios(results: Results, dataset: str, start: float) -> list[Part]:
    """σ (root mean square of both axes) and ERF size at the last epoch over those before training, paired by seed: the
    geometric mean, its interval that of the mean logarithm. Without the interval until all planned seeds are in."""
    parts = []
    for _, here in trainings_of(results, "sizes", dataset, start):
        here = here.assign(sigma=((here["sigma_rows"] ** 2 + here["sigma_columns"] ** 2) / 2) ** 0.5)
        for quantity, label in GROWING.items():
            before, after = before_and_after(results, here, quantity)
            mean = mean_ratio(before, after)
            planned = len(results.trainings[here["training"].iloc[0]].get("seeds", before))
            if len(before) < planned:  # a look at some of them decides nothing
                parts.append(Part(f"{label}, {len(before)} of {planned} seeds", mean[0]))
            else:
                parts.append(seeds_part(label, len(before), *mean))
    return parts


def theoretical_fields(results: Results, dataset: str) -> list[Part]:
    """Side of the theoretical receptive field of the trained networks, pixels."""
    sides = {side for _, here in trainings_of(results, "sizes", dataset) for side in here["theoretical_rf"]}
    return [Part.exact(DATASETS[dataset].title, float(side)) for side in sorted(sides)]


def accuracies(results: Results, dataset: str, start: float) -> list[Part]:
    """Test accuracy, per cent."""
    found = trainings_of(results, "scores", dataset, start)
    return [mean_part("", 100 * here["test_accuracy"]) for _, here in found]


def centre_light_sizes(results: Results) -> list[Part]:
    """ERF size before training at the largest strength, over that of He's weights."""
    rows = results["initialization"].query("panel == 'size' and series != 'theory' and strength > 0")
    parts = []
    for row in rows[rows["strength"] == rows["strength"].max()].itertuples():
        if row.series == "stack":
            parts.append(Part("plain stack + ReLU", row.ratio, row.low, row.high))
        else:
            parts.append(seeds_part(DATASETS[row.series].title, row.seeds, row.ratio, row.low, row.high))
    return parts


def centre_light_shapes(results: Results, shape: str) -> list[Part]:
    """How near the maps of centre-light stacks are to a Gaussian."""
    rows = results["networks"].query("centre_light > 0 and variant == 'abs'").sort_values("centre_light")
    return [part for row in rows.itertuples() for part in shape_parts(f"strength {row.centre_light:g}", row, shape)]


def saving_of_a_run(results: Results) -> list[Part]:
    """Change, per cent, in the epochs to a validation score of the one run that saves most, beside the run of the same
    seed from He's weights.

    A saving as large as the paper's decides only if it is more than chance: it is the best of many, so its t interval,
    with the scatter of runs from He's weights, is at a level of 95 % for all of them together (Bonferroni). A smaller
    one decides only if it is the best of `ENOUGH_PAIRS` pairs of runs.
    """
    table = results["initialization"].query("panel == 'epochs'")
    runs = table[table["seed"].astype(str) != "mean"]
    pairs = runs[(runs["strength"] > 0) & runs["change"].notna()]
    if pairs.empty:
        return [Part("", np.nan, absent="no score was reached from both initialisations")] if len(runs) else []
    best = pairs.loc[pairs["change"].idxmin()]
    he = runs.query("strength == 0 and series == @best.series and score == @best.score")["epochs"].dropna()
    apart = np.sqrt(2) * np.log(he).std()  # of the logarithms of two runs
    reach = stdtrit(len(he) - 1, 1 - 0.025 / len(pairs)) * apart if len(he) > 1 else np.nan
    high = 100 * np.expm1(np.log1p(best["change"]) + reach)
    count = len(pairs[["series", "seed"]].drop_duplicates())
    value = 100 * best["change"]
    score = f"{DATASETS[best['series']].title} to {DATASETS[best['series']].score_title} {best['score']:g}"
    most = f"{high:.0f} %".replace("-", "\N{MINUS SIGN}")
    label = f"the best of {counted(len(pairs), 'comparison')} in {counted(count, 'pair')} of runs"
    label += f" (seed {best['seed']}, {score}; with chance up to {most})"
    decided = high < 0 if value <= BIG_SAVING else count >= ENOUGH_PAIRS
    return [Part.exact(label, value) if decided else Part(label, value)]


def answers(results: Results, question: str, quantity: str, condition: str | None = None) -> list[Part]:
    """A quantity of one of the reviewers' questions, on networks of `ANSWERED` channels."""
    rows = answer_rows(results, question, quantity, condition)
    return [Part(answer_label(row), *answer(row)) for row in rows.itertuples()]


def answers_beside_theory(results: Results, question: str, quantity: str, condition: str | None = None) -> list[Part]:
    """The same, over theory's."""
    rows = answer_rows(results, question, quantity, condition)
    return [Part(answer_label(row), *answer(row) / row.theory) for row in rows.itertuples()]


def answer(row) -> np.ndarray:
    """A value with its interval; uniform weights have one run, and no chance in it."""
    return np.array([row.value, row.value, row.value] if row.runs == 1 else [row.value, row.low, row.high])


def answer_rows(results: Results, question: str, quantity: str, condition: str | None) -> pd.DataFrame:
    rows = results["reviewers"].query("question == @question and quantity == @quantity and width == @ANSWERED")
    return rows if condition is None else rows[rows["condition"] == condition]


def answer_label(row) -> str:
    """Activation, condition and place, where there are any."""
    activation = {"none": "", "relu": "ReLU"}.get(row.activation, row.activation)
    place = "" if pd.isna(row.place) else f"{row.place:g}"
    return ", ".join(filter(None, (activation, str(row.condition), place)))


def frontiers(results: Results) -> list[Part]:
    """Distance up to which cues are learnt, over the theoretical radius."""
    table = results["reach"]
    means = table[(table["seed"].astype(str) == "mean") & table["distance"].isna()]
    radius = means[means["quantity"] == "theoretical_radius"].set_index(["network", "steps"])["value"]
    parts = []
    for row in means[means["quantity"] == "frontier"].itertuples():
        label, values = f"{row.network}, {row.steps} steps", np.array([row.value, row.low, row.high])
        values = values / radius[row.network, row.steps]
        if row.censored:  # some seed learnt the farthest cue, or not the nearest one
            parts.append(Part(f"{label}, at the end of the distances tried", values[0]))
        else:
            parts.append(seeds_part(label, row.seeds, *values))
    return parts


def noise_ratios(results: Results) -> list[Part]:
    """ERF size on noise over that on images, of trained networks before and after training."""
    parts = []
    for row in results["units"].query("varied == 'images'").itertuples():
        when = "before training" if row.snapshot == "epoch_000" else "after training"
        label = f"{DATASETS[row.dataset].title} {when}"
        parts.append(seeds_part(label, row.seeds, row.ratio, row.ratio_low, row.ratio_high))
    return parts


def judged_rows(results: Results, panel: str, quantity: str) -> pd.DataFrame:
    """Rows of the analysis of fixed points, of the window that is judged: the table's first one."""
    table = results["fixed_point"]
    first = table.dropna(subset=["early", "late"]).head(1)
    rows = table.merge(first[["early", "late"]], on=["early", "late"])
    return rows.query("panel == @panel and quantity == @quantity")


def pulls(results: Results) -> list[Part]:
    """By how many per cent the distance of log σ from the fixed point shrinks per epoch."""
    rows = judged_rows(results, "pull", "sigma").itertuples()
    return [Part(counted(int(row.runs), "run"), *100 * np.array([row.value, row.low, row.high])) for row in rows]


ENDLESS = "the interval has no ends, since the pull may be zero"
FARTHEST = 9.0  # from where the estimate of a crossing is printed no farther: an almost flat line crosses anywhere


def crossing_part(label: str, quantity: str, results: Results, values: np.ndarray) -> Part:
    """Part for a crossing of lines; without a value where training drives runs apart."""
    if (judged_rows(results, "pull", quantity)["high"] < 0).all():
        return Part(label, np.nan, absent="training drives the sizes of different starts apart")
    if not np.isfinite(values).all():
        return Part(f"{label}; {ENDLESS}", float(np.clip(values[0], -FARTHEST, FARTHEST)), -np.inf, np.inf)
    return Part(label, *values)


def fixed_points(results: Results) -> list[Part]:
    """Where the fixed point of σ lies, on a logarithmic scale from the smallest start before training, 0, to the
    largest, 1."""
    starts = np.log(results["fixed_point"].query("panel == 'starts' and quantity == 'sigma'")["value"])
    parts = []
    for row in judged_rows(results, "fixed point", "sigma").itertuples():
        with np.errstate(divide="ignore"):
            values = (np.log([row.value, row.low, row.high]) - starts.min()) / (starts.max() - starts.min())
        label = f"{counted(int(row.runs), 'run')}"
        if np.isfinite(row.high):
            label += f", σ = {with_interval(row.value, row.low, row.high)} px"
        parts.append(crossing_part(label, "sigma", results, values))
    return parts


def displacements(results: Results) -> list[Part]:
    """The fixed point of σ along the shift of the labels, for the largest shift, over the one of labels in place."""
    rows = judged_rows(results, "displacement", "sigma_columns")
    return [
        crossing_part(f"labels {row.shift:g} px to the right", "sigma_columns", results, np.array(values))
        for row in rows[rows["shift"] == rows["shift"].max()].itertuples()
        for values in [(row.value, row.low, row.high)]
    ]


# Why a measurement cannot be held against the paper's value; "" where it can.


def smaller_scale(results: Results, region: Region, dataset: str, **_) -> str:
    """A training of less than the full scale, which config.yaml has."""
    width, epochs = DATASETS[dataset].full_scale
    for settings in results.trainings.values():
        own_width, own_epochs = settings["network"]["width"], settings["recipe"]["epochs"]
        if settings["dataset"] == dataset and (own_width < width or own_epochs < epochs):
            return (
                f"trained at width {own_width} for {own_epochs} epochs; held against the paper's value only from our"
                f" full scale on, width {width} and {epochs} epochs (the paper's own is not known)"
            )
    return ""


def chosen_start(results: Results, region: Region, start: float, **_) -> str:
    """A start that was set to be the paper's."""
    return f"γ = {start:g} sets it, and was chosen to begin near the paper's value"


def setting(results: Results, region: Region, dataset: str, **_) -> str:
    """What was built, and not found."""
    sides = ", ".join(f"{part.value:.0f}" for part in theoretical_fields(results, dataset))
    return f"a setting, not a finding: the network was built to come near to the paper's, and has {sides} px"


def open_protocol(results: Results, region: Region) -> str:
    """A value whose depths, threshold and kernels nobody knows."""
    return "the paper does not say of which depths, threshold, kernels and channels its slopes are"


def too_shallow(results: Results, region: Region, deepest: bool) -> str:
    """A limit of many layers, at depths at which theory itself is not near it."""
    for row in slope_rows(results, deepest=deepest).itertuples():
        if row.theory not in region:
            expected = with_interval(row.theory, np.nan, np.nan, 3)
            depths = row.depths.replace("-", "–")
            return f"at {depths} layers theory itself has a slope of {expected}: the limit needs more layers"
    return ""


MEASURES = {
    measure.__name__: measure
    for measure in (
        coefficients,
        uniform_sigmas,
        distances_to_the_limit,
        energy_sizes,
        fractions,
        plain_shapes,
        moment_ratios,
        foveal_shares,
        structure_shapes,
        structure_ratios,
        box_shares,
        slopes,
        slopes_beside_theory,
        diameters,
        growth_ratios,
        theoretical_fields,
        accuracies,
        centre_light_sizes,
        centre_light_shapes,
        saving_of_a_run,
        answers,
        answers_beside_theory,
        frontiers,
        noise_ratios,
        pulls,
        fixed_points,
        displacements,
    )
}
OBSTACLES = {
    obstacle.__name__: obstacle for obstacle in (smaller_scale, chosen_start, setting, open_protocol, too_shallow)
}
