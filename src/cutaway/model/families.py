"""The families that the model layer is held to, each as a tiny random model, and the table of their points.

`python -m cutaway.model.families` prints the table that stands in docs/families.md; `--write docs/families.md` puts it
there. `tiny("gemma2")` gives the Hugging Face module, to try a method on a family without its weights.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core import InputError, UnknownName

if TYPE_CHECKING:
    from cutaway.model.model import Model

VOCABULARY = 101
START, END = "<!-- made by: python -m cutaway.model.families --write docs/families.md -->", "<!-- end -->"

_ROTARY: dict[str, Any] = {
    "num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 3,
    "intermediate_size": 80, "max_position_embeddings": 64, "vocab_size": VOCABULARY,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
_PLAIN = {k: v for k, v in _ROTARY.items() if k != "num_key_value_heads"}
_GEMMA = dict(_ROTARY, head_dim=10, num_hidden_layers=4, sliding_window=4, query_pre_attn_scalar=17)
_GPT: dict[str, Any] = {
    "n_layer": 3, "n_embd": 48, "n_head": 6, "n_positions": 64, "vocab_size": VOCABULARY,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_FALCON: dict[str, Any] = {
    "num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 6, "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
}  # fmt: skip
_BERT = dict(_PLAIN, max_position_embeddings=66, pad_token_id=1)
_T5: dict[str, Any] = {
    "d_model": 48, "num_layers": 3, "num_heads": 6, "d_kv": 10, "d_ff": 80, "vocab_size": VOCABULARY,
    "decoder_start_token_id": 0,
}  # fmt: skip
_IMAGE: dict[str, Any] = {
    "num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 6, "intermediate_size": 80,
    "image_size": 16, "patch_size": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A family and the settings of its tiny model. `model` "" is AutoModelForCausalLM."""

    title: str
    config: str
    settings: dict[str, Any]
    model: str = ""


CAUSAL: dict[str, Family] = {
    "gpt2": Family("GPT-2", "GPT2Config", _GPT),
    "llama": Family("Llama (1-3), SmolLM", "LlamaConfig", _ROTARY),
    "gpt_neox": Family("GPT-NeoX, Pythia (parallel)", "GPTNeoXConfig", _PLAIN),
    "gemma2": Family(
        "Gemma 2", "Gemma2Config", dict(_GEMMA, attn_logit_softcapping=2.0, final_logit_softcapping=3.0)
    ),
    "qwen3": Family("Qwen 3", "Qwen3Config", dict(_ROTARY, head_dim=10)),
    "mistral": Family("Mistral (sliding window)", "MistralConfig", dict(_ROTARY, sliding_window=4)),
    "phi": Family("Phi (1-2)", "PhiConfig", _ROTARY),
    "opt": Family(
        "OPT", "OPTConfig",
        {"num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 6, "ffn_dim": 80,
         "max_position_embeddings": 64, "word_embed_proj_dim": 48, "vocab_size": VOCABULARY},
    ),
    "falcon": Family(
        "Falcon, new decoder", "FalconConfig", dict(_FALCON, num_kv_heads=3, new_decoder_architecture=True)
    ),
    "gemma3": Family("Gemma 3 (text)", "Gemma3TextConfig", _GEMMA),
    "granite": Family(
        "Granite", "GraniteConfig", dict(_ROTARY, residual_multiplier=0.3, logits_scaling=2.0, embedding_multiplier=3.0)
    ),
    "olmo2": Family("OLMo 2", "Olmo2Config", _ROTARY),
    "phi3": Family("Phi 3", "Phi3Config", _ROTARY),
    "bloom": Family("BLOOM (ALiBi)", "BloomConfig", {"n_layer": 3, "hidden_size": 48, "n_head": 6,
                                                     "vocab_size": VOCABULARY}),
    "qwen3_moe": Family(
        "Qwen 3 MoE", "Qwen3MoeConfig",
        dict(_ROTARY, head_dim=10, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2),
    ),
    "gpt_neo": Family(
        "GPT-Neo (local attention)", "GPTNeoConfig",
        {"num_layers": 4, "hidden_size": 48, "num_heads": 6, "intermediate_size": 80, "max_position_embeddings": 64,
         "window_size": 4, "vocab_size": VOCABULARY, "attention_types": [[["global", "local"], 2]],
         "bos_token_id": 1, "eos_token_id": 2},
    ),
    "gpt_neox_sequential": Family("GPT-NeoX (sequential)", "GPTNeoXConfig", dict(_PLAIN, use_parallel_residual=False)),
    "gptj": Family("GPT-J", "GPTJConfig", dict(_GPT, rotary_dim=4)),
    "mixtral": Family("Mixtral", "MixtralConfig", dict(_ROTARY, num_local_experts=4, num_experts_per_tok=2)),
    "qwen2": Family("Qwen 2, 2.5", "Qwen2Config", _ROTARY),
    "gemma": Family("Gemma", "GemmaConfig", dict(_ROTARY, head_dim=10)),
    "falcon_old": Family("Falcon, old decoder (multi-query)", "FalconConfig", dict(_FALCON, multi_query=True)),
    "falcon_alibi": Family(
        "Falcon RW (ALiBi, sequential)", "FalconConfig",
        dict(_FALCON, multi_query=False, parallel_attn=False, alibi=True, bias=True),
    ),
    "stablelm": Family("StableLM", "StableLmConfig", _ROTARY),
    "stablelm_parallel": Family(
        "StableLM (parallel, query norms)", "StableLmConfig",
        dict(_ROTARY, use_parallel_residual=True, qk_layernorm=True),
    ),
    "smollm3": Family("SmolLM3", "SmolLM3Config", _ROTARY),
}  # fmt: skip

