"""Generating with a cache is running the whole text: same logits, same tokens, same changes at the same positions."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from model.families import close, ids, shared_data
from model.five import FIVE, Sparse, five

import cutaway.model as cw
from cutaway.core import InputError
from cutaway.model.families import CAUSAL, tiny

ROWS = [[5, 6, 7, 8, 9], [10, 11, 17], [12, 13, 14, 15]]
V = torch.randn(48, generator=torch.Generator().manual_seed(1))
D = Sparse()


def _changes(m: cw.Model) -> dict[str, list[cw.Intervention]]:
    z = m.run(ids(3, 14, seed=5), read=["z.1"])
    width = z["z.1"].shape[-1]
    return {
        "none": [],
        "steer": [cw.add("resid_post.0", V)],
        "head": [cw.zero("z.1", head=2), cw.scale("q.1", 1.5, head=0), cw.add("attn_out.2", V)],
        "cached": [cw.add("value.1", torch.ones(width), kv_head=0), cw.scale("k.1", 0.5), cw.scale("k_rot.0", 2.0)],
        "mean": [cw.mean("z.1", over=z, head=1)],
        "pattern": [cw.knock_out("attn_probs.1", head=3, key=0, query=slice(1, None))],
        "scores": [cw.scale("attn_scores.1", 0.5, head=1)],
        "features": [cw.clamp_features("mlp_out.1", D, {3: 2.0})],
        "norms": [cw.scale("mlp_norm_scale.1", 1.25), cw.scale("final_norm", 0.9)],
        "subspace": [cw.project_out("resid_mid.1" if m.refuses("resid_mid.1") is None else "attn_out.1", V)],
        "logits": [cw.add("lm_head", torch.linspace(-1, 1, 101))],
    }


@pytest.mark.parametrize("family", FIVE)
@pytest.mark.parametrize("when", ["prompt", "new", "both"])
def test_a_cache_changes_nothing(family: str, when: Any) -> None:
    m = five(family)
    read = ["resid_post.1", "attn_probs.2", "attn_scores.1", "k_rot.1", "q_rot.1", "z.0", "final_norm", "embeddings"]
    for name, changes in _changes(m).items():
        if when != "both" and not changes:
            continue
        how: dict[str, Any] = {"when": when, "read": read, "stop": ()}
        cached = m.generate(ROWS, 6, changes, **how)
        again = m.generate(ROWS, 6, changes, cache=False, **how)
        assert cached.new_tokens == again.new_tokens, name
        assert close(cached.logits, again.logits, 2e-5), name
        own = cached.mask[:, :-1]
        for address in read:
            x, y = cached[address], again[address]
            if address.startswith("attn"):
                x, y = x.transpose(1, 2), y.transpose(1, 2)
            assert x.shape[:2] == own.shape
            assert close(x[own].clamp(min=-1e9), y[own].clamp(min=-1e9), 2e-5), (name, address)


@pytest.mark.parametrize("family", CAUSAL)
def test_every_family_that_generates_keeps_what_was_changed_in_its_cache(family: str) -> None:
    m = cw.load(tiny(family))
    changes = [
        cw.add("resid_post.0", V),
        cw.scale("k_rot.1", 1.5),
        cw.scale("value.1", 0.5, kv_head=0),
        cw.knock_out("attn_probs.1", head=1, key=0, query=slice(1, None)),
        cw.zero("z.1", head=2),
    ]
    changes = [change for change in changes if m.refuses(change.at) is None]
    cached, again = (m.generate(ROWS, 4, changes, stop=(), cache=c) for c in (True, False))
    assert close(cached.logits, again.logits, 2e-5)
    alone = m.generate(ROWS[1], 4, changes, stop=())
    assert close(alone.logits[0], cached.logits[1], 2e-5)


@pytest.mark.parametrize("family", FIVE)
def test_generating_is_running_the_text_with_changes_at_its_positions(family: str) -> None:
    """Against `model.run`, which knows nothing of generating."""
    m = five(family)
    for row, prompt in enumerate(ROWS):
        end = len(prompt)
        spans = {"prompt": range(end), "new": range(end, end + 5), "both": range(end + 5)}
        for when, span in spans.items():
            made = m.generate(ROWS, 6, [cw.add("resid_post.1", V)], when=when, read=["resid_post.1"], stop=())
            text = [*prompt, *made.new_tokens[row]]
            run = m.run(text[:-1], ["resid_post.1"], [cw.add("resid_post.1", V, positions=span)])
            assert close(made.logits[row], run.logits[0, end - 1 :], 2e-5)
            start = made.layout.starts[row]
            assert close(made["resid_post.1"][row, start:], run["resid_post.1"][0], 2e-5)
            assert made.new_tokens[row] == run.logits[0, end - 1 :].argmax(-1).tolist()


def test_a_row_of_a_batch_is_what_it_is_alone() -> None:
    m = five("gemma2")
    batch = m.generate(ROWS, 8, [cw.add("resid_post.1", V, positions=-1)], stop=())
    for row, prompt in enumerate(ROWS):
        alone = m.generate(prompt, 8, [cw.add("resid_post.1", V, positions=-1)], stop=())
        assert alone.new_tokens[0] == batch.new_tokens[row]
        assert close(alone.logits[0], batch.logits[row], 2e-5)
    right = m.generate(m.batch(ROWS, "right"), 4, stop=())
    assert right.new_tokens == m.generate(m.batch(ROWS, "left"), 4, stop=()).new_tokens


@pytest.mark.parametrize("family", FIVE)
def test_positions_count_the_text_and_negative_ones_the_prompt(family: str) -> None:
    m = five(family)

    def at(positions: Any, **how: Any) -> list[list[int]]:
        changed = m.generate(ROWS, 5, [cw.add("resid_post.1", V, positions=positions)], read=["resid_post.1"],
                             stop=(), **how)  # fmt: skip
        found = []
        for row, prompt in enumerate(ROWS):
            text = [*prompt, *changed.new_tokens[row][:-1]]
            plain = m.run(text, ["resid_post.1"])["resid_post.1"][0]
            moved = (changed["resid_post.1"][row, changed.layout.starts[row] :] - plain).abs().amax(-1) > 0.1
            found.append(moved.nonzero()[:, 0].tolist())
        return found

    assert at(-1) == [[4], [2], [3]]
    assert at(torch.tensor([6, 3, 0])) == [[6], [3], [0]]
    assert at([0, 5]) == [[0, 5], [0, 5], [0, 5]]
    assert at(slice(2, 4)) == [[2, 3], [2, 3], [2, 3]]
    assert at(slice(-1, None)) == [[4, 5, 6, 7, 8], [2, 3, 4, 5, 6], [3, 4, 5, 6, 7]]
    assert at(slice(3, None), when="new") == [[5, 6, 7, 8], [3, 4, 5, 6], [4, 5, 6, 7]]
    assert at([0, 5], when="prompt") == [[0], [0], [0]]


def test_each_intervention_its_own_time_and_a_report_of_what_fired_when() -> None:
    m = five("llama")
    changes = [
        cw.add("resid_post.0", V),
        cw.zero("z.1", head=1),
        cw.scale("mlp_out.2", 2.0),
        cw.scale("attn_out.2", 2.0, positions=[1, 6]),
    ]
    made = m.generate([5, 6, 7, 8], 5, changes, when=["prompt", "new", "both", "both"], stop=())
    assert [row.steps for row in made.fired.rows] == [(0,), (1, 2, 3, 4), (0, 1, 2, 3, 4), (0, 3)]
    assert [row.entries for row in made.fired.rows] == [4 * 48, 4 * 8, 8 * 48, 2 * 48]
    for part in ("prompt + new 1-4", "new 1-4", "prompt + new 3", "add resid_post.0", "1 row, 5 new tokens"):
        assert part in str(made)
    written = json.loads(json.dumps(made.to_json()))
    assert written["schema"] == "cutaway.generation/1"
    assert written["prompts"] == [[5, 6, 7, 8]]
    assert written["new_tokens"] == made.new_tokens
    assert [row["steps"] for row in written["fired"]] == [list(row.steps) for row in made.fired.rows]
    assert [item["when"] for item in written["interventions"]] == ["prompt", "new", "both", "both"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_patch_from_a_run_meets_the_texts_positions(family: str) -> None:
    m = five(family)
    source = m.run(ids(3, 9, seed=5), read=["resid_post.1"])
    prompts = ids(3, 4)
    made = m.generate(prompts, 4, [cw.patch("resid_post.1", source)], read=["resid_post.1"], stop=())
    assert close(made["resid_post.1"], source["resid_post.1"][:, :7])
    mapped = cw.patch("resid_post.1", source, positions={5: 0})
    made = m.generate(prompts, 4, [mapped], read=["resid_post.1"], stop=())
    assert close(made["resid_post.1"][:, 5], source["resid_post.1"][:, 0])
    tensor = cw.patch("resid_post.1", source["resid_post.1"])
    made = m.generate(prompts, 4, [tensor], read=["resid_post.1"], stop=())
    assert close(made["resid_post.1"], source["resid_post.1"][:, :7])
    with pytest.raises(InputError, match="has not the same tokens"):
        m.generate(prompts, 9, [cw.patch("resid_post.1", source)], stop=())
    with pytest.raises(InputError, match="has 9 positions and this text 10 by now"):
        m.generate(prompts, 9, [tensor], stop=())
    resampled = m.generate(prompts, 4, [cw.resample("resid_post.1", source, seed=1)], read=["resid_post.1"], stop=())
    again = m.run(resampled.tokens[:, :-1], ["resid_post.1"], [cw.resample("resid_post.1", source, seed=1)])
    assert close(resampled["resid_post.1"], again["resid_post.1"])


def test_a_mask_is_of_the_prompts_tokens() -> None:
    m = five("llama")
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[0, 1] = mask[1, 2] = mask[2, 0] = True
    by_mask = m.generate(ROWS, 3, [cw.add("resid_post.1", V, mask=mask)], stop=())
    by_rows = m.generate(ROWS, 3, [cw.add("resid_post.1", V, positions=torch.tensor([1, 2, 0]))], stop=())
    assert torch.equal(by_mask.logits, by_rows.logits)
    with pytest.raises(InputError, match=r"\[3, 5\]; given \[3, 4\]"):
        m.generate(ROWS, 3, [cw.add("resid_post.1", V, mask=mask[:, :4])])
    with pytest.raises(InputError, match="not both"):
        m.generate(ROWS, 3, [cw.add("resid_post.1", V, mask=mask, positions=0)])


def test_drawn_tokens_follow_their_seed_and_their_temperature() -> None:
    m = five("llama")
    one, same, other = (m.generate(ROWS, 12, temperature=1.0, seed=s, stop=()).new_tokens for s in (3, 3, 4))
    assert one == same
    assert one != other
    assert m.generate(ROWS, 12, temperature=1.0, seed=3, stop=(), cache=False).new_tokens == one
    cold = m.generate(ROWS, 12, temperature=1e-4, seed=3, stop=())
    assert cold.new_tokens == m.generate(ROWS, 12, stop=()).new_tokens
    many = m.generate([[5, 6, 7]] * 4000, 1, temperature=0.5, seed=0, stop=())
    drawn = torch.tensor(many.new_tokens)[:, 0].bincount(minlength=101) / 4000
    expected = (many.logits[0, 0] / 0.5).softmax(-1)
    assert float((drawn - expected).abs().max()) < 4 * 0.5 / 4000**0.5


def test_a_row_ends_at_its_stop_token_and_the_others_go_on() -> None:
    m = five("gpt2")
    free = m.generate(ROWS, 8, stop=())
    ends = free.new_tokens[0][2]
    stopped = m.generate(ROWS, 8, stop=[ends])
    for row, tokens in enumerate(free.new_tokens):
        until = tokens.index(ends) + 1 if ends in tokens else len(tokens)
        assert stopped.new_tokens[row] == tokens[:until]
    first = free.new_tokens[1][0]
    assert m.generate(ROWS[1], 8, stop=[first]).logits.shape[1] == 1


def test_stories260k_goes_on_as_its_author_has_it() -> None:
    folder = shared_data() / "stories260k"
    m = cw.load(folder)
    expected = (folder / "expected_greedy.txt").read_text(encoding="utf-8")
    made = m.generate([m.tokenizer.bos_token_id], 200)
    assert m.tokenizer.decode(made.new_tokens[0]) == expected
    assert "".join(made.text).strip() == expected
    changes = [cw.zero("z.2", head=[0, 5]), cw.scale("mlp_out.3", 0.5)]
    for when in ("prompt", "new", "both"):
        cached, again = (
            m.generate(["Once upon a time", "The dog"], 20, changes, when=when, stop=(), cache=c) for c in (True, False)
        )
        assert cached.new_tokens == again.new_tokens
        assert close(cached.logits, again.logits, 1e-5)


def test_what_cannot_be_generated_is_refused() -> None:
    m = five("llama")
    add = cw.add("resid_post.1", V)

    def refused(match: str, *args: Any, **how: Any) -> None:
        with pytest.raises(InputError, match=match):
            m.generate(*args, **how)

    refused("at least 1", [5, 6], 0)
    refused("64 long|at most 64", [5, 6], 63)
    refused("when", [5, 6], 3, [add], when="later")
    refused("2 entries for 1", [5, 6], 3, [add], when=["new", "new"])
    refused("position 5 of row 0 is never fed.*0 … 3", [5, 6], 3, [cw.zero("z.1", positions=5)])
    refused("none of the positions", [5, 6], 3, [cw.zero("z.1", positions=1)], when="new")
    refused("single one never is", [5, 6], 1, [add], when="new")
    refused("seed", [5, 6], 3, temperature=1.0)
    refused("temperature", [5, 6], 3, temperature=-1.0)
    refused("list of interventions|takes a list", [5, 6], 3, add)
    refused("resid_post", [5, 6], 3, [cw.zero("resid_psot.1")])
    refused("did not fire.*1 tokens were generated", [5, 6], 3, [add], when="new", stop=range(101))
    made = m.generate([5, 6], 2, read=["z.1"])
    with pytest.raises(InputError, match="was not read while generating"):
        made["z.2"]
    bare = cw.load(torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 9)))
    for other in (bare, cw.load(tiny("bert")), cw.load(tiny("t5"))):
        with pytest.raises(InputError, match="no causal language model"):
            other.generate([1, 2], 3)
