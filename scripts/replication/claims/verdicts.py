"""Verdicts: measurements, with their intervals, held against the region of values that a claim's rule accepts.

The rule is the same for every claim; `config/claims.yaml` has their regions.

- reproduced: all intervals lie in the region
- partly: an interval reaches into the region and out of it, or there are too few runs or seeds for one, so that nothing
  is decided; or some measurements are reproduced and others are not
- not reproduced: an interval lies outside, and no measurement is reproduced
- not comparable: measured, but in conditions that are not the claim's, or set and not found
- not run: there is no result
"""

import math
from dataclasses import dataclass

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
NOT_COMPARABLE, NOT_RUN = "not comparable", "not run"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_COMPARABLE, NOT_RUN)


@dataclass(frozen=True)
class Part:
    """One of the measurements that a claim is judged by.

    low, high : its 95 % interval; the value itself where nothing varies, NaN where too little was run for one
    value : NaN where there is none, `absent` says why
    """

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    absent: str = "no value"

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
        return NOT_REPRODUCED if part.high < self.low or part.low > self.high else PARTLY

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
    without a value leaves undecided what the others say."""
    telling = {verdict for verdict in verdicts if verdict != NOT_COMPARABLE}
    if NOT_REPRODUCED in telling and REPRODUCED not in telling:
        return NOT_REPRODUCED
    if telling == {REPRODUCED} and NOT_COMPARABLE in verdicts:
        return PARTLY
    if len(telling) == 1:
        return telling.pop()
    return PARTLY if telling else NOT_COMPARABLE


def because(verdict: str, verdicts: list[str]) -> str:
    """Why a claim is partly reproduced: "undecided", or "mixed" where a part of it is not reproduced."""
    if verdict != PARTLY:
        return ""
    return "mixed" if NOT_REPRODUCED in verdicts else "undecided"


def weakest(parts: list[Part], region: Region) -> Part:
    """The part that speaks most against the claim: of the worst verdict, that least deep in the region."""
    telling = [part for part in parts if not math.isnan(part.value)] or parts
    return min(telling, key=lambda part: (-VERDICTS.index(region.verdict(part)), region.depth(part)))
