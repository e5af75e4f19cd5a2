"""The result of a measurement: the impact map, and the numbers that are read from it. numpy and SciPy only."""

import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import PathLike

import numpy as np

from erf.errors import InputError
from erf.result.contribution import SHARES, contribution_square, radial_profile
from erf.result.intervals import mean_interval, percentile_interval
from erf.size import E2, THRESHOLD, centre_impact, erf_size, reference_impact, side_of
from erf.system.files import allowance, atomic, read_arrays
from erf.theory import gaussian_map

# By the number of axes.
AXIS_NAMES = {1: ("time",), 2: ("rows", "columns"), 3: ("depth", "rows", "columns")}
OWN_ERROR = 1e-3  # of a size, as a share of it (`erf.size`)
INPUTS = {1: "sound", 2: "image", 3: "volume"}


def bootstrap_sizes(
    maps: np.ndarray,
    position: tuple[float, ...],
    rng: np.random.Generator,
    replicates: int = 1000,
    reference: str = "centre",
    threshold: float = THRESHOLD,
) -> np.ndarray:
    """Bootstrap over runs: ERF sizes (pixels) of means of redrawn maps, (replicates,).

    Runs of `maps` (runs, *axes) are drawn with replacement. Noise moves the contour, so that the size of a mean over
    few runs is biased a little; figures/reference/interval_coverage.csv has the bias of sizes, and of what rests on
    them.
    """
    runs, (maps, position) = len(maps), _where_sizes_vary(maps, position, threshold)
    flat = maps.reshape(runs, -1)
    weights = rng.multinomial(runs, np.full(runs, 1 / runs), size=replicates)  # (replicates, runs)
    distinct, which = np.unique(weights, axis=0, return_inverse=True)  # of four runs there are only 35
    if len(distinct) > replicates / 2:
        distinct, which = weights, np.arange(replicates)
    sizes = np.empty(len(distinct))
    chunk = max(1, 2**24 // flat.shape[1])  # replicates at a time, so that their maps stay within 128 MiB
    for start in range(0, len(distinct), chunk):
        drawn = distinct[start : start + chunk]
        means = np.abs(drawn @ flat / runs).reshape(len(drawn), *maps.shape[1:])
        sizes[start : start + len(drawn)] = erf_size(means, position, threshold, reference)
    return sizes[which]


def _where_sizes_vary(
    maps: np.ndarray, position: tuple[float, ...], threshold: float
) -> tuple[np.ndarray, tuple[float, ...]]:
    """The part of `maps` (runs, *axes) that can matter to the size of a mean of redrawn runs, and the position there.

    Elsewhere no run's impact is above the threshold's share of the centre's in the run where that is smallest, so that
    no mean's is. Pixels around the part are kept, two on each side, since the contour is interpolated.
    """
    if (maps < 0).any():
        return maps, position
    above = maps.max(0) > threshold * centre_impact(maps, position).min()
    part, moved = [], []
    for axis, centre in enumerate(position):
        (hits,) = np.nonzero(above.any(tuple(other for other in range(above.ndim) if other != axis)))
        first = max(min(hits[0], math.floor(centre)) - 2, 0)
        part.append(slice(first, max(hits[-1], math.ceil(centre)) + 3))
        moved.append(centre - first)
    return maps[:, *part], tuple(moved)


@dataclass(frozen=True)
class GaussianFit:
    """A Gaussian fitted to a map: peak, sigma along each axis, and r2, the share of variance explained."""

    peak: float
    sigma: tuple[float, ...]
    r2: float


@dataclass(frozen=True, repr=False)
class ReceptiveField:
    """Effective receptive field (ERF) of one unit, as `erf.measure` returns it.

    A run is one image, or one draw of an untrained network's weights and inputs. The input may also be sound, of one
    axis, or a volume or video, of three: a pixel is one entry of the map. All tuples have one entry for each axis, in
    the input's order.

    All lengths are in pixels. With `spacing`, the results of properties and methods are in its unit, while the
    attributes listed here stay in pixels.

    map : float64 (H, W), rows first, or (T,), or (D, H, W): the impact of each pixel, a derivative, which is not
        normalised. It is the mean over input channels and over runs that are not dead.
    position : (row, column) in the map at which the unit looks: the middle of its theoretical receptive field
    theoretical_rf : (height, width); infinite if the unit sees the whole image, or if an operation is unknown
    run_sizes : (runs,) ERF size of each run's own map; NaN for a dead run
    dead : number of dead runs, in which the gradient is zero everywhere
    bootstrap : (replicates,) ERF sizes of redrawn runs; empty without a bootstrap, or with fewer than two live runs
    largest_share : the share of the summed map that comes from one run; near 1, that run outweighs all others, and the
        bootstrap says little
    reference : the threshold is a share of the impact at the "centre" (the paper's choice) or of the "maximum"
    threshold : the share above which a pixel is in the ERF; the paper's is 1 - 95.45 % = 4.55 %
    settings : how it was measured, as plain values
    spacing, lengths_in : see `with_spacing`

    Examples
    --------
    The ERF of a Gaussian map with sigma 5 has a size of 4.406 sigma:

    >>> import erf
    >>> one_run = erf.theory.gaussian_map(sigma=5, shape=(61, 61), position=(30, 30))
    >>> field = erf.ReceptiveField.from_runs(one_run[None], position=(30, 30), theoretical_rf=(61, 61))
    >>> [round(value, 2) for value in (field.size, field.diameter, field.ratio, *field.sigma)]
    [22.03, 24.86, 0.36, 5.0, 5.0]
    """

    map: np.ndarray
    position: tuple[float, ...]
    theoretical_rf: tuple[float, ...]
    run_sizes: np.ndarray
    dead: int = 0
    bootstrap: np.ndarray = field(default_factory=lambda: np.empty(0))
    largest_share: float = math.nan
    reference: str = "centre"
    threshold: float = THRESHOLD
    settings: dict = field(default_factory=dict)
    spacing: tuple[float, ...] | None = None
    lengths_in: str = "px"

    @classmethod
    def from_runs(
        cls,
        maps: np.ndarray,
        position: tuple[float, ...],
        theoretical_rf: tuple[float, ...],
        settings: dict | None = None,
        rng: np.random.Generator | None = None,
        reference: str = "centre",
        threshold: float = THRESHOLD,
    ) -> "ReceptiveField":
        """Make a field from the maps of all runs, (runs, *axes); InputError if a value is not finite.

        Dead runs are counted, and left out of the mean. With `rng`, sizes are bootstrapped over the live runs.
        """
        if not np.isfinite(maps).all():
            raise InputError("an impact map has values that are not finite: measure in float64, or scale the weights")
        axes = tuple(range(1, maps.ndim))
        alive = maps.any(axes)
        live = maps if alive.all() else maps[alive]
        magnitudes, run_sizes = np.abs(live), np.full(len(maps), np.nan)
        run_sizes[alive] = erf_size(magnitudes, position, threshold, reference)
        sums = magnitudes.sum(axes)
        redraw = rng is not None and len(live) > 1
        return cls(
            map=live.mean(0) if len(live) else np.zeros(maps.shape[1:]),
            position=position,
            theoretical_rf=theoretical_rf,
            run_sizes=run_sizes,
            dead=int((~alive).sum()),
            bootstrap=bootstrap_sizes(live, position, rng, 1000, reference, threshold) if redraw else np.empty(0),
            largest_share=float(sums.max() / sums.sum()) if len(live) else math.nan,
            reference=reference,
            threshold=threshold,
            settings=settings or {},
        )

    def with_spacing(self, spacing: float | tuple[float, ...], lengths_in: str) -> "ReceptiveField":
        """The same field with lengths in another unit than pixels.

        spacing : distance between neighbouring pixels along each axis; or one number for all axes
        lengths_in : the unit of `spacing`, such as "mm" or "s"

        A size is then the root of the area in this unit, and so on. With `spacing` a pixel need not be square. The
        attributes of the field stay in pixels, and so do contribution areas: their square is one of pixels. InputError
        for a spacing that is not above zero and finite, or not one number for each axis.

        >>> import erf
        >>> volume = erf.theory.gaussian_map(sigma=(2, 4, 4), shape=(21, 41, 41), position=(10, 20, 20))
        >>> field = erf.ReceptiveField.from_runs(volume[None], position=(10, 20, 20), theoretical_rf=(21, 41, 41))
        >>> [round(value, 2) for value in field.with_spacing((0.5, 0.25, 0.25), "mm").sigma]
        [1.0, 1.0, 1.0]
        """
        axes = self.map.ndim
        try:
            lengths = np.asarray(spacing, float)
        except (TypeError, ValueError):
            lengths = np.full(0, np.nan)
        if lengths.shape not in ((), (axes,)) or not (lengths > 0).all() or np.isinf(lengths).any():
            per_axis = f"one for each of {axes} axes, above zero and finite"
            raise InputError(f"spacing must be one number or {per_axis}, not {spacing!r}")
        if not isinstance(lengths_in, str) or not lengths_in:
            raise InputError(f"lengths_in must name the unit of the spacing, such as 'mm' or 's', not {lengths_in!r}")
        return replace(self, spacing=tuple(np.broadcast_to(lengths, axes).tolist()), lengths_in=lengths_in)

    def _scaled(self, pixels: Sequence[float]) -> tuple[float, ...]:
        """Lengths along each axis, of pixels."""
        return tuple(one * length for one, length in zip(pixels, self.spacing or (1,) * self.map.ndim, strict=True))

    @property
    def _pixel(self) -> float:
        """Side of the square, or cube, as large as a pixel."""
        return float(side_of(math.prod(self.spacing or (1.0,)), self.map.ndim))

    @property
    def live(self) -> int:
        """Number of runs that are not dead."""
        return len(self.run_sizes) - self.dead

    @property
    def own_sizes(self) -> np.ndarray:
        """Sizes of the runs that are not dead and have some impact at the unit's position: `run_sizes` without NaN."""
        return self.run_sizes[~np.isnan(self.run_sizes)] * self._pixel

    @property
    def size(self) -> float:
        """ERF size: sqrt of the area with more than `threshold` of the centre's impact.

        For one axis it is the length, and for three the cube root of the volume. Luo et al. (NIPS 2016) count pixels
        above 4.55 %; here pixels on the contour count by the share of them that lies inside. NaN if the centre has no
        impact. Of a signed map the magnitude counts.
        """
        return self.size_at()

    def size_at(self, threshold: float | None = None, reference: str | None = None) -> float:
        """`size` with another threshold, or with a share of another impact than the centre's.

        threshold : between 0 and 1; the field's own if None
        reference : "centre" or "maximum"; the field's own if None

        NaN if there is no impact at the reference. InputError for a threshold or reference that there is not.
        """
        threshold = self.threshold if threshold is None else threshold
        size = float(erf_size(np.abs(self.map), self.position, threshold, reference or self.reference))
        return size * self._pixel

    def contribution_area(self, share: float) -> tuple[float, float]:
        """Smallest square centred on the unit that holds `share` of the summed |impact|: (side in pixels, ratio).

        For one axis it is an interval, and for three a cube. The side is in pixels, with `spacing` too. The ratio is
        the square's area over the map's (RepLKNet's high-contribution area, Ding et al., CVPR 2022). NaN for an empty
        map; InputError for a share that is not above 0 and at most 1.
        """
        return contribution_square(np.abs(self.map), self.position, share)

    @property
    def contribution_areas(self) -> dict[float, tuple[float, float]]:
        """`contribution_area` for the shares that RepLKNet reports: 20, 30, 50 and 99 %."""
        return {share: self.contribution_area(share) for share in SHARES}

    def radial_profile(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean |impact| by distance from the unit, in bins one pixel wide: (distances, means), each (n,)."""
        return radial_profile(np.abs(self.map), self.position, self.spacing)

    @property
    def mean_run_size(self) -> tuple[float, float, float]:
        """Mean of the runs' own sizes with its 95 % Student interval: (mean, low, high).

        It is not `size`, since the map of one run is noisier than the mean map. NaN with too few runs.
        """
        return mean_interval(self.own_sizes)

    @property
    def diameter(self) -> float:
        """Diameter of the disc with the area of the ERF, 2 size / sqrt(pi); of the interval or ball for 1 or 3 axes."""
        of_diameter_one = (1, math.pi / 4, math.pi / 6)[self.map.ndim - 1]
        return self.size / float(side_of(of_diameter_one, self.map.ndim))

    @property
    def ratio(self) -> float:
        """ERF size over the side of the theoretical receptive field, sqrt(height * width); NaN if that is infinite.

        The side is the geometric mean of the theoretical receptive field's lengths along all axes.
        """
        side = float(side_of(math.prod(self._scaled(self.theoretical_rf)), self.map.ndim))
        return self.size / side if math.isfinite(side) else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `size`, (low, high): bootstrap percentiles, expanded for few runs.

        NaN if there is none: `no_interval` says why.
        """
        if self.no_interval:
            return math.nan, math.nan
        low, high = self._percentiles
        return min(low, self.size), max(high, self.size)

    @property
    def no_interval(self) -> str | None:
        """Why `interval` is NaN, in words; None if it is not.

        Some maps are sparse: each run has an impact on a part of the pixels alone. The mean map then grows with the
        number of distinct runs, and a redrawn mean has fewer of them. If the field fills the image, this bias exceeds
        the spread of the redrawn sizes: their percentiles do not even hold `size`, and say nothing about the truth. If
        they miss it by less than a size's own error, 0.1 %, they are extended to it.
        """
        low, high = self._percentiles
        if math.isnan(low) or math.isnan(self.size):
            return "there is no bootstrap of two or more runs: give rng=, and more images"
        if low - OWN_ERROR * self.size <= self.size <= high + OWN_ERROR * self.size:
            return None
        side = "smaller" if high < self.size else "larger"
        return f"means of redrawn images are nearly all {side}: measure more images"

    @property
    def _percentiles(self) -> tuple[float, float]:
        return percentile_interval(self.bootstrap * self._pixel, self.live)

    @property
    def theoretical_ends(self) -> tuple[tuple[float, float], ...]:
        """First and last pixel of the theoretical receptive field along each axis; they may lie outside of the map.

        Its middle is `position`, but where that is the middle of the impact.
        """
        middle = self.settings.get("theoretical_middle", self.position)
        reach = [(length - 1) / 2 for length in self.theoretical_rf]
        return tuple((centre - half, centre + half) for centre, half in zip(middle, reach, strict=True))

    @property
    def clipped(self) -> bool:
        """Whether the edge of the theoretical receptive field, or of the image, cuts the ERF off."""
        window = []
        for (first, last), side in zip(self.theoretical_ends, self.map.shape, strict=True):
            window.append(slice(math.ceil(max(first, 0)), math.floor(min(last, side - 1)) + 1))
        seen = np.abs(self.map[tuple(window)])
        peak = reference_impact(np.abs(self.map), self.position, self.reference)
        inside = seen > self.threshold * peak
        return any(bool(inside.take([0, -1], axis).any()) for axis in range(inside.ndim))

    @property
    def sigma(self) -> tuple[float, ...]:
        """Standard deviation of |impact| about the unit's position along each axis; NaN for an empty map."""
        return self._scaled(np.sqrt(self._moments(2)).tolist())

    @property
    def kurtosis(self) -> tuple[float, ...]:
        """Excess kurtosis of |impact| along each axis: 0 for a Gaussian, -1.2 for a uniform distribution."""
        with np.errstate(invalid="ignore"):  # a map of one pixel has none
            return tuple((self._moments(4) / self._moments(2) ** 2 - 3).tolist())

    def _moments(self, order: int) -> np.ndarray:
        """Moments (axes,) of |impact| about the unit's position, in pixels."""
        weights = np.abs(self.map)
        axes = range(weights.ndim)
        if not weights.any():
            return np.full(len(axes), np.nan)
        marginals = [weights.sum(tuple(other for other in axes if other != axis)) for axis in axes]
        distances = [np.arange(side) - centre for side, centre in zip(weights.shape, self.position, strict=True)]
        return np.array([(m * d**order).sum() / m.sum() for m, d in zip(marginals, distances, strict=True)])

    def fit_gaussian(self) -> GaussianFit:
        """Fit a Gaussian, centred on the unit, by least squares over all pixels; NaN for an empty or a flat map."""
        impact = np.abs(self.map)
        unfitted = GaussianFit(math.nan, (math.nan,) * impact.ndim, math.nan)
        if np.ptp(impact) == 0:
            return unfitted

        def model(_, peak, *sigma):
            return peak * gaussian_map(sigma, impact.shape, self.position).ravel()

        from scipy.optimize import curve_fit  # half a second, which most programs do without

        scale = impact.max()  # fitted at peak one: gradients can be 1e-20
        start = (1.0, *np.sqrt(self._moments(2)).clip(0.5))
        try:
            (peak, *sigma), _ = curve_fit(model, None, impact.ravel() / scale, p0=start)
        except RuntimeError:  # no minimum was found
            return unfitted
        residual = impact.ravel() / scale - model(None, peak, *sigma)
        sigma = np.abs(sigma)
        if (sigma > 10 * np.array(impact.shape)).any():
            return unfitted  # the map is flat
        r2 = 1 - (residual**2).sum() / ((impact / scale - (impact / scale).mean()) ** 2).sum()
        return GaussianFit(float(peak * scale), self._scaled(sigma.tolist()), float(r2))

    def summary(self) -> dict[str, float | int | bool | str]:
        """All numbers by name, as plain values.

        With `spacing` all lengths are in its unit, positions too, and `lengths_in` names it; the sides of contribution
        areas, which are in pixels, are left out. A number that does not exist is NaN, and the theoretical receptive
        field may be infinite: strict JSON has neither.
        """
        fit = self.fit_gaussian()
        low, high = self.interval
        mean_run_size, mean_run_low, mean_run_high = self.mean_run_size
        numbers = {
            **self._by_axis("position", self._scaled([float(place) for place in self.position])),
            **self._by_axis("length", self._scaled(self.map.shape)),
            **self._by_axis("rf", self._scaled([float(length) for length in self.theoretical_rf])),
            "size": self.size,
            "low": low,
            "high": high,
            "diameter": self.diameter,
            "ratio": self.ratio,
            "size_maximum": self.size_at(reference="maximum"),
            "size_e2": self.size_at(E2),
            "clipped": self.clipped,
            "mean_run_size": mean_run_size,
            "mean_run_low": mean_run_low,
            "mean_run_high": mean_run_high,
            **self._by_axis("sigma", self.sigma),
            **self._by_axis("fit_sigma", fit.sigma),
            "gaussian_r2": fit.r2,
            **self._by_axis("excess_kurtosis", self.kurtosis),
            "images": len(self.run_sizes),
            "dead": self.dead,
            "without_centre": len(self.run_sizes) - self.dead - len(self.own_sizes),
            "largest_share": self.largest_share,
        }
        for share, (side, ratio) in self.contribution_areas.items():
            if self.spacing is None:
                numbers[f"contribution_side_{100 * share:g}"] = side
            numbers[f"contribution_ratio_{100 * share:g}"] = ratio
        return numbers if self.spacing is None else {**numbers, "lengths_in": self.lengths_in}

    def _by_axis(self, name: str, values: Sequence[float]) -> dict[str, float]:
        """Values with one entry an axis, by names such as "sigma_time"."""
        names = [f"{name}_{axis}" for axis in AXIS_NAMES[self.map.ndim]]
        if self.map.ndim == 2:
            names = _NAMES_IN_IMAGES.get(name, names)
        return dict(zip(names, values, strict=True))

    def __str__(self) -> str:
        low, high = (f"{end:{length_format(self)}}" for end in self.interval)
        interval = f" (95 % interval {low} to {high})"
        if reason := self.no_interval:
            interval = f" (no interval: {reason})" if len(self.bootstrap) else ""
        side = "length" if self.map.ndim == 1 else "side"
        share = f", {100 * self.ratio:.0f} % of its theoretical field's {side}" if math.isfinite(self.ratio) else ""
        clipped = f", cut off by that field or the {INPUTS[self.map.ndim]}" if self.clipped else ""
        names, places = AXIS_NAMES[self.map.ndim], self._scaled(self.position)
        unit = ", ".join(f"{name.removesuffix('s')} {place:g}" for name, place in zip(names, places, strict=True))
        whole = " x ".join(f"{length:g}" for length in self._scaled(self.map.shape))
        return (
            f"ERF size {self.size:{length_format(self)}} {self.lengths_in}{interval}{share}{clipped}; unit at {unit}"
            f" of {whole} {self.lengths_in}; images: {len(self.run_sizes)}, dead: {self.dead}"
        )

    def __repr__(self) -> str:
        return f"<ReceptiveField: {self}>"

    def plot(self, axes=None):
        """Draw the map with the bound of the ERF and the theoretical receptive field.

        A map of one axis is a line. Of a volume the three slices through the unit are drawn, side by side in insets.

        axes : matplotlib Axes to draw on; a new figure if None

        Returns the Axes. InputError without matplotlib.
        """
        # By name: what is measured does not depend on how it is drawn, and is not measured anew when that changes.
        return importlib.import_module("erf.result.display").draw_field(self, axes)

    def save(self, path: str | PathLike) -> None:
        """Write to `path` (.npz), whole or not at all; equal fields give equal bytes."""
        save_fields([self], path)

    @classmethod
    def load(cls, path: str | PathLike) -> "ReceptiveField":
        """Read a file that `save` wrote; InputError if it is damaged, or something else."""
        fields = load_fields(path)
        if len(fields) != 1:
            raise InputError(f"{path}: holds {len(fields)} receptive fields, not one")
        return fields[0]


_NAMES_IN_IMAGES = {"position": ("row", "column"), "length": ("height", "width"), "rf": ("rf_height", "rf_width")}


def length_format(field: ReceptiveField) -> str:
    """How to write a length: pixels with one decimal, other units with four digits."""
    return ".1f" if field.spacing is None else ".4g"


def save_fields(fields: Sequence[ReceptiveField], path: str | PathLike) -> None:
    """Write several fields to `path` (.npz), whole or not at all; equal fields give equal bytes."""
    arrays = {"count": np.array(len(fields))}
    for number, one in enumerate(fields):
        values = {**vars(one), "settings": json.dumps(one.settings, sort_keys=True)}
        names = _SAVED if one.spacing is None else _SAVED + _SAVED_WITH_SPACING
        arrays |= {f"{number}_{name}": np.asarray(values[name]) for name in names}
    with atomic(path) as temporary:
        np.savez_compressed(temporary, **arrays)
        unpacked = sum(array.nbytes + 1000 for array in arrays.values())  # with their headers
        if unpacked > allowance(temporary.stat().st_size):  # huge maps of zeros: a reader would refuse them
            np.savez(temporary, **arrays)


def load_fields(path: str | PathLike) -> list[ReceptiveField]:
    """Read a file that `save_fields` wrote; InputError if it is damaged, or something else."""
    data = read_arrays(path)
    try:
        count = _number(data["count"], "count")
        if "0_threshold" not in data:  # older files know but one
            data |= {f"{number}_threshold": np.array(THRESHOLD) for number in range(min(count, len(data)))}
        names = [
            _SAVED + _SAVED_WITH_SPACING * (f"{number}_spacing" in data) for number in range(min(count, len(data)))
        ]
        _require(len(names) == count and len(data) == 1 + sum(map(len, names)), "count")
        return [_restored({name: data[f"{number}_{name}"] for name in own}) for number, own in enumerate(names)]
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: damaged, or something else ({reason}); delete it and run again") from error


_SAVED_WITH_SPACING = ("spacing", "lengths_in")  # in those files alone whose fields have one
_SAVED = tuple(name for name in ReceptiveField.__dataclass_fields__ if name not in _SAVED_WITH_SPACING)


_BY_AXIS = ("position", "theoretical_rf", "spacing")
FARTHEST = 2**20  # pixels from the map's first at which a unit may look, or farther within a longer map


def _restored(values: dict[str, np.ndarray]) -> ReceptiveField:
    """The field of its arrays; ValueError if no measurement gives such values."""
    axes = values["map"].ndim
    _require(axes in AXIS_NAMES, "map")
    for name, dimensions in {"map": axes, "run_sizes": 1, "bootstrap": 1, "largest_share": 0}.items():
        _require(values[name].dtype.kind == "f" and values[name].ndim == dimensions, name)
    for name in ("position", "theoretical_rf"):
        _require(values[name].dtype.kind in "iuf" and values[name].shape == (axes,), name)
    for name in ("run_sizes", "bootstrap"):  # NaN: without a size
        _require(not (values[name] < 0).any() and not np.isinf(values[name]).any(), name)
    _require(values["map"].size and np.isfinite(values["map"]).all(), "map")
    _require((np.abs(values["position"]) <= np.maximum(FARTHEST, values["map"].shape)).all(), "position")
    _require((values["theoretical_rf"] > 0).all(), "theoretical_rf")
    _require(not (values["largest_share"] < 0 or values["largest_share"] > 1.000001), "largest_share")
    dead, reference = _number(values["dead"], "dead"), str(values["reference"])
    _require(dead <= len(values["run_sizes"]), "dead")
    _require(reference in ("centre", "maximum"), "reference")
    _require(isinstance(settings := json.loads(str(values["settings"])), dict), "settings")
    words = {"reference": reference, "settings": settings}
    if "spacing" in values:
        spacing, words["lengths_in"] = values["spacing"], str(values["lengths_in"])
        _require(spacing.dtype.kind == "f" and spacing.shape == (axes,), "spacing")
        _require((spacing > 0).all() and np.isfinite(spacing).all(), "spacing")
        _require(values["lengths_in"].dtype.kind == "U" and not values["lengths_in"].shape, "lengths_in")
        _require(words["lengths_in"], "lengths_in")
    by_axis = {name: tuple(values[name].tolist()) for name in _BY_AXIS if name in values}
    share = float(values["largest_share"])
    return ReceptiveField(**{**values, **by_axis, **words, "dead": dead, "largest_share": share})


def _number(value: np.ndarray, name: str) -> int:
    """A whole number from 0; ValueError if it is something else."""
    _require(value.dtype.kind in "iu" and not value.shape and value >= 0, name)
    return int(value)


def _require(holds: bool, name: str) -> None:
    if not holds:
        raise ValueError(f"{name} is not what a measurement gives")
