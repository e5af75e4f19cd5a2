"""What a measurement is: the impact map, and the numbers that are read from it. numpy and SciPy only."""

import json
import math
from dataclasses import dataclass, field
from os import PathLike

import numpy as np
from scipy.optimize import curve_fit

from erf.errors import InputError
from erf.files import atomic, read_arrays
from erf.intervals import basic_interval
from erf.theory import THRESHOLD, gaussian_map


def centre_impact(maps: np.ndarray, position: tuple[float, float]) -> np.ndarray:
    """Impact at the unit's position; the mean of the nearest 2 or 4 pixels where that lies between pixels.

    maps (..., H, W), position (row, column); returns (...). A position outside of the map counts as at its edge.
    """
    rows, columns = (
        sorted({min(max(index, 0), side - 1) for index in (math.floor(p), math.ceil(p))})
        for p, side in zip(position, maps.shape[-2:], strict=True)
    )
    return maps[..., rows, :][..., columns].mean((-2, -1))


def erf_size(maps: np.ndarray, position: tuple[float, float], threshold: float = THRESHOLD) -> np.ndarray:
    """ERF size (pixels): square root of the number of pixels with more than `threshold` of the centre's impact.

    maps (..., H, W) of non-negative impacts; returns (...), NaN where the centre has none.
    """
    centre = centre_impact(maps, position)
    count = (maps > threshold * centre[..., None, None]).sum((-2, -1))
    return np.where(centre > 0, np.sqrt(count), np.nan)


