"""Reading what a layer holds: the logit and the tuned lens, direct logit attribution, probes, attention-head scores.

Each is a call that gives a typed result with its evidence: `lens`, `direct_effects`, `probe`, `head_scores`,
`composition`, `token_heads`, `self_repair`, `patchscope`, `state_study`; `train_tuned_lens` makes the translators,
`head_circuit` a head's QK or OV circuit.
"""

from cutaway.readouts.attribution import DirectEffects, direct_effects
from cutaway.readouts.composition import Composition, composition
from cutaway.readouts.head_cards import head_cards, patterns
from cutaway.readouts.heads import HeadScores, head_scores
from cutaway.readouts.labelled import Labelled, read_labelled
from cutaway.readouts.lens import Lens, lens
from cutaway.readouts.low_rank import HeadCircuit, head_circuit
from cutaway.readouts.patchscope import Patchscope, patchscope
from cutaway.readouts.probe import Probe, probe
from cutaway.readouts.self_repair import SelfRepair, self_repair
from cutaway.readouts.state_data import StateData, read_states
from cutaway.readouts.state_study import StateStudy, state_study
from cutaway.readouts.token_heads import TokenHeads, token_heads
from cutaway.readouts.train_tuned import TunedSettings, train_tuned_lens
from cutaway.readouts.tuned import TunedLens

__all__ = [
    "Composition",
    "DirectEffects",
    "HeadCircuit",
    "HeadScores",
    "Labelled",
    "Lens",
    "Patchscope",
    "Probe",
    "SelfRepair",
    "StateData",
    "StateStudy",
    "TokenHeads",
    "TunedLens",
    "TunedSettings",
    "composition",
    "direct_effects",
    "head_cards",
    "head_circuit",
    "head_scores",
    "lens",
    "patchscope",
    "patterns",
    "probe",
    "read_labelled",
    "read_states",
    "self_repair",
    "state_study",
    "token_heads",
    "train_tuned_lens",
]
