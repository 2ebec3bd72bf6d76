"""Probes find what was planted and nothing else; splits keep groups whole; words are read at their own tokens."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cutaway as cw
from cutaway.core import InputError
from cutaway.readouts import Labelled, probe, read_labelled
from cutaway.readouts.classify import Scores, balanced, centroids, logistic, split
from cutaway.readouts.examples import activations, examples
from cutaway.readouts.probe import _control_labels
from cutaway.readouts.sparse_probe import ranked

NAMES = ("Mary", "John", "Anna", "Paul", "Alice", "Tom", "Helen", "Adam")
PLACES = ("shop", "park", "school", "garden", "farm", "kitchen", "theater", "castle")


def sentences(n: int = 160, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [f"{rng.choice(NAMES)} went to the {rng.choice(PLACES)} and {rng.choice(NAMES)} went" for _ in range(n)]


# ---- what is found


def test_what_the_last_token_cannot_know_is_read_from_later_layers(almanac: cw.Model) -> None:
    """The first word decides the label, the last token is always the same: the embedding can tell nothing."""
    texts = sentences()
    labels = ["first half" if t.split()[0] in NAMES[:4] else "second half" for t in texts]
    found = probe(almanac, Labelled.of(texts, labels), ["resid_pre.0", "resid_post.1", "resid_post.3"], k=(1, 128))
    by_point = {row.point: row.test.value for row in found.sweep}
    assert by_point["resid_pre.0"] == pytest.approx(0.5)
    assert by_point[found.sweep[found.best].point] > 0.9
    assert found.bag.value > 0.8, "the words alone tell it too, and that is shown"
    assert all(row.control.value < 0.7 for row in found.sweep)
    assert found.sparse[-1].test.value == pytest.approx(found.sweep[found.best].test.value, abs=0.05)
    body = found.to_json()
    assert body["best"] == found.sweep[found.best].point
    assert {"re-randomised model, its own best point"} <= {n.estimate.name for n in found.evidence[0].nulls}
    assert "bag of tokens" in str(found)


def test_labels_of_nothing_are_not_found(almanac: cw.Model) -> None:
    texts = sentences(200)
    labels = [random.Random(i).choice("ab") for i in range(len(texts))]
    found = probe(almanac, Labelled.of(texts, labels, groups=texts), "resid_post.2", null=False)
    assert found.evidence[0].verdict == "not distinguishable from null"
    assert found.evidence[0].not_done[0].what == "re-randomised model"


def test_words_are_labelled_each(almanac: cw.Model) -> None:
    texts = [t.split() for t in sentences(60)]
    labels = [["name" if w in NAMES else "place" if w in PLACES else None for w in words] for words in texts]
    found = probe(almanac, Labelled.of_words(texts, labels), ["resid_post.0"], null=False)
    assert found.classes == ("name", "place")
    assert found.sweep[0].test.value == 1.0
    assert found.sweep[0].test.interval is not None
    assert found.sweep[0].test.interval.low < 1, "all right is no proof of never wrong"
    assert "word type" in found.evidence[0].nulls[0].estimate.name


def test_a_dictionary_that_copies_gives_what_the_activations_give(almanac: cw.Model) -> None:
    class Copy:
        n_features = 128

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return x

        def decode(self, a: torch.Tensor) -> torch.Tensor:
            return a

    texts = sentences()
    data = Labelled.of(texts, ["a" if t.split()[0] in NAMES[:4] else "b" for t in texts])
    plain = probe(almanac, data, "resid_post.1", null=False)
    through = probe(almanac, data, dictionary={"resid_post.1": Copy()}, null=False)
    assert plain.sweep[0].test == through.sweep[0].test
    dense = through.evidence[0].baselines[0]
    assert dense.estimate.name.startswith("the activations themselves")
    assert dense.estimate.value == plain.sweep[0].test.value


# ---- where it is read


@pytest.mark.parametrize("name", ["almanac", "stories260k"])
def test_a_word_is_read_at_the_token_that_ends_it(name: str) -> None:
    folder = Path(__file__).parents[2] / "../shared/data/stories260k"
    if name != "almanac" and not folder.is_dir():
        pytest.skip("the third-party test data is not here")
    m = cw.load(name if name == "almanac" else folder)
    words = [["Mary", "unhappily", "went", ",", "home", "."], ["don't", "zebrafish", "the", "cat", "sat", "mat"]]
    made = examples(m, Labelled.of_words(words * 12, [["a", "b"] * 3] * 24))
    for i in range(len(made)):
        row = made.rows[made.row[i]]
        upto = m.tokenizer.decode(row[: made.position[i] + 1], skip_special_tokens=True)
        word = made.bags[i][0].removeprefix("word=")
        assert upto.replace(" ", "").endswith(word), (upto, word)


def test_activations_in_batches_are_those_of_each_text_alone(almanac: cw.Model) -> None:
    texts = [*sentences(10), "Mary went", "John"]
    data = Labelled.of(texts, ["a", "b"] * 6)
    for where in ("last", "mean"):
        made = examples(almanac, data, where)  # type: ignore[arg-type]
        got = activations(almanac, made, ["resid_post.2", "z.1", "mlp_act.0"])
        for i, text in enumerate(texts):
            run = almanac.run(text, read=["resid_post.2", "z.1", "mlp_act.0"])
            for point, values in got.items():
                x = run[point][0].flatten(1)
                expected = x[-1] if where == "last" else x.mean(0)
                assert np.allclose(values[i], expected.numpy(), atol=1e-4)


def test_text_past_the_context_is_counted(almanac: cw.Model) -> None:
    long = ["the"] * 200
    made = examples(almanac, Labelled.of_words([long] * 6, [["a", "b"] * 100] * 6))
    assert made.cut == 6
    assert made.lost == 6 * (200 - (made.position.max()))
    assert made.position.max() < 128


# ---- controls and statistics


def test_a_word_type_has_one_control_label(almanac: cw.Model) -> None:
    texts = [t.split() for t in sentences(40)]
    made = examples(almanac, Labelled.of_words(texts, [["x" if len(w) > 3 else "y" for w in t] for t in texts]))
    parts = split(made.label, made.group)
    controls = _control_labels(made, parts, seed=0)
    for kind in np.unique(made.kind):
        assert len(set(controls[made.kind == kind])) == 1
    assert len(set(controls)) == 2


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(6, 20))
@settings(max_examples=30, deadline=None)
def test_no_group_is_on_two_sides_and_every_class_on_each(seed: int, classes: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), 12)
    label = np.tile(np.arange(12) % classes, groups)
    parts = split(label, group, seed)
    sides = [set(group[p]) for p in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == groups
    for p in (parts.train, parts.validation, parts.test):
        assert set(label[p]) == set(range(classes))
    single = split(rng.permutation(label), np.arange(len(label)), seed)
    assert len(single.train) > len(single.test) > 0


def test_a_class_in_one_group_alone_cannot_be_split() -> None:
    with pytest.raises(InputError, match="no split by group"):
        split(np.array([0] * 30 + [1] * 5), np.array([0, 1, 2, 3, 4, 5] * 5 + [6] * 5))


def test_balanced_accuracy_is_scikit_learns() -> None:
    from sklearn.metrics import balanced_accuracy_score

    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    scores = Scores.of(predicted, truth, rng.integers(0, 30, 200), 4)
    assert scores.value == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert balanced(predicted, truth) == pytest.approx(scores.value)
    item = scores.estimate("x")
    assert item.interval is not None
    assert item.interval.low < item.value < item.interval.high
    assert scores.less(scores).low == scores.less(scores).high == 0


def test_classifiers_find_a_planted_direction_and_rank_its_coordinate_first() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 20)).astype(np.float32) * 5
    y = (x[:, 7] > 0).astype(np.int64)
    for classifier in (logistic(x[:400], y[:400], 1.0), centroids(x[:400], y[:400])):
        assert (classifier.predict(x[400:]) == y[400:]).mean() > 0.85
        direction = np.abs(classifier.direction[0])
        assert direction.argmax() == 7
    assert ranked(x, y)[0] == 7


# ---- input


def test_files_are_read(tmp_path: Path) -> None:
    rows = [{"text": t, "label": "ab"[i % 2], "who": t.split()[0]} for i, t in enumerate(sentences(20))]
    (tmp_path / "d.csv").write_text(
        "text,label,who\n" + "\n".join(f'"{r["text"]}",{r["label"]},{r["who"]}' for r in rows)
    )
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    one, two = (read_labelled(tmp_path / f"d.{end}", group="who") for end in ("csv", "jsonl"))
    assert (one.texts, one.labels, one.groups) == (two.texts, two.labels, two.groups)
    words = "\n".join(json.dumps({"words": ["a", "b"], "labels": ["x", "y"]}) for _ in range(6))
    (tmp_path / "w.jsonl").write_text(words)
    assert read_labelled(tmp_path / "w.jsonl").words == (("a", "b"),) * 6
    lines = ["1 the the DET _ _ 0 root _ _", "1-2 x _ _ _ _ _ _ _ _", "2 cat cat NOUN _ _ 1 obj _ _"]
    block = "# text\n" + "\n".join(lines).replace(" ", "\t")
    with gzip.open(tmp_path / "t.conllu.gz", "wt") as file:
        file.write("\n\n".join([block] * 25) + "\n")
    tree = read_labelled(tmp_path / "t.conllu.gz")
    assert tree.words is not None
    assert tree.words[0] == ("the", "cat")
    assert tree.labels[0] == ("DET", "NOUN")
    assert read_labelled(tmp_path / "t.conllu.gz", label="deprel").labels[0] == ("root", "obj")


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("d.csv", "", "empty"),
        ("d.csv", "text,label\n", "no rows"),
        ("d.csv", "words,label\na,b\n", "no column in d.csv 'text'"),
        ("d.csv", "text,tag\na,b\n", "label-column"),
        ("d.csv", "text,label\n" + "a,x\n" * 9, "one class"),
        ("d.csv", "text,label\n" + "a,x\n" * 9 + "b,y\n", "at least 5"),
        ("d.csv", "text,label\n" + "a,x\n" * 9 + ",y\n", "row 10"),
        ("d.jsonl", "{broken", "line 1"),
        ("d.jsonl", "[1]", "no JSON object"),
        ("d.jsonl", '{"words": ["a"], "labels": "x"}', "lists"),
        ("d.jsonl", '{"words": ["a"], "labels": ["x", "y"]}', "1 words and 2 labels"),
        ("d.parquet", "x", "reads .csv"),
        ("d.conllu", "nothing here", "CoNLL-U"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, body: str, says: str) -> None:
    (tmp_path / name).write_text(body)
    with pytest.raises(InputError, match=says):
        read_labelled(tmp_path / name)


def test_bad_questions(almanac: cw.Model) -> None:
    texts = sentences(40)
    data = Labelled.of(texts, ["a", "b"] * 20)
    for arguments, says in (
        ({"at": "attn_probs.0"}, "one vector a position"),
        ({"at": "resid_post.9"}, "no layer 9"),
        ({"at": "resid_psot.*"}, "resid_post"),
        ({"at": "resid_post.1", "k": (4, 129)}, "from 1 to 128"),
        ({"at": "resid_post.1", "where": "middle"}, "'last'"),
        ({"dictionary": {"resid_post.1": 3}}, "encode"),
    ):
        with pytest.raises(InputError, match=says):
            probe(almanac, data, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no file"):
        read_labelled("nowhere.csv")
    with pytest.raises(InputError, match="label in a treebank"):
        read_labelled(_tree(), label="lemma")


def _tree() -> Path:
    path = Path(__file__).parents[2] / "../shared/data/text/ud-ewt/en_ewt-ud-dev.conllu.gz"
    if not path.is_file():
        pytest.skip("the third-party test data is not here")
    return path


def test_a_treebank_is_read_whole() -> None:
    data = read_labelled(_tree())
    assert len(data.texts) == 2001
    assert {"NOUN", "VERB", "PUNCT"} <= set(data.flat)
