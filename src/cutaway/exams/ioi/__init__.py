"""Indirect objects, whole (Wang et al. 2022): `ioi_case` for one model, `across` for several trained alike.

`published_heads` are the 26 of GPT-2 small.
"""

from cutaway.exams.ioi.across import Across, across
from cutaway.exams.ioi.published import published_heads
from cutaway.exams.ioi.result import IOICase
from cutaway.exams.ioi.whole import ioi_case

__all__ = ["Across", "IOICase", "across", "ioi_case", "published_heads"]
