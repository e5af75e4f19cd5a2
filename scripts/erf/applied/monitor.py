"""The effective receptive field during a training: measured now and then, within a share of the time."""

import contextlib
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from erf.errors import InputError, is_out_of_memory
from erf.measuring.measure import measure
from erf.measuring.recorded import theoretical_rf
from erf.result.field import ReceptiveField

LOGGED = ("size", "sigma", "ratio")


class Monitor:
    """Measures layers of a model every so many steps of its training, within a stated share of the time.

    Call `step()` once in each training step, anywhere in it: also under `torch.no_grad` or autocast, and between the
    forward and the backward pass. The training goes on exactly as it would have without: gradients, modes, flags,
    batch norm's statistics and random states stay as they were. The model is measured in evaluation mode, with the
    statistics that its batch norms have by then.

    A measurement is due at step 0 and at every multiple of `every`. It is skipped if it would bring the time of all
    measurements above `share` of the time since the first call, taking as long as the one before. The first measurement
    is always made, because its duration is not known before.

    A measurement that fails ends no training, for example of a unit that is dead in all images: its row has NaN and the
    reason in `note`, and a warning gives it too.

    Parameters
    ----------
    model : a torch.nn.Module: the bare model, not one that `torch.compile` or DistributedDataParallel wraps
    images : one batch (N, C, H, W), as in `erf.measure`; a few images will do, the same ones at every step
    layers : names of submodules; the model's own output if None
    every : steps between two measurements
    share : of the time, above 0 and at most 1; None sets no limit
    log : called as log(name, value, step) with every finite number, such as `SummaryWriter.add_scalar`; the names are
        erf/LAYER/size, erf/LAYER/sigma and erf/LAYER/ratio
    **options : of `erf.measure`: unit, channels, mode, layout, batch_size

    Attributes
    ----------
    rows : one dictionary for each layer and measurement, see `table`
    first, last : the first and the last field by layer, for `erf.compare`
    skipped : number of measurements that were due, but would have taken too much time
    seconds : time that measurements have taken

    Raises
    ------
    InputError : layers that do not exist or have no units; images that the model refuses; a wrong `every` or `share`.

    Examples
    --------
    >>> import erf, torch
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 1, 3, padding=1))
    >>> monitor = erf.Monitor(model, torch.randn(4, 3, 32, 32), ["0", "1"], every=10, share=None)
    >>> for step in range(20):
    ...     rows = monitor.step()  # beside forward pass, backward pass and the optimizer's step
    >>> [(row["step"], row["layer"], row["theoretical_size"]) for row in monitor.rows]
    [(0, '0', 3.0), (0, '1', 5.0), (10, '0', 3.0), (10, '1', 5.0)]
    """

    def __init__(
        self,
        model: nn.Module,
        images: torch.Tensor | np.ndarray,
        layers: Sequence[str | None] | None = None,
        *,
        every: int = 100,
        share: float | None = 0.05,
        log: Callable[[str, float, int], object] | None = None,
        **options,
    ):
        if type(every) is not int or every < 1:
            raise InputError(f"every must be a whole number of steps from 1, not {every!r}")
        if share is not None and not 0 < share <= 1:
            raise InputError(f"share must be above 0 and at most 1, or None for no limit, not {share!r}")
        if not isinstance(images, torch.Tensor | np.ndarray):
            raise InputError(f"images must be one batch, such as next(iter(loader))[0], not a {type(images).__name__}")
        if isinstance(layers, str):
            raise InputError(f"layers is a list of names: give [{layers!r}]")
        self.model, self.every, self.share, self.log, self.options = model, every, share, log, options
        self.images = torch.as_tensor(images).detach().clone()
        shape = tuple(self.images.shape[1:])
        with _random_states_kept(model):
            self.theory = {layer: theoretical_rf(model, layer, input_shape=shape) for layer in layers or [None]}
        self.rows: list[dict] = []
        self.first: dict[str | None, ReceptiveField] = {}
        self.last: dict[str | None, ReceptiveField] = {}
        self.skipped, self.seconds = 0, 0.0
        self._next, self._due, self._began, self._took = 0, 0, None, 0.0

    def step(self, step: int | None = None) -> list[dict]:
        """Measure if it is due and there is time for it.

        step : number of the training's step; one more than at the last call if None, from 0 on

        Returns the new rows, one for each layer; an empty list if nothing was measured.
        """
        step = self._next if step is None else step
        self._next = step + 1
        now = time.perf_counter()
        self._began = now if self._began is None else self._began
        if step < self._due:
            return []
        self._due = (step // self.every + 1) * self.every
        if self.share is not None and self.seconds + self._took > self.share * (now - self._began) and self.rows:
            self.skipped += 1
            return []
        return self.measure(step)

    __call__ = step

    def measure(self, step: int) -> list[dict]:
        """Measure all layers now, whatever is due. Returns the new rows, one for each layer."""
        for device in _gpus(self.model):
            torch.cuda.synchronize(device)  # so that steps in its queue do not count as measuring
        began = time.perf_counter()
        with _random_states_kept(self.model):
            rows = [self._row(step, layer) for layer in self.theory]
        self._took = time.perf_counter() - began
        self.seconds += self._took
        self.rows += rows
        for row in rows if self.log else ():
            for name in LOGGED:
                if math.isfinite(row[name]):
                    self.log(f"erf/{row['layer'] or 'output'}/{name}", row[name], step)
        return rows

    def _row(self, step: int, layer: str | None) -> dict:
        began, note, field = time.perf_counter(), "", None
        try:
            field = measure(self.model, self.images, layer, **self.options)
        except (InputError, RuntimeError, MemoryError) as error:
            if not (isinstance(error, InputError) or is_out_of_memory(error)):
                raise
            note = str(error).splitlines()[0]
            warnings.warn(f"step {step}, layer {layer!r} was not measured: {note}", stacklevel=4)
        else:
            self.first.setdefault(layer, field)
            self.last[layer] = field
        theory = self.theory[layer].size
        return {
            "step": step,
            "layer": layer,
            "size": field.size if field else math.nan,
            "sigma": math.sqrt(np.square(field.sigma).mean()) if field else math.nan,
            "theoretical_size": math.prod(theory) ** (1 / len(theory)),
            "ratio": field.ratio if field else math.nan,
            "clipped": field.clipped if field else None,
            "images": len(self.images),
            "dead": field.dead if field else None,
            "seconds": time.perf_counter() - began,
            "note": note,
        }

    def table(self):
        """All rows: a pandas DataFrame, or a list of dictionaries if pandas is not installed. Lengths are in pixels.

        step, layer : where in the training, and which layer (None: the model's own output)
        size, sigma : ERF size; root of the mean over axes of the squared standard deviation
        theoretical_size, ratio : side of the theoretical receptive field, and the ERF size's share of it
        clipped : whether that field, or the image, cuts the ERF off
        images, dead : number of images, and of those in which the unit has no gradient
        seconds : that the measurement took
        note : why it failed
        """
        try:
            import pandas as pd
        except ModuleNotFoundError:
            return [dict(row) for row in self.rows]
        return pd.DataFrame(self.rows)


def _gpus(model: nn.Module) -> set[torch.device]:
    return {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}


@contextlib.contextmanager
def _random_states_kept(model: nn.Module) -> Iterator[None]:
    """Put back the states of torch's, numpy's and Python's random numbers: a model may draw some when it runs."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002, whose state others use
    try:
        with torch.random.fork_rng(_gpus(model)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
