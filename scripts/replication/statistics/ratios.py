"""ERF sizes as multiples of another network's."""

import math

from erf.result.field import ReceptiveField
from erf.result.intervals import percentile_interval


def size_ratio(field: ReceptiveField, base: ReceptiveField) -> tuple[float, float, float]:
    """ERF size of `field` over that of `base`, with its 95 % bootstrap interval over runs: (ratio, low, high).

    The two have runs of their own. NaN for an interval of a field with itself, or without a bootstrap.
    """
    ratio = field.size / base.size
    if field is base or not (len(field.bootstrap) and len(base.bootstrap)):
        return ratio, math.nan, math.nan
    return ratio, *percentile_interval(field.bootstrap / base.bootstrap, min(field.live, base.live))
