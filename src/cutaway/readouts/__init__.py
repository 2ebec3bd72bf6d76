"""Reading what a layer holds: the logit and the tuned lens, direct logit attribution, probes, attention-head scores."""

from cutaway.readouts.attribution import DirectEffects, direct_effects
from cutaway.readouts.lens import Lens, lens
from cutaway.readouts.train_tuned import TunedSettings, train_tuned_lens
from cutaway.readouts.tuned import TunedLens

__all__ = ["DirectEffects", "Lens", "TunedLens", "TunedSettings", "direct_effects", "lens", "train_tuned_lens"]
