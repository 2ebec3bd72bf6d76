"""A vision model of Hugging Face, from its folder, through `neurons`, `visualise` and `attack`: each works, or refuses
with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from vision.vision_case import COLOURS, coloured

from cutaway import cli
from cutaway.core import InputError
from cutaway.vision import look, to_png

NAMED = {"id2label": dict(enumerate(COLOURS)), "label2id": {name: i for i, name in enumerate(COLOURS)}}
STACK: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SEEN: dict[str, Any] = {"image_size": 32, "patch_size": 8}
TEXT: dict[str, Any] = {**STACK, "vocab_size": 14, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
                        "max_position_embeddings": 16}  # fmt: skip
STAGES: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 1]}
DINO = {**{k: v for k, v in STACK.items() if k != "intermediate_size"}, **SEEN, "mlp_ratio": 2}

# kind -> (the model, whether it says by itself what a picture shows)
KINDS: dict[str, tuple[Callable[[], Any], bool]] = {
    "clip": (lambda: hf.CLIPModel(hf.CLIPConfig(text_config={**TEXT, "projection_dim": 16}, projection_dim=16,
             vision_config={**STACK, **SEEN, "projection_dim": 16})), True),
    "siglip": (lambda: hf.SiglipModel(hf.SiglipConfig(text_config={**TEXT, "projection_size": 32},
               vision_config={**STACK, **SEEN})), True),
    "clip-vision": (lambda: hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**STACK, **SEEN, projection_dim=16)),
                    False),
    "vit": (lambda: hf.ViTForImageClassification(hf.ViTConfig(**STACK, **SEEN, **NAMED)), True),
    "dinov2": (lambda: hf.Dinov2Model(hf.Dinov2Config(**DINO)), False),
    "swin": (lambda: hf.SwinForImageClassification(hf.SwinConfig(image_size=32, patch_size=4, embed_dim=8,
             depths=[1, 1], num_heads=[2, 2], window_size=4, **NAMED)), True),
    "resnet": (lambda: hf.ResNetForImageClassification(hf.ResNetConfig(embedding_size=8, **STAGES, **NAMED)), True),
    "resnet-bare": (lambda: hf.ResNetModel(hf.ResNetConfig(embedding_size=8, **STAGES)), False),
    "convnext": (lambda: hf.ConvNextForImageClassification(hf.ConvNextConfig(**STAGES, num_stages=2, **NAMED)), True),
}  # fmt: skip
WORDS = ("<pad>", "<s>", "</s>", "<unk>", "a", "photo", "picture", "of", ".", *COLOURS)


def folder(kind: str, place: Path) -> Path:
    """The model as it would be downloaded: weights, image processor, and a tokenizer where it reads text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    model = KINDS[kind][0]()
    model.save_pretrained(place / kind)
    processor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "crop_size": {"height": 32, "width": 32}}
    (place / kind / "preprocessor_config.json").write_text(json.dumps(processor))
    if hasattr(model, "text_model"):
        words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        words.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
        hf.PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
            model_max_length=16,
        ).save_pretrained(place / kind)  # fmt: skip
    return place / kind


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("pictures")
    seen = coloured(8, side=32)
    for i, (image, names) in enumerate(zip(seen.images, seen.labels)):
        to_png(image, place / names[0] / f"{i}.png")
    return str(place)


@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_works_or_says_why_not(
    kind: str, pictures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(folder(kind, tmp_path))

    def gives(*arguments: str) -> dict[str, Any]:
        code = cli.run([*arguments, "--json"])
        said = capsys.readouterr()
        assert code == 0, said.err
        return dict(json.loads(said.out))

    found = gives("neurons", model, "--pictures", pictures, "--unit", "1")
    assert found["selectivity"]["n"]["units"] > 1
    assert {other["model"].startswith(f"{kind} re-randomised") for other in found["others"]} == {True}
    assert found["cards"][0]["concept"] in COLOURS
    made = gives("visualise", model, "--unit", "1", "--steps", "3", "--n", "1")
    assert made["evidence"][0]["nulls"]
    attack = ["attack", model, "--pictures", pictures, "--sizes", "8"]
    if not KINDS[kind][1]:
        assert cli.run(attack) == 2
        assert "no classes and reads no captions" in capsys.readouterr().err
        attack.append("--probe")
    fooled = gives(*attack)
    (by,) = {row["classifier"] for row in fooled["rates"]}
    assert by in (("zero-shot", "its classes") if KINDS[kind][1] else ("linear probe",))
    assert fooled["evidence"][0]["nulls"][0]["estimate"]["name"] == "gibberish of equal ink"


def test_a_tower_without_a_head_is_the_mean_over_places(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = KINDS["dinov2"][0]().eval()
    images = coloured(1, side=32).images
    with torch.no_grad():
        wanted = net(images).last_hidden_state.mean(1)
    assert torch.allclose(look(net).embedding(images), wanted, atol=1e-5)


def test_a_tower_that_wants_more_than_pictures_is_refused() -> None:
    text, seen = {**TEXT, "projection_size": 32}, {**STACK, "num_patches": 16, "patch_size": 8}
    naflex = hf.Siglip2Model(hf.Siglip2Config(text_config=text, vision_config=seen))
    with pytest.raises(InputError, match="takes pixel_values, pixel_attention_mask, spatial_shapes"):
        look(naflex, side=32)
