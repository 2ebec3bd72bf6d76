"""Whatever is wrong with what a verb is given: one clear message, exit status 2 (or 1 for a failure), no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import cutaway
from cutaway.cli import run

SHIPPED = Path(cutaway.__file__).parent / "organisms/shipped/almanac"
PROMPT = "the capital of the state containing Dallas is"


def _copy(folder: Path) -> Path:
    shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("checkpoints", "*.md"))
    return folder


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models and files, each broken in its own way."""
    from transformers import LlamaConfig, LlamaForCausalLM

    root = tmp_path_factory.mktemp("broken")
    (root / "empty").mkdir()
    weights = _copy(root / "cut") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    (_copy(root / "garbage") / "model.safetensors").write_bytes(b"\x00" * 100)
    weights = _copy(root / "nan") / "model.safetensors"
    tensors = {name: x.float() for name, x in load_file(weights).items()}
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    (_copy(root / "tokenizer") / "tokenizer.json").write_text("{not json")
    (_copy(root / "config") / "config.json").write_text("{")
    (_copy(root / "untyped") / "config.json").write_text("{}")
    config = _copy(root / "oddhead") / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "head_dim": 7}))
    for file in _copy(root / "mute").glob("*token*"):
        file.unlink()
    tokenizer = _copy(root / "larger") / "tokenizer.json"  # one of more words than the model has
    body = json.loads(tokenizer.read_text())
    body["added_tokens"] += [
        {**body["added_tokens"][0], "id": 900_000 + i, "content": f"<more{i}>"} for i in range(5000)
    ]
    tokenizer.write_text(json.dumps(body))
    size = json.loads((SHIPPED / "config.json").read_text())["vocab_size"]
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": size}
    LlamaForCausalLM(LlamaConfig(**shape, num_hidden_layers=0, bos_token_id=1, eos_token_id=2)).save_pretrained(
        root / "flat"
    )
    short = LlamaConfig(**shape, num_hidden_layers=1, max_position_embeddings=3, bos_token_id=1, eos_token_id=2)
    LlamaForCausalLM(short).save_pretrained(root / "short")
    for name in ("flat", "short"):
        for file in SHIPPED.glob("*token*"):
            shutil.copy(file, root / name)
    (root / "pickle").mkdir()
    torch.save({"a": torch.ones(2)}, root / "pickle/pytorch_model.bin")
    shutil.copy(SHIPPED / "config.json", root / "pickle")
    torch.save({"a": torch.ones(2)}, root / "w.pt")
    for suffix, text in {
        "txt": "caf\xe9\n",
        "csv": "text,label\ncaf\xe9,1\n",
        "jsonl": '{"text": "caf\xe9", "label": 1}\n',
    }.items():
        (root / f"latin.{suffix}").write_bytes(text.encode("latin-1"))
    (root / "columns.csv").write_text("a,b\n1,2\n")
    (root / "columns.jsonl").write_text('{"a": 1}\n')
    (root / "header.csv").write_text("text,label\n")
    (root / "one.csv").write_text("text,label\nhello,1\nbye,1\n")
    (root / "brace.jsonl").write_text("{\n")
    (root / "nothing.txt").write_text("")
    (root / "nothing.csv").write_text("")
    (root / "prompts.txt").write_text("Mary and John went to the park\nTom and Lily went home\n")
    (root / "file").write_text("x")
    (root / "mine").mkdir()
    (root / "mine/thesis.txt").write_text("years of work")
    (root / "net.py").write_text(
        "import torch\n"
        "def bare(): return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())\n"
        "def three(): return 1, 2, 3\n"
        "def fails(): raise ValueError('no weights today')\n"
    )
    return root


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one message of a refusal."""
    status = run(arguments)
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if line.startswith("cutaway: ") and "cutaway: warning" not in line]
    assert status in (1, 2), (status, err)
    assert len(said) == 1, err
    assert "Traceback" not in err
    assert "Error: " not in said[0][:60], said[0]  # the name of an exception is no message
    assert out == ""
    return said[0]


MODELS = {
    "missing": "no folder", "empty": "is no model", "cut": "cannot be loaded", "garbage": "cannot be loaded",
    "nan": "NaN", "tokenizer": "no tokenizer that can be read", "config": "cannot be read as JSON",
    "untyped": "no model_type", "oddhead": "cannot be loaded|lacks weights|size", "pickle": "as a pickle",
    "w.pt": "is a file", "larger": "another model's tokenizer", "net.py:three": "gives tuple",
    "net.py:fails": "no weights today", "net.py:thre": "the nearest: three", "nett.py:three": "no file",
}  # fmt: skip
VERBS = {
    "trace": ["trace", PROMPT, "--quick", "-m"],
    "lens": ["lens", PROMPT, "--quick", "-m"],
    "heads": ["heads", "--quick", "-m"],
    "sweep": ["sweep", "ioi", "--n", "4", "--quick", "-m"],
    "steer": ["steer", "--from", "{}/prompts.txt", "--to", "{}/prompts.txt", "-m"],
    "circuit": ["circuit", "ioi", "--n", "4", "--quick", "-m"],
    "tasks": ["tasks", "ioi", "-m"],
    "dictionary train": ["dictionary", "train", "--text", "{}/prompts.txt", "--out", "{}/new", "-m"],
    "dictionary evaluate": ["dictionary", "evaluate", "clt", "-m"],
    "repair": ["repair", "ioi", "--n", "8", "-m"],
    "patchscope": ["patchscope", PROMPT, "-m"],
    "models": ["models"],
    "state": ["state", "othello", "--n", "12", "--quick", "-m"],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("model", MODELS)
def test_a_broken_model(verb, model, broken, capsys):
    import re

    arguments = [part.format(broken) for part in VERBS[verb]]
    assert re.search(MODELS[model], refused([*arguments, str(broken / model)], capsys))


@pytest.mark.parametrize("verb", ["trace", "lens", "heads", "sweep"])
@pytest.mark.parametrize(("model", "message"), [("flat", "layers"), ("net.py:bare", "")])
def test_a_model_without_layers_or_text(verb, model, message, broken, capsys):
    extra = ["-d", "neurons"] if verb == "trace" else []
    arguments = [part.format(broken) for part in VERBS[verb]]
    assert message in refused([*arguments, str(broken / model), *extra], capsys)


@pytest.mark.parametrize("verb", ["trace", "lens", "sweep", "circuit", "tasks"])
def test_a_model_without_a_tokenizer(verb, broken, capsys):
    extra = ["-d", "neurons"] if verb == "trace" else []
    assert "no tokenizer" in refused([*VERBS[verb], str(broken / "mute"), *extra], capsys)


CASES = {
    # prompts
    "trace ''": "empty",
    "lens ''": "empty",
    "lens": "give a prompt",
    "trace": "prompt",
    "trace 'LONG' --quick": "at most",
    "lens 'LONG'": "at most",
    "lens 'Mary and John went' -m {}/short": "at most",
    "lens PROMPT --answer qqqzz": "qqqzz",
    "trace PROMPT --target qqqzz": "qqqzz",
    "trace PROMPT --contrast qqqzz is": "qqqzz",
    "trace PROMPT --target a --contrast a b": "exclude each other",
    # points, tasks, choices
    "lens PROMPT --at resid_pst.*": "resid_post",
    "sweep ioi --at nope.*": "nope",
    "sweep ioi --at resid_pre.99": "no layer 99",
    "sweep ioi --each banana": "banana",
    "sweep ioi --how banana": "banana",
    "sweep ioi --metric banana": "banana",
    "sweep ioi --positions banana": "banana",
    "sweep ioi --positions 99": "99",
    "sweep ioi --memory lots": "lots",
    "sweep ioi --n 0": "",
    "sweep nope": "no task",
    "circuit nope": "no .*task",
    "tasks nope": "no task",
    "lens --task nope": "no task",
    "sweep": "name a task",
    "circuit ioi --method banana": "banana",
    "circuit ioi --ablation banana": "banana",
    "circuit ioi -c banana": "banana",
    "heads --circuit banana --tokens-of a": "OV:2.1",
    "heads --circuit OV:9.9 --tokens-of Mary": "9",
    "heads --tokens 9999": "9999|context|long",
    "sweep --clean 'Mary and John went' --answer qqqzz": "qqqzz",
    "sweep --clean 'Mary' --counterfactual 'Mary and' --answer park": "",
    "steer --from {}/prompts.txt": "--to",
    "steer --from {}/prompts.txt --to {}/prompts.txt --strengths x": "numbers",
    # files
    **{
        f"sweep {{}}/{f}": m
        for f, m in {
            "columns.csv": "no column",
            "nothing.csv": "no rows",
            "header.csv": "no rows|no column",
            "latin.csv": "UTF-8",
            "missing.csv": "no file",
            "columns.jsonl": "",
            "latin.jsonl": "UTF-8",
            "brace.jsonl": "no JSON",
            "w.pt": "",
        }.items()
    },
    **{
        f"circuit {{}}/{f}": m
        for f, m in {
            "columns.csv": "no column",
            "latin.csv": "UTF-8",
            "missing.csv": "no file",
            "latin.jsonl": "UTF-8",
            "brace.jsonl": "no JSON",
        }.items()
    },
    **{
        f"tasks {{}}/{f} -m almanac": m
        for f, m in {
            "columns.csv": "no column",
            "latin.csv": "UTF-8",
            "missing.csv": "no file",
            "brace.jsonl": "no JSON",
        }.items()
    },
    **{
        f"probe {{}}/{f}": m
        for f, m in {
            "columns.csv": "column",
            "nothing.csv": "",
            "header.csv": "",
            "one.csv": "one class",
            "latin.csv": "UTF-8",
            "missing.csv": "no file",
            "columns.jsonl": "",
            "latin.jsonl": "UTF-8",
            "brace.jsonl": "JSON",
            "w.pt": "",
            "mine": "",
        }.items()
    },
    **{
        f"steer --from {{}}/{f} --to {{}}/prompts.txt": m
        for f, m in {
            "latin.txt": "UTF-8",
            "missing.txt": "no file",
            "nothing.txt": "no prompt",
            "columns.csv": "prompt",
            "brace.jsonl": "JSON",
            "w.pt": "UTF-8",
        }.items()
    },
    "probe {}/one.csv --k x": "whole numbers",
    "probe {}/one.csv --where banana": "banana",
    # dictionaries and lenses
    "trace PROMPT -d {}/empty": "",
    "trace PROMPT -d nope": "nope",
    "trace PROMPT -d {}/w.pt": "",
    "dictionary evaluate nope -m almanac": "nope",
    "dictionary evaluate {}/empty -m almanac": "",
    "dictionary convert {}/missing {}/new": "",
    "dictionary train -m almanac --text {}/latin.txt --out {}/new": "UTF-8",
    "dictionary train -m almanac --text {}/nothing.txt --out {}/new": "",
    "lens PROMPT --tuned {}/empty": "no tuned lens",
    "lens PROMPT --tuned {}/missing": "no tuned lens",
    "lens --train-tuned {}/latin.txt --out {}/new": "UTF-8",
    "lens --train-tuned own --out {}/mine": "thesis.txt",
    # where to write
    "trace PROMPT --out {}/file": "is a file",
    "trace PROMPT --out {}/file/x": "cannot be made",
    "trace PROMPT --out {}/mine": "not empty",
    "lens PROMPT --out {}/file/x": "cannot be made",
    "heads --out {}/mine": "not empty",
    "sweep ioi --out {}/mine": "thesis.txt",
    "sweep ioi --out {}/file/x": "cannot be made",
    "organism train almanac --out {}/mine": "thesis.txt",
    "toy rasp reverse --out {}/file": "is a file",
    "toy rasp reverse --out {}/mine": "",
    "view {}/missing --html {}/v.html": "",
    "view {}/empty --html {}/v.html": "",
    # states and heads
    "repair nope": "no .*task",
    "repair {}/latin.csv": "UTF-8",
    "repair ioi --n 3": "8",
    "patchscope": "one way",
    "patchscope PROMPT --at z.0": "residual stream",
    "patchscope PROMPT --into resid_post.*": "one point",
    "patchscope PROMPT --position 99": "99",
    "patchscope --from {}/latin.txt": "UTF-8",
    "function-vector {}/columns.csv": "holds no pairs",
    "function-vector {}/latin.csv": "UTF-8",
    "function-vector {}/brace.jsonl": "JSON",
    "function-vector {}/missing.csv": "no file",
    # a world's state
    "state nope": "no world",
    "state {}/latin.csv": ".npz",
    "state {}/missing.npz": "--model",
    "state {}/missing.npz -m almanac": "no file",
    "state othello -m almanac": "37",
    "state othello --side left": "mover",
    "state othello --at z.0 --n 12": "residual stream",
    "state othello --at mlp_out.0 --n 12": "residual stream",
    # pictures
    "neurons nope": "no vision model",
    "neurons almanac": "no vision tower",
    "neurons {}/empty": "lacks config.json",
    "neurons primer --n 0": "--n",
    "neurons primer --side 0": "--side",
    "neurons primer --cards 2": "--out",
    "neurons primer --pictures {}/mine": "no pictures",
    "neurons primer -m primer": "not both",
    "neurons {}/net.py:bare": "--side",
    "attack primer --sizes x": "numbers with commas",
    "attack primer --sizes -4": "pixels",
    "attack primer --names '' --n 8": "names nothing",
    "visualise primer": "--unit",
    "visualise primer --unit -1": "--unit",
    "visualise primer --unit 9999 --steps 1 --quick": "no unit 9999",
    "visualise primer --direction {}/w.pt": "no safetensors file",
    "visualise primer --direction {}/missing": "no file",
    "visualise primer --method banana": "fourier",
    # algorithms, training, text
    "align nope": "no case",
    "align {}/net.py": "causal_model",
    "align two-hop -m {}/empty": "is no model",
    "develop nope": "no checkpoints",
    "develop {}/empty": "checkpoints",
    "develop almanac --measure nope": "no measure",
    "develop grokking --checkpoints {}/empty": "recipe.json",
    "classify topik": "topics",
    "classify topics -m {}/mute": "no tokenizer",
    "classify {}/one.csv": "one class",
    "classify {}/latin.csv": "UTF-8",
    "dictionary arms -m almanac -a banana": "banana",
    "dictionary train -m almanac --at resid_post.1 --l0 99 --features 16 --out {}/new": "of 16 in all",
    "dictionary train -m almanac --threads -4": "--threads",
    "dictionary search {}/empty x": "describe",
    "organism measure almanac --n 0": "--n",
    "organism ship {}/empty --out {}/new": "no finished run",
    "exercise nope": "no exercise",
    # numbers
    "lens PROMPT --top 999999 --quick": "from 1 to 1873",
    "sweep ioi --seed -1": "--seed",
    "trace PROMPT --seed -1": "--seed",
    "toy pentagon --set seed=-1": "seed",
    "view {}/empty --port 99999": "",
    # the command itself
    "nope": "No such command",
    "lens PROMPT --banana": "banana",
    "lens PROMPT --seed x": "integer",
    "exam nope": "nope",
    "toy nope": "nope",
    "toy rasp nope": "nope",
    "organism train nope --out {}/new": "nope",
    "models nope": "nope",
}


@pytest.mark.parametrize("command", CASES)
def test_one_clear_message(command, broken, capsys):
    import re
    import shlex

    words = {"PROMPT": PROMPT, "LONG": "the " * 3000}
    arguments = [words.get(part, part.format(broken)) for part in shlex.split(command)]
    assert re.search(CASES[command], refused(arguments, capsys))
    assert (broken / "mine/thesis.txt").read_text() == "years of work"
    assert (broken / "file").read_text() == "x"


@pytest.mark.parametrize(
    "command",
    [
        "trace '' --json",
        "lens PROMPT --answer qqqzz --json",
        "sweep nope --json",
        "probe {}/latin.csv --json",
        "heads --circuit banana --tokens-of a --json",
        "circuit nope --json",
        "models nope --json",
    ],
)
def test_with_json_an_error_prints_no_object(command, broken, capsys):
    import shlex

    refused([PROMPT if part == "PROMPT" else part.format(broken) for part in shlex.split(command)], capsys)