OTHERS: dict[str, Family] = {
    "bert": Family("BERT", "BertConfig", _BERT, "BertForMaskedLM"),
    "roberta": Family("RoBERTa", "RobertaConfig", _BERT, "RobertaForMaskedLM"),
    "electra": Family("ELECTRA", "ElectraConfig", dict(_BERT, embedding_size=48), "ElectraForMaskedLM"),
    "distilbert": Family(
        "DistilBERT", "DistilBertConfig",
        {"dim": 48, "n_layers": 3, "n_heads": 6, "hidden_dim": 80, "vocab_size": VOCABULARY,
         "max_position_embeddings": 64},
        "DistilBertForMaskedLM",
    ),
    "t5_encoder": Family("T5, its encoder", "T5Config", _T5, "T5EncoderModel"),
    "t5": Family("T5, its decoder", "T5Config", _T5, "T5ForConditionalGeneration"),
    "t5_gated": Family(
        "T5 v1.1, Flan-T5, its decoder", "T5Config",
        dict(_T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False), "T5ForConditionalGeneration",
    ),
    "clip_text": Family("CLIP, text tower", "CLIPTextConfig", _PLAIN, "CLIPTextModel"),
    "clip_vision": Family("CLIP, vision tower", "CLIPVisionConfig", _IMAGE, "CLIPVisionModel"),
    "siglip_vision": Family("SigLIP, vision tower", "SiglipVisionConfig", _IMAGE, "SiglipVisionModel"),
    "vit": Family("ViT", "ViTConfig", _IMAGE, "ViTForImageClassification"),
    "dinov2": Family(
        "DINOv2", "Dinov2Config", dict(_IMAGE, mlp_ratio=2, layerscale_value=0.7), "Dinov2Model"
    ),
    "dinov3": Family(
        "DINOv3 (gated)", "DINOv3ViTConfig", dict(_IMAGE, use_gated_mlp=True, layerscale_value=0.7), "DINOv3ViTModel"
    ),
    "siglip_text": Family("SigLIP, text tower", "SiglipTextConfig", _PLAIN, "SiglipTextModel"),
}  # fmt: skip

ALL = CAUSAL | OTHERS


def tiny(family: str, **changes: Any) -> Any:
    """A fresh random Hugging Face module of a family, weights from a seed of its own and large enough that every part
    matters. `changes` go to its config. Raises UnknownName."""
    import torch
    import transformers

    if family not in ALL:
        raise UnknownName("family", family, ALL)
    row = ALL[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sum(map(ord, family)))
        config = getattr(transformers, row.config)(**{**row.settings, **changes})
        make = getattr(transformers, row.model) if row.model else transformers.AutoModelForCausalLM.from_config
        hf = make(config)
        with torch.no_grad():
            for parameter in hf.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.12)
    return hf.eval()


# ---- the table


