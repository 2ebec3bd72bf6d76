"""The primer's model: a small CLIP of our own, with a convolutional vision tower and a bag of words for text.

It is laid out as Hugging Face's CLIP is (vision_model, text_model, visual_projection, text_projection, logit_scale,
get_image_features, get_text_features), so whatever reads one reads the other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from cutaway.core import UnknownName

MODEL_TYPE = "cutaway_primer"


class PrimerConfig(PreTrainedConfig):
    """Sizes. `words`: the vocabulary of captions, an id a place. Pictures are [3, image_size, image_size] in 0 … 1."""

    model_type = MODEL_TYPE

    image_size: int = 48
    num_channels: int = 3
    channels: tuple[int, ...] = (24, 48, 64, 128, 128)
    strides: tuple[int, ...] = (2, 2, 1, 2, 1)
    neurons: int = 128
    text_width: int = 64
    projection_dim: int = 32
    words: tuple[str, ...] = ()
    concepts: tuple[str, ...] = ()
    trained_on_text_in_images: bool = True


class PrimerVision(nn.Module):
    """Five convolutions, the mean and the largest of each channel over the picture, and a layer of ReLU neurons."""

    def __init__(self, config: PrimerConfig, norm: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        width = config.num_channels
        for i, (channels, stride) in enumerate(zip(config.channels, config.strides)):
            size = 5 if i == 0 else 3
            layer = [nn.Conv2d(width, channels, size, stride, size // 2)]
            if norm:  # while it is trained; folded into the convolution afterwards
                layer.append(nn.BatchNorm2d(channels))
            self.convs.append(nn.Sequential(*layer, nn.ReLU()))
            width = channels
        self.pooled = nn.Linear(2 * width, config.neurons)
        self.neurons = nn.ReLU()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[batch, 3, height, width] in 0 … 1 -> neurons [batch, neurons]."""
        x = 2 * pixel_values - 1
        for conv in self.convs:
            x = conv(x)
        x = torch.cat([x.mean((-2, -1)), x.amax((-2, -1))], -1)  # [batch, 2 channels]
        out: Tensor = self.neurons(self.pooled(x))
        return out


class PrimerText(nn.Module):
    """The mean of a caption's words, and one hidden layer."""

    def __init__(self, config: PrimerConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(len(config.words), config.text_width, padding_idx=0)
        self.hidden = nn.Linear(config.text_width, config.text_width)

    def forward(self, input_ids: Tensor) -> Tensor:
        """[batch, word] (0 pads) -> [batch, text_width]."""
        told = (input_ids != 0).unsqueeze(-1)
        mean = (self.words(input_ids) * told).sum(1) / told.sum(1).clamp(min=1)
        return mean + F.relu(self.hidden(mean))


class PrimerModel(PreTrainedModel):
    """logits = e^scale  x_image · x_text, both of length one."""

    config_class = PrimerConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    _tied_weights_keys = None

    def __init__(self, config: PrimerConfig, norm: bool = False) -> None:
        super().__init__(config)
        self.vision_model = PrimerVision(config, norm)
        self.text_model = PrimerText(config)
        self.visual_projection = nn.Linear(config.neurons, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(config.text_width, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.659))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding)):
            module.reset_parameters()

    def tokenise(self, captions: list[str]) -> Tensor:
        """Captions as ids [n, longest], 0 where one has ended. Raises UnknownName for a word that it never read."""
        known = {word: i for i, word in enumerate(self.config.words)}
        split = [text.lower().replace(",", " , ").split() for text in captions]
        unread = [word for words in split for word in words if word not in known]
        if unread:
            raise UnknownName("word in this model's captions", unread[0], self.config.words[2:])
        rows = [[known[word] for word in words] for words in split]
        width = max(1, *map(len, rows))
        return torch.tensor([row + [0] * (width - len(row)) for row in rows])

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        return self.visual_projection(self.vision_model(pixel_values))

    def get_text_features(self, input_ids: Tensor) -> Tensor:
        return self.text_projection(self.text_model(input_ids))

    def forward(self, pixel_values: Tensor, input_ids: Tensor) -> Tensor:
        """[images, 3, height, width], [texts, word] -> logits [images, texts]."""
        image = F.normalize(self.get_image_features(pixel_values), dim=-1)
        text = F.normalize(self.get_text_features(input_ids), dim=-1)
        return self.logit_scale.exp() * image @ text.T


def folded(trained: PrimerModel) -> PrimerModel:
    """The same function without batch norms: each is put into the convolution before it."""
    plain = PrimerModel(trained.config).eval()
    state = {k: v for k, v in trained.state_dict().items() if ".convs." not in k}
    for i, block in enumerate(trained.vision_model.convs):
        conv, norm = block[0], block[1]
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        prefix = f"vision_model.convs.{i}.0"
        state[f"{prefix}.weight"] = conv.weight * gain[:, None, None, None]
        state[f"{prefix}.bias"] = (conv.bias - norm.running_mean) * gain + norm.bias
    plain.load_state_dict(state)
    return plain


AutoConfig.register(MODEL_TYPE, PrimerConfig, exist_ok=True)
AutoModel.register(PrimerConfig, PrimerModel, exist_ok=True)
AutoModelForCausalLM.register(PrimerConfig, PrimerModel, exist_ok=True)  # by which `cutaway.load` finds its class
