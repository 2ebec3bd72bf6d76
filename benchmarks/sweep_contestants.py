"""What the contestants of sweep.py run, each in a process of its own: asked for cells, they give back values."""

from __future__ import annotations

COMMON = r"""
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import torch
from transformers import GPT2LMHeadModel
case, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
torch.set_grad_enabled(False)
def load(name):
    global clean, corrupted, answers, wrong, rows
    data = torch.load(f"{case}/{name}.pt", weights_only=True)
    clean, corrupted, answers, wrong = data["clean"], data["corrupted"], data["answers"], data["wrong"]
    rows = torch.arange(len(clean))
def metric(logits):
    return (logits[rows, -1, answers] - logits[rows, -1, wrong]).mean()
def serve(heads, residual, prepare=lambda: None):
    print(json.dumps({"ready": True}), flush=True)
    loaded = None
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["pairs"] != loaded:
            loaded = asked["pairs"]
            load(loaded)
            prepare()
        begun, cpu = time.perf_counter(), time.process_time()
        values = (heads if asked["kind"] == "heads" else residual)(asked["cells"])
        took = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
        print(json.dumps({**took, "values": values}), flush=True)
"""

TRANSFORMER_LENS = (
    COMMON
    + r"""
import pandas as pd
from transformer_lens import patching
from transformer_lens.model_bridge.sources.transformers import boot
hf = GPT2LMHeadModel.from_pretrained(case + "/model", attn_implementation="eager").eval()
model = boot(case + "/model", hf_model=hf)
model.eval()
def prepare():
    global cache
    _, cache = model.run_with_cache(clean)
def cells(kind, names, asked):
    df = pd.DataFrame(asked, columns=names)
    return kind(model, corrupted, cache, metric, index_df=df, index_axis_names=None).flatten().tolist()
serve(lambda asked: cells(patching.get_act_patch_attn_head_out_by_pos, ["layer", "pos", "head"],
                          [[l, p, h] for l, h, p in asked]),
      lambda asked: cells(patching.get_act_patch_resid_pre, ["layer", "pos"], asked), prepare)
"""
)

NNSIGHT = (
    COMMON
    + r"""
from nnsight import NNsight
hf = GPT2LMHeadModel.from_pretrained(case + "/model").eval()
model = NNsight(hf)
held = {}
def keep(name):
    def hook(module, args):
        held[name] = args[0].detach().clone()
    return hook
def prepare():
    handles = [block.attn.c_proj.register_forward_pre_hook(keep(("z", i))) for i, block in enumerate(hf.transformer.h)]
    handles += [block.register_forward_pre_hook(keep(("resid", i))) for i, block in enumerate(hf.transformer.h)]
    hf(clean)
    for handle in handles:
        handle.remove()
d = hf.config.n_embd // hf.config.n_head
def heads(asked):
    values = []
    for layer, head, position in asked:
        with model.trace(corrupted):
            block = model.transformer.h[layer]
            part = slice(head * d, (head + 1) * d)
            block.attn.c_proj.input[:, position, part] = held["z", layer][:, position, part]
            logits = model.lm_head.output.save()
        values.append(float(metric(logits)))
    return values
def residual(asked):
    values = []
    for layer, position in asked:
        with model.trace(corrupted):
            model.transformer.h[layer].input[:, position] = held["resid", layer][:, position]
            logits = model.lm_head.output.save()
        values.append(float(metric(logits)))
    return values
serve(heads, residual, prepare)
"""
)

PYVENE = (
    COMMON
    + r"""
import pyvene as pv
hf = GPT2LMHeadModel.from_pretrained(case + "/model").eval()
def patched(layer, component, unit, places):
    config = pv.IntervenableConfig([{"layer": layer, "component": component, "unit": unit, "max_number_of_units": 1,
                                     "intervention_type": pv.VanillaIntervention}])
    model = pv.IntervenableModel(config, model=hf)
    _, output = model({"input_ids": corrupted}, [{"input_ids": clean}], {"sources->base": (places, places)})
    return float(metric(output.logits))
def heads(asked):
    n = len(clean)
    return [patched(l, "head_attention_value_output", "h.pos", [[[[h]] * n, [[p]] * n]]) for l, h, p in asked]
def residual(asked):
    return [patched(l, "block_input", "pos", [[[p]] * len(clean)]) for l, p in asked]
serve(heads, residual)
"""
)

LOOP = (
    COMMON
    + r"""
batch = int(sys.argv[3])
hf = GPT2LMHeadModel.from_pretrained(case + "/model").eval()
d = hf.config.n_embd // hf.config.n_head
def clean_input(module):
    held = []
    handle = module.register_forward_pre_hook(lambda m, args: held.append(args[0].clone()))
    hf(clean, use_cache=False)
    handle.remove()
    return held[0]
def sweep(asked, module_of, part):
    n = len(clean)
    values = [0.0] * len(asked)
    layers = {}
    for number, cell in enumerate(asked):
        layers.setdefault(cell[0], []).append((number, cell))
    for layer, cells in layers.items():
        module = module_of(layer)
        source = clean_input(module)
        for at in range(0, len(cells), batch):
            some = cells[at : at + batch]
            def patch(m, args):
                x = args[0].clone()
                for i, (_, cell) in enumerate(some):
                    place = part(cell)
                    x[i * n : (i + 1) * n][(slice(None), *place)] = source[(slice(None), *place)]
                return (x, *args[1:])
            handle = module.register_forward_pre_hook(patch)
            logits = hf(corrupted.repeat(len(some), 1), use_cache=False).logits
            handle.remove()
            for i, (number, _) in enumerate(some):
                values[number] = float(metric(logits[i * n : (i + 1) * n]))
    return values
serve(lambda asked: sweep(asked, lambda l: hf.transformer.h[l].attn.c_proj,
                          lambda c: (c[2], slice(c[1] * d, (c[1] + 1) * d))),
      lambda asked: sweep(asked, lambda l: hf.transformer.h[l], lambda c: (c[1],)))
"""
)

OURS = (
    COMMON
    + r"""
import cutaway as cw
model = cw.load(case + "/model")
model.kernels.on = sys.argv[3] == "ours"
def run(at, each):
    pairs = cw.pairs(model, clean, corrupted, answers, wrong)
    swept = cw.sweep(model, pairs, at=at, each=each, how="denoise", null=None, progress=False)
    print(swept.plan, file=sys.stderr)
    return swept.values.mean(-1)
def heads(asked):
    values = run("z.*", ("head", "position"))
    return [float(values[tuple(cell)]) for cell in asked]
def residual(asked):
    values = run("resid_pre.*", ("position",))
    return [float(values[tuple(cell)]) for cell in asked]
serve(heads, residual)
"""
)