def table(models: dict[str, Model]) -> str:
    """Markdown: the points that every family has, a row for each family with the others, and why one is lacking."""
    from cutaway.model.points import POINTS, READ_ONLY

    have = {family: {address.split(".")[0] for address in model.points()} for family, model in models.items()}
    common = [name for name in POINTS if all(name in names for names in have.values())]
    rest = [name for name in POINTS if name not in common and any(name in names for names in have.values())]
    lines = [
        f"Every one of the {len(models)} has: " + ", ".join(f"`{name}`" for name in common) + ".",
        "",
        f"The others, by the number at the head of their column ({', '.join(READ_ONLY[:2])} can be read, not written):",
        "",
        ", ".join(f"{number} `{name}`" for number, name in enumerate(rest, 1)) + ".",
        "",
        "| family | positions | heads (k/v) | " + " | ".join(str(n) for n, _ in enumerate(rest, 1)) + " |",
        "|---|---|---|" + "---|" * len(rest),
    ]
    for family, model in models.items():
        facts = model.facts
        heads = str(facts.n_heads) if facts.n_kv_heads == facts.n_heads else f"{facts.n_heads} ({facts.n_kv_heads})"
        cells = " | ".join("✓" if name in have[family] else "·" for name in rest)
        lines.append(f"| {ALL[family].title} | {facts.positions} | {heads} | {cells} |")
    lines += [
        "",
        "Why a point is lacking, as `model.refuses(point)` says it:",
        "",
        "| point | reason | families |",
        "|---|---|---|",
    ]
    rows: dict[tuple[str, str], list[str]] = {}  # (reason, families) -> points
    for name in rest:
        reasons: dict[str, list[str]] = {}
        for family, model in models.items():
            if name not in have[family]:
                reasons.setdefault(_plain(_reason(model, name), model), []).append(ALL[family].title)
        most = max(reasons, key=lambda reason: len(reasons[reason]))
        for reason, titles in reasons.items():
            shown = "the rest" if reason == most and len(titles) > 8 else "; ".join(titles)
            rows.setdefault((reason, shown), []).append(f"`{name}`")
    lines += [f"| {', '.join(points)} | {reason} | {shown} |" for (reason, shown), points in rows.items()]
    return "\n".join(lines)


def _reason(model: Model, name: str) -> str:
    refused = model.contract.refused
    return refused.get(name) or next(refused[address] for address in refused if address.split(".")[0] == name)


_SAME = {  # how one thing is said below, whoever refused
    "this architecture does not normalize its queries and keys": "the family norms neither queries nor keys",
    "this checkpoint is dense": "the family is dense: no experts",
    "MLP is not gated": "the MLP is not gated: it has one branch, whose pre-activation is mlp_pre",
    "is a sparse MoE block": "the layer routes to experts, each with neurons of its own: no one tensor holds them",
    "in parallel on the same input": "attention and MLP both read resid_pre: there is no stream between them",
}


def _plain(reason: str, model: Model) -> str:
    """A reason without the names of one family, so that equal ones fall together."""
    text = next((same for part, same in _SAME.items() if part in reason), reason)
    text = text.replace(model.facts.architecture, "the family").replace(model.facts.family, "the family")
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def names_table() -> str:
    """Markdown: other frameworks' names and what they stand for here."""
    from cutaway.model.names import NAMES, REFUSED

    lines = ["| name | of | here | refused on |", "|---|---|---|---|"]
    for name in NAMES:
        form = name.form.replace("{}", "i")
        lines.append(f"| `{form}` | {', '.join(name.frameworks)} | `{name.point}` | {name.note} |")
    lines += ["", "Never accepted:", "", "| name | why |", "|---|---|"]
    lines += [f"| `blocks.i.{suffix}` | {why.replace('{}', 'i')} |" for suffix, why in REFUSED.items()]
    return "\n".join(lines)


def section() -> str:
    """The generated part of docs/families.md. Builds and loads every tiny model: about 2 s."""
    from cutaway.model.load import load

    models = {family: load(tiny(family)) for family in ALL}
    return f"{START}\n\n{table(models)}\n\n## Names of other frameworks\n\n{names_table()}\n\n{END}"


def written(page: str) -> str:
    """The generated part as it stands in a page. Raises InputError where the page has none."""
    if START not in page or END not in page:
        raise InputError(f"the page lacks the lines {START!r} and {END!r}, between which the table goes.")
    return page[page.index(START) : page.index(END) + len(END)]


def main(arguments: list[str]) -> None:
    made = section()
    if arguments[:1] == ["--write"] and len(arguments) == 2:
        path = Path(arguments[1])
        page = path.read_text(encoding="utf-8")
        path.write_text(page.replace(written(page), made), encoding="utf-8")
        print(f"{path}: the tables are written.")
    elif arguments:
        raise SystemExit("usage: python -m cutaway.model.families [--write docs/families.md]")
    else:
        print(made)


if __name__ == "__main__":
    main(sys.argv[1:])
