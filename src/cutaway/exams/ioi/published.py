"""The heads that Wang et al. (2022) published for GPT-2 small, beside what is found in a model of its shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from scipy import stats

from cutaway.core import Comparison, Estimate, Evidence, Interval, read_json

SHAPE = (12, 12)  # layers, heads


@dataclass(frozen=True)
class Published:
    """`classes`: of each class its heads (a9.h6); 26 in all. `source`: where they are published."""

    model: str
    source: str
    classes: Mapping[str, tuple[str, ...]]

    @property
    def heads(self) -> tuple[str, ...]:
        return tuple(head for heads in self.classes.values() for head in heads)


def published_heads() -> Published:
    """The 26 heads by class."""
    value = read_json(str(resources.files("cutaway.exams.ioi") / "gpt2_small.json"))
    classes = {
        name: tuple("a{}.h{}".format(*place.split(".")) for place in heads) for name, heads in value["classes"].items()
    }
    return Published(value["model"], value["source"], classes)


def beside_published(found: Iterable[str], n_heads: int) -> Evidence:
    """Jaccard of a found set of heads and the published one, beside sets of its size drawn at random.

    The two overlaps of random sets are hypergeometric, exactly.
    """
    published = published_heads()
    ours, theirs = set(found), set(published.heads)
    both = len(ours & theirs)
    value = both / max(1, len(ours | theirs))
    chance = stats.hypergeom(n_heads, len(theirs), len(ours))
    low, high = (float(k) / (len(ours) + len(theirs) - float(k)) for k in chance.ppf([0.025, 0.975]))
    mean = sum(float(chance.pmf(k)) * k / (len(ours) + len(theirs) - k) for k in range(min(len(ours), len(theirs)) + 1))
    span = Interval(low=low, high=high, method="exact, middle 95% of random sets")
    return Evidence(
        claim=f"The heads found are those of Wang et al.: {both} of their {len(theirs)} are among these {len(ours)}",
        effect=Estimate(name="Jaccard with the published heads", value=value, n=len(ours)),
        nulls=(Comparison(estimate=Estimate(name="random heads, as many", value=mean, interval=span, n=n_heads)),),
        how="By layer and head; means something for GPT-2 small alone, whose weights the numbers belong to.",
        settings={"source": published.source, "common": sorted(ours & theirs), "published": len(theirs)},
    )


def has_its_shape(facts: Any) -> bool:
    return (facts.n_layers, facts.n_heads) == SHAPE