def bootstrap_sizes(
    maps: np.ndarray, position: tuple[float, float], rng: np.random.Generator, replicates: int = 1000
) -> np.ndarray:
    """ERF sizes of the mean of `maps` (runs, H, W) when its runs are drawn again with replacement: (replicates,).

    Noise carries pixels over the threshold: the size of a mean over few runs is a little too large, and that of redrawn
    runs again by as much. `basic_interval` corrects for it.
    """
    runs = len(maps)
    flat = maps.reshape(runs, -1)
    sizes = np.empty(replicates)
    chunk = max(1, 2**24 // flat.shape[1])  # replicates at a time, so that their maps stay within 128 MiB
    for start in range(0, replicates, chunk):
        count = min(chunk, replicates - start)
        weights = rng.multinomial(runs, np.full(runs, 1 / runs), size=count)  # (count, runs)
        means = np.abs(weights @ flat / runs).reshape(count, *maps.shape[1:])
        sizes[start : start + count] = erf_size(means, position)
    return sizes


@dataclass(frozen=True)
class GaussianFit:
    """A Gaussian fitted to a map: peak, sigma (rows, columns; pixels) and the share of variance that it explains."""

    peak: float
    sigma: tuple[float, float]
    r2: float


@dataclass(frozen=True)
class ReceptiveField:
    """Effective receptive field of one unit.

    map : float64 (H, W), rows first: mean impact over live runs and input channels, a derivative (not normalised)
    position : (row, column) of the unit in the map's pixels, where its theoretical receptive field is centred
    theoretical_rf : (height, width) in pixels, infinite where a layer sees the whole image or what it sees is unknown
    run_sizes : (runs,) ERF size of each run (or image) by itself, NaN for a dead one
    dead : number of runs whose gradient is zero everywhere; they are counted here and left out of the map
    bootstrap : (replicates,) ERF sizes of maps of redrawn runs, empty if none were asked for
    settings : what was measured, as plain values
    """

    map: np.ndarray
    position: tuple[float, float]
    theoretical_rf: tuple[float, float]
    run_sizes: np.ndarray
    dead: int = 0
    bootstrap: np.ndarray = field(default_factory=lambda: np.empty(0))
    settings: dict = field(default_factory=dict)

    @classmethod
    def from_runs(
        cls,
        maps: np.ndarray,
        position: tuple[float, float],
        theoretical_rf: tuple[float, float],
        settings: dict | None = None,
        rng: np.random.Generator | None = None,
    ) -> "ReceptiveField":
        """From one map a run, (runs, H, W). Dead runs are counted, not averaged; with `rng`, sizes are bootstrapped."""
        if not np.isfinite(maps).all():
            raise InputError("an impact map has values that are not finite: measure in float64, or scale the weights")
        alive = maps.any((1, 2))
        live = maps[alive]
        run_sizes = np.full(len(maps), np.nan)
        run_sizes[alive] = erf_size(np.abs(live), position)
        return cls(
            map=live.mean(0) if len(live) else np.zeros(maps.shape[1:]),
            position=position,
            theoretical_rf=theoretical_rf,
            run_sizes=run_sizes,
            dead=int((~alive).sum()),
            bootstrap=bootstrap_sizes(live, position, rng) if rng is not None and len(live) else np.empty(0),
            settings=settings or {},
        )

    @property
    def size(self) -> float:
        """ERF size (pixels) of the mean map; NaN if the centre has no impact; the magnitude of a signed map."""
        return float(erf_size(np.abs(self.map), self.position))

    @property
    def diameter(self) -> float:
        """Diameter (pixels) of the disc with the area of the ERF: 2 size / sqrt(pi)."""
        return 2 * self.size / math.sqrt(math.pi)

    @property
    def ratio(self) -> float:
        """ERF size over the theoretical field's side (geometric mean of height and width); NaN if infinite."""
        side = math.sqrt(self.theoretical_rf[0] * self.theoretical_rf[1])
        return self.size / side if math.isfinite(side) else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % basic bootstrap interval of `size` over runs; (NaN, NaN) without a bootstrap."""
        return basic_interval(self.size, self.bootstrap)

    @property
    def clipped(self) -> bool:
        """Whether the ERF reaches the edge of the theoretical field or of the image, which then cuts it off."""
        window = []
        for centre, length, side in zip(self.position, self.theoretical_rf, self.map.shape, strict=True):
            first, last = max(centre - (length - 1) / 2, 0), min(centre + (length - 1) / 2, side - 1)
            window.append(slice(math.ceil(first), math.floor(last) + 1))
        seen = np.abs(self.map[tuple(window)])
        edge = np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]])
        return bool((edge > THRESHOLD * centre_impact(np.abs(self.map), self.position)).any())

    @property
    def sigma(self) -> tuple[float, float]:
        """Standard deviation (pixels; rows, columns) of |impact| about the unit's position."""
        weights = np.abs(self.map)
        deviations = []
        for axis in (0, 1):
            distance = np.arange(weights.shape[axis]) - self.position[axis]
            marginal = weights.sum(1 - axis)
            deviations.append(float(np.sqrt((marginal * distance**2).sum() / marginal.sum())))
        return deviations[0], deviations[1]

    def fit_gaussian(self) -> GaussianFit:
        """Least-squares Gaussian centred on the unit. R^2 is over all pixels. InputError if every run was dead."""
        impact = np.abs(self.map)
        if not impact.any():
            raise InputError(f"no Gaussian fits an empty map: all {self.dead} runs are dead")

        def model(_, peak, row_sigma, column_sigma):
            return peak * gaussian_map((row_sigma, column_sigma), impact.shape, self.position).ravel()

        scale = impact.max()  # fitted at peak one: gradients can be 1e-20
        start = (1.0, *(max(s, 0.5) for s in self.sigma))
        (peak, *sigma), _ = curve_fit(model, None, impact.ravel() / scale, p0=start)
        residual = impact.ravel() / scale - model(None, peak, *sigma)
        r2 = 1 - (residual**2).sum() / ((impact / scale - (impact / scale).mean()) ** 2).sum()
        return GaussianFit(float(peak * scale), (abs(float(sigma[0])), abs(float(sigma[1]))), float(r2))

    def save(self, path: str | PathLike) -> None:
        """Write to `path` (.npz), whole or not at all; the same field gives the same bytes."""
        with atomic(path) as temporary:
            np.savez_compressed(
                temporary,
                map=self.map,
                position=np.array(self.position, float),
                theoretical_rf=np.array(self.theoretical_rf, float),
                run_sizes=self.run_sizes,
                dead=np.array(self.dead),
                bootstrap=self.bootstrap,
                settings=np.array(json.dumps(self.settings, sort_keys=True)),
            )

    @classmethod
    def load(cls, path: str | PathLike) -> "ReceptiveField":
        """Read what `save` wrote. InputError for a file that is damaged or something else."""
        data = read_arrays(path, "map", "position", "theoretical_rf", "run_sizes", "dead", "bootstrap", "settings")
        return cls(
            map=data["map"],
            position=tuple(data["position"].tolist()),
            theoretical_rf=tuple(data["theoretical_rf"].tolist()),
            run_sizes=data["run_sizes"],
            dead=int(data["dead"]),
            bootstrap=data["bootstrap"],
            settings=json.loads(str(data["settings"])),
        )
