"""Verdicts: measurements, with their intervals, held against the region of values that a claim's rule accepts.

The rule is the same for every claim; `config/claims.yaml` has their regions. The estimate counts beside its interval.

- reproduced: all estimates lie in the region, with their whole intervals
- partly: some measurements are reproduced, and others are not, or leave it open
- undecided: an interval reaches into the region and out of it, or there are too few runs or seeds for one
- not reproduced: an interval lies outside, and no measurement is reproduced
- not comparable: measured, but in conditions that are not the claim's, or set and not found
- not run: there is no result

What is undecided or not comparable tells, too, what the verdict would be otherwise: by the estimates alone, or without
the obstacle.
"""

import math
from dataclasses import dataclass

from erf.errors import InputError

REPRODUCED, PARTLY, UNDECIDED, NOT_REPRODUCED = "reproduced", "partly", "undecided", "not reproduced"
NOT_COMPARABLE, NOT_RUN = "not comparable", "not run"
VERDICTS = (REPRODUCED, PARTLY, UNDECIDED, NOT_REPRODUCED, NOT_COMPARABLE, NOT_RUN)


@dataclass(frozen=True)
class Part:
    """One of the measurements that a claim is judged by.

    low, high : its 95 % interval; the value itself where nothing varies, NaN where too little was run for one
    value : NaN where there is none, `absent` says why

    InputError for an estimate outside of its own interval, of which one must be damaged.
    """

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    absent: str = "no value"

    def __post_init__(self):
        slack = 1e-9 * abs(self.value)  # of rounding
        if self.value < self.low - slack or self.value > self.high + slack:
            raise InputError(
                f"{self.label}: the estimate {self.value:.6g} lies outside of its own interval, "
                f"{self.low:.6g} to {self.high:.6g}: the table is damaged; delete it and run again"
            )

    @classmethod
    def exact(cls, label: str, value: float) -> "Part":
        return cls(label, value, value, value)


@dataclass(frozen=True)
class Region:
    """The values that a rule accepts, its ends included."""

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def depth(self, part: Part) -> float:
        """How far inside the region the interval lies (the estimate, where there is none); negative for outside."""
        low, high = (part.value, part.value) if math.isnan(part.low) else (part.low, part.high)
        return min(low - self.low, self.high - high)

    def verdict(self, part: Part) -> str:
        if math.isnan(part.value):
            return NOT_COMPARABLE
        if part.low in self and part.high in self:  # NaN lies in no region
            return REPRODUCED
        return NOT_REPRODUCED if part.high < self.low or part.low > self.high else UNDECIDED

    def by_estimate(self, part: Part) -> str:
        """The verdict if the estimate were the truth."""
        return self.verdict(Part.exact(part.label, part.value))

    def words(self, digits: int) -> str:
        """ "above 1.00", "0.55 to 0.57"."""
        low, high = (f"{end:.{digits}f}".replace("-", "\N{MINUS SIGN}") for end in (self.low, self.high))
        if math.isinf(self.high):
            return f"at least {low}"
        if math.isinf(self.low):
            return f"at most {high}"
        return low if low == high else f"{low} to {high}"


def overall(verdicts: list[str]) -> str:
    """Of all parts of a claim: what they agree in, and not reproduced where one part is not and no part is. A part
    without a value leaves open what the others say."""
    telling = {verdict for verdict in verdicts if verdict != NOT_COMPARABLE}
    if not telling:
        return NOT_COMPARABLE
    if REPRODUCED not in telling:
        return NOT_REPRODUCED if NOT_REPRODUCED in telling else UNDECIDED
    return REPRODUCED if set(verdicts) == {REPRODUCED} else PARTLY


def because(verdict: str, verdicts: list[str]) -> str:
    """Why a claim is partly reproduced: "mixed" where a part of it is not reproduced, or else "undecided"."""
    if verdict != PARTLY:
        return ""
    return "mixed" if NOT_REPRODUCED in verdicts else "undecided"


def weakest(parts: list[Part], region: Region) -> Part:
    """The part that speaks most against the claim: of the worst verdict, that least deep in the region."""
    telling = [part for part in parts if not math.isnan(part.value)] or parts
    return min(telling, key=lambda part: (-VERDICTS.index(region.verdict(part)), region.depth(part)))
