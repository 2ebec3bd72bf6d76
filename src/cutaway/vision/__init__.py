"""What neurons of image models respond to, drawn, attacked and measured.

`look` makes a tower of a model; `survey` and `card` say what its units stand for, `visualise` makes pictures for them,
`attack` writes words on pictures, `arithmetic` writes labels as sums of units. Pictures are tensors in 0 … 1.
"""

from cutaway.vision.arithmetic import Arithmetic, arithmetic
from cutaway.vision.attack import Bench, attack
from cutaway.vision.card import Card, ablation, card
from cutaway.vision.fourier import Fourier, Phases
from cutaway.vision.lettering import Label, put
from cutaway.vision.nulls import rerandomised
from cutaway.vision.objectives import Objective, channel, direction, diversity, faceted, feature, neuron, says
from cutaway.vision.pictures import Pictures, read_pictures, sheet, to_png, word_pictures
from cutaway.vision.selectivity import Selectivity, multimodality, selectivity
from cutaway.vision.shown import Shown, shown
from cutaway.vision.stroop import stroop
from cutaway.vision.survey import Survey, survey
from cutaway.vision.tower import Tower, look, sees
from cutaway.vision.transforms import Crops, Transforms
from cutaway.vision.visualise import Settings, Start, Visualisation, on_pictures, strongest, visualise

__all__ = [
    "Arithmetic",
    "Bench",
    "Card",
    "Crops",
    "Fourier",
    "Label",
    "Objective",
    "Phases",
    "Pictures",
    "Selectivity",
    "Settings",
    "Shown",
    "Start",
    "Survey",
    "Tower",
    "Transforms",
    "Visualisation",
    "ablation",
    "arithmetic",
    "attack",
    "card",
    "channel",
    "direction",
    "diversity",
    "faceted",
    "feature",
    "look",
    "multimodality",
    "neuron",
    "on_pictures",
    "put",
    "read_pictures",
    "rerandomised",
    "says",
    "sees",
    "selectivity",
    "sheet",
    "shown",
    "strongest",
    "stroop",
    "survey",
    "to_png",
    "visualise",
    "word_pictures",
]
