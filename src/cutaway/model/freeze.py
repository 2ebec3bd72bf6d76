"""What a run holds fixed: attention patterns, norm scales, gates, routers, MLP outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.model.positions import Layout

if TYPE_CHECKING:
    from cutaway.model.model import Model
    from cutaway.model.run import Run

# Part -> the points that holding it sets.
PARTS: dict[str, tuple[str, ...]] = {
    "pattern": ("attn_probs",),  # of an encoder-decoder cross_probs, too
    "norm": (),  # every norm's denominator, found by the survey
    "gate": ("mlp_pre",),  # of a gated MLP act(gate) * linear: the gate's branch, so that the neurons are linear
    "router": ("expert_weights", "expert_indices"),
    "mlp": ("mlp_out",),
}
# What alone makes a held point: with the value stored, a change there does nothing.
_MAKES = {
    "pattern": ("q", "k", "q_norm_out", "k_norm_out", "q_rot", "k_rot", "attn_scores", "cross_scores"),
    "gate": (),
    "router": ("router_logits",),
    "mlp": (
        "mlp_norm_scale", "mlp_normalized", "mlp_in", "mlp_pre", "mlp_pre_linear", "mlp_act", "router_logits",
        "expert_weights", "expert_indices",
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Frozen:
    """What `freeze=` takes. `values` None: detached, so that no gradient passes through what is held.
    Otherwise address -> the stored tensor that a run uses in place of its own; batch 1 stands for all rows. `layout`
    is that of the run they come from, `model` its model."""

    parts: tuple[str, ...]
    values: Mapping[str, Tensor] | None = field(default=None)
    layout: Layout | None = None
    model: Model | None = None
    source: Layout | None = None  # of what the encoder read, in an encoder-decoder

    @classmethod
    def of(cls, value: Frozen | str | tuple[str, ...] | list[str] | None) -> Frozen | None:
        if value is None or isinstance(value, Frozen):
            return value
        parts = (value,) if isinstance(value, str) else tuple(value)
        for part in parts:
            if part not in PARTS:
                raise UnknownName("thing to freeze", str(part), tuple(PARTS))
        return cls(parts) if parts else None

    def refuse_another(self, model: Model) -> None:
        """Raise InputError where the values were recorded from a model of other weights."""
        if self.model is None or self.model is model or self.model.fingerprint == model.fingerprint:
            return
        raise InputError(
            f"the frozen values are of another model ({self.model.name}, {self.model.fingerprint}) than this "
            f"({model.name}, {model.fingerprint}): freeze a run of this one."
        )

    def refuse_another_source(self, source: Layout | None) -> None:
        """Raise InputError where patterns over a source are held and the run's source lies otherwise."""
        if self.source is not None and source is not None and "pattern" in self.parts and self.source != source:
            raise InputError(
                f"the frozen run's source has rows of {list(self.source.lengths)} tokens, this one's of "
                f"{list(source.lengths)}: patterns over the source would meet other tokens."
            )

    def fits(self, layout: Layout) -> bool:
        """Whether the rows of a run are padded as those that the values come from."""
        if self.layout is None:
            return True
        if len(self.layout.lengths) == 1:
            return not layout.padded
        return self.layout.starts == layout.starts and self.layout.lengths == layout.lengths

    def idle(self, point: str) -> str | None:
        """The part that makes a change at `point` (a name without its layer) do nothing, or None."""
        if self.values is None:
            return None
        return next((part for part in self.parts if point in _MAKES.get(part, ())), None)


def freeze(run: Run, *parts: str) -> Frozen:
    """Hold parts at the values of `run`; 'pattern' and 'norm' if none is named.

    'pattern': attention patterns. 'norm': the norms' denominators (a LayerNorm still centres its input, which is
    linear; query and key norms act through the pattern). 'gate': the gate's branch of a gated MLP, so that its neurons
    are linear in its input. 'router': which experts a token goes to, and their weights. 'mlp': MLP outputs.
    With patterns, norms and MLPs held the model is affine in its residual stream: the frozen linear path.
    Costs one more forward of the same tokens and interventions where the run did not read what is needed.
    """
    chosen = Frozen.of(parts or ("pattern", "norm"))
    assert chosen is not None
    wanted = run.model.frozen_points(chosen.parts)
    missing = [address for address in wanted if address not in run]
    source = run.again(read=missing) if missing else run
    values = {address: (run if address in run else source).whole(address) for address in wanted}
    read = run.batch.source
    return Frozen(chosen.parts, values, run.layout, run.model, None if read is None else read.layout)


def held_points(model: Model, parts: Iterable[str]) -> tuple[str, ...]:
    """The addresses whose values freezing `parts` holds. Raises InputError where the family has not what is to be
    held, or not in every layer."""
    facts: Any = model.facts
    names: list[str] = []
    for part in parts:
        if part == "norm":
            names += [name for name in model.points() if name.split(".")[0].endswith("norm_scale")]
            if reasons := model.contract.unfreezable:
                raise InputError("the norms cannot be frozen: " + "; ".join(reasons))
            continue
        if part == "gate" and not facts.gated:
            raise InputError(f"{model.name} has no gates to freeze: its MLPs do not multiply two branches.")
        if part == "router" and not facts.experts:
            raise InputError(f"{model.name} has no routers to freeze: its MLPs are dense.")
        over_source = ("cross_probs",) if part == "pattern" and facts.reads == "source and tokens" else ()
        for point in (*PARTS[part], *over_source):
            for layer in range(facts.n_layers):
                reason = model.refuses(f"{point}.{layer}")
                if reason is None:
                    names.append(f"{point}.{layer}")
                elif part == "router" and model.refuses(f"mlp_act.{layer}") is None:
                    continue  # a dense layer between those with experts
                else:
                    what = "attention pattern" if part == "pattern" else part
                    raise InputError(f"the {what} of layer {layer} cannot be frozen: {reason}")
    return tuple(names)
