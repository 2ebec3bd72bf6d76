"""Files: what is written is read back, columns are found or asked for, and rows are named by their number."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from tasks.tokenizers import DATA, tokenizer

import cutaway as cw
from cutaway.core import InputError
from cutaway.tasks import TaskWarning
from cutaway.tasks.corruptions import shuffle

TABLE = "clean,counterfactual,answer,wrong\nThe opposite of hot is,The opposite of big is,cold,small\n"
NEEDED = DATA / "tasks"
needs_data = pytest.mark.skipif(not NEEDED.is_dir(), reason="the third-party tasks are not at ../shared/data/tasks")


def write(folder: Path, text: str, name: str = "own.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["ioi", "greater-than", "known-people", "induction"])
def test_json_lines_keep_a_task_whole(name: str, almanac: cw.Model, tmp_path: Path) -> None:
    task = cw.task(name, almanac, n=7)
    task.save(tmp_path / "task.jsonl")
    again = cw.Task.from_jsonl(almanac, tmp_path / "task.jsonl")
    assert again.to_json() == task.to_json()
    run = almanac.run(task.clean)
    assert torch.equal(again.measure(run), task.measure(run))


def test_json_lines_of_a_task_without_text(tmp_path: Path) -> None:
    task = cw.Task.from_tokens(torch.tensor([[1, 2, 3]]), torch.tensor([[1, 4, 3]]), [5], [6])
    task.save(tmp_path / "task.jsonl")
    assert cw.Task.from_jsonl(None, tmp_path / "task.jsonl").to_json() == task.to_json()


def test_json_lines_are_made_again_for_another_tokenizer(tmp_path: Path) -> None:
    words = tokenizer("digits")
    task = cw.task("pronouns", words, n=5)
    task.save(tmp_path / "task.jsonl")
    other = cw.Task.from_jsonl(tokenizer("words"), tmp_path / "task.jsonl")
    assert [i.clean for i in other.items] == [i.clean for i in task.items]
    assert [i.answer for i in other.items] == [i.answer for i in task.items]


def test_a_csv_keeps_text_answers_and_positions(almanac: cw.Model, tmp_path: Path) -> None:
    task = cw.task("ioi", almanac, n=7)
    task.save(tmp_path / "task.csv")
    again = cw.Task.from_csv(almanac, tmp_path / "task.csv")
    assert again.fingerprint == task.fingerprint
    for name, where in task.positions.items():
        assert torch.equal(again.positions[name], where)
    assert torch.equal(again.template, task.template)
    assert torch.equal(again.counterfactual_answers, task.counterfactual_answers)


def test_columns_go_by_several_names_or_are_named(almanac: cw.Model, tmp_path: Path) -> None:
    plain = cw.Task.from_csv(almanac, write(tmp_path, TABLE))
    other = TABLE.replace("clean,counterfactual,answer,wrong", "Prompt,corrupted,correct,incorrect")
    assert cw.Task.from_csv(almanac, write(tmp_path, other)).fingerprint == plain.fingerprint
    strange = TABLE.replace("clean,counterfactual,answer,wrong", "q,q2,a,b")
    columns = {"clean": "q", "counterfactual": "q2", "answer": "a", "wrong": "b"}
    assert cw.Task.from_csv(almanac, write(tmp_path, strange), columns=columns).fingerprint == plain.fingerprint
    lines = '{"clean": "The opposite of hot is", "counterfactual": "The opposite of big is", "answer": "cold", '
    lines += '"wrong": "small", "positions": {"word": "hot"}}\n'
    read = cw.Task.from_jsonl(almanac, write(tmp_path, lines, "own.jsonl"))
    assert read.fingerprint == plain.fingerprint
    assert read.positions["word"].tolist() == [4]


def test_a_corruption_stands_for_the_column(almanac: cw.Model, tmp_path: Path) -> None:
    path = write(tmp_path, "clean,answer\nThe opposite of hot is,cold\n")
    task = cw.Task.from_csv(almanac, path, counterfactual=shuffle())
    assert task.counterfactual_kind == "shuffle"
    with pytest.raises(InputError, match=r"no column for counterfactual.*shuffle"):
        cw.Task.from_csv(almanac, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows below its header"),
        ("clean,answer\n", "has no rows"),
        ("a,b\n1,2\n", "no column for clean and answer and counterfactual; it has: a, b"),
        (TABLE + "The opposite of old is,The opposite is,young,big\n", "1 of 2 items are misaligned.*row 3"),
        (
            TABLE + "The opposite of old is,The opposite of new is\n",
            "1 of 2 items have not the 4 cells.*row 3: 2 cells",
        ),
        (TABLE + "The opposite of old is,The opposite of new is,qqq,big\n", "row 3: 'qqq' is"),
        (TABLE.replace("wrong", "clean"), "more than one column clean"),
        (
            "clean,counterfactual,answer,template\nThe opposite of hot is,The opposite of big is,cold,\n",
            "1 of 1 items have no template.*row 2",
        ),
        (TABLE + "The opposite of big is,The opposite of big is,small,cold\n", "1 of 2 items.*identical.*row 3"),
        (TABLE + '"Not ""hot"", and",The opposite of big is,cold,small\n', "1 of 2 items are misaligned.*row 3"),
    ],
)
def test_bad_files_are_named(text: str, message: str, almanac: cw.Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        cw.Task.from_csv(almanac, write(tmp_path, text))


@pytest.mark.parametrize(
    "make",
    [
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace(",", ";"),
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("The opposite of hot is", '"The opposite of hot is"'),
        lambda text: text + "\n\n",
    ],
)
def test_a_table_reads_the_same_however_it_was_written(make, almanac: cw.Model, tmp_path: Path) -> None:
    plain = cw.Task.from_csv(almanac, write(tmp_path, TABLE))
    (tmp_path / "other.csv").write_bytes(make(TABLE).encode())
    assert cw.Task.from_csv(almanac, tmp_path / "other.csv").fingerprint == plain.fingerprint


def test_templates_may_be_named(almanac: cw.Model, tmp_path: Path) -> None:
    head, row, *_ = TABLE.splitlines()
    text = f"{head},template\n{row},plain\n{row.replace('hot', 'old').replace('cold', 'young')},other\n"
    assert cw.Task.from_csv(almanac, write(tmp_path, text)).template.tolist() == [0, 1]


def test_what_cannot_be_read_or_written_is_said(almanac: cw.Model, tmp_path: Path) -> None:
    task = cw.task("greater-than", almanac, n=3)
    with pytest.raises(InputError, match="many right answers an item, which a CSV cannot hold"):
        task.save(tmp_path / "x.csv")
    with pytest.raises(InputError, match=r"saved as .csv or .jsonl"):
        task.save(tmp_path / "x.txt")
    with pytest.raises(InputError, match="no file"):
        cw.Task.from_csv(almanac, tmp_path / "absent.csv")
    with pytest.raises(InputError, match="line 1, is no JSON"):
        cw.Task.from_jsonl(almanac, write(tmp_path, "{", "x.jsonl"))
    with pytest.raises(InputError, match="holds no items"):
        cw.Task.from_jsonl(almanac, write(tmp_path, "\n", "x.jsonl"))
    (tmp_path / "bytes.csv").write_bytes(b"clean,answer\n\xff\xfe,x\n")
    with pytest.raises(InputError, match="no text in UTF-8"):
        cw.Task.from_csv(almanac, tmp_path / "bytes.csv")
    with pytest.raises(InputError, match="no column 'q'"):
        cw.Task.from_csv(almanac, write(tmp_path, TABLE), columns={"clean": "q"})


# ------------------------------------------------------------------------------------------------- third-party data


@needs_data
def test_the_known_ioi_file_is_read_from_its_text() -> None:
    words = tokenizer("gpt2")
    hard = cw.Task.from_csv(words, NEEDED / "ioi.csv", counterfactual="corrupted_hard")
    soft = cw.Task.from_csv(words, NEEDED / "ioi.csv", n=50)
    assert len(hard) == 499
    assert len(soft) == 50
    for item in hard.items:
        assert item.clean.count(item.answer) == 1
        assert item.clean.count(item.wrong) == 2
        assert item.counterfactual_answer == item.wrong
    rows = torch.arange(50)
    assert torch.equal(soft.clean.ids[rows, soft.columns("S2")], soft.wrong)
    assert torch.equal(soft.clean.ids[rows, soft.columns("IO")], soft.answers)


@needs_data
def test_the_known_greater_than_file_takes_all_later_years() -> None:
    words = tokenizer("gpt2")
    with pytest.warns(TaskWarning, match="25 of 1000 items repeat"):
        task = cw.Task.from_csv(words, NEEDED / "greater-than.csv")
    assert task.metric.name == "mass_difference"
    ids = task.target.candidates.tolist()
    for i in range(0, 1000, 50):
        start = int(task.items[i].values["start"])
        right = {int(words.decode([t])) for t, s in zip(ids, task.target.sign[i].tolist()) if s > 0}
        assert right
        assert min(right) > start
    with pytest.raises(InputError, match="have no years of two digits as one token"):
        cw.Task.from_csv(tokenizer("stories260k"), NEEDED / "greater-than.csv")


@needs_data
def test_relations_pair_subjects_of_one_length() -> None:
    words = tokenizer("gpt2")
    task = cw.Task.from_relations(words, NEEDED / "relations", ["country_capital_city", "adj_antonym"], n=60)
    assert task.counterfactual_kind == "subject"
    assert len(task) == 60
    assert any("left out: their answer is not one token" in note for note in task.notes)
    for i, item in enumerate(task.items):
        assert item.values["subject"] in item.clean
        assert words.decode(task.answers[i]).strip() == item.answer
        assert item.answer != item.wrong
        at = int(task.positions["subject"][i])
        assert item.values["subject"].endswith(words.decode(task.clean.ids[i, at]).strip())
        assert not task.differs[i, at + 1 :].any()
    with pytest.raises(InputError, match="the nearest: country_capital_city"):
        cw.Task.from_relations(words, NEEDED / "relations", "country_capital_cty")
    with pytest.raises(InputError, match="first_token=True"):
        cw.Task.from_relations(tokenizer("stories260k"), NEEDED / "relations", "company_ceo")


def test_a_relation_of_another_format_is_refused(tmp_path: Path) -> None:
    words = tokenizer("digits")
    for body, message in (
        ({"samples": []}, "is no relation: it needs prompt_templates"),
        ({"prompt_templates": ["no slot"], "samples": []}, "each template has one {}"),
    ):
        path = write(tmp_path, json.dumps(body), "r.json")
        with pytest.raises(InputError, match=message.replace("{", r"\{").replace("}", r"\}")):
            cw.Task.from_relations(words, path)
    with pytest.raises(InputError, match="no file or folder"):
        cw.Task.from_relations(words, tmp_path / "absent")


def test_relations_without_third_party_data(tmp_path: Path) -> None:
    words = tokenizer("words")
    samples = [{"subject": a, "object": b} for a, b in (("hot", "cold"), ("big", "small"), ("old", "young"))]
    body = {"name": "opposites", "prompt_templates": ["The opposite of {} is"], "samples": samples}
    task = cw.Task.from_relations(words, write(tmp_path, json.dumps(body), "opposites.json"))
    assert {(i.values["subject"], i.answer) for i in task.items} == {(s["subject"], s["object"]) for s in samples}


@needs_data
def test_ravel_asks_for_one_attribute() -> None:
    words = tokenizer("gpt2")
    task = cw.Task.from_ravel(words, NEEDED / "ravel" / "data.tgz", "city", "Country", n=40)
    assert len(task) == 40
    assert len(set(task.template.tolist())) > 1
    for i, item in enumerate(task.items):
        assert words.decode(task.answers[i]).strip() == item.answer
        assert item.values["relation"] == "Country"
    with pytest.raises(InputError, match="the nearest: city"):
        cw.Task.from_ravel(words, NEEDED / "ravel" / "data.tgz", "citi", "Country")
    with pytest.raises(InputError, match="the nearest: Country"):
        cw.Task.from_ravel(words, NEEDED / "ravel" / "data.tgz", "city", "Countri")


def test_ravel_from_a_folder(tmp_path: Path) -> None:
    words = tokenizer("words")
    entities = {"Paris": "France", "Rome": "Italy", "Berlin": "Germany"}
    files = {
        "entity_attributes": {k: {"Country": v} for k, v in entities.items()},
        "attribute_to_prompts": {"Country": ["People who live in %s mostly speak"]},
        "entity_to_split": dict.fromkeys(entities, "test"),
        "prompt_to_split": {"People who live in %s mostly speak": "test"},
    }
    for name, body in files.items():
        write(tmp_path, json.dumps(body), f"ravel_city_{name}.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = cw.Task.from_ravel(words, tmp_path, "city", "Country", n=None)
    assert {(i.values["subject"], i.answer) for i in task.items} == set(entities.items())
    with pytest.raises(InputError, match="no prompt for Country in the split 'train'"):
        cw.Task.from_ravel(words, tmp_path, "city", "Country", split="train")
    with pytest.raises(InputError, match="neither a folder"):
        cw.Task.from_ravel(words, tmp_path / "absent", "city", "Country")


BODY = [
    '"When Mary and John went to the shop, John gave a book to",'
    '"When Mary and John went to the shop, Mary gave a book to",Mary,John',
    '"When Paul and Anna went to the park, Anna gave a ball to",'
    '"When Paul and Anna went to the park, Paul gave a ball to",Paul,Anna',
]
HEADER = "clean,counterfactual,answer,wrong"


@pytest.mark.parametrize(
    "lines",
    [
        [HEADER, *BODY],
        ["", "", HEADER, "", BODY[0], "", ",,,", BODY[1], "", " "],
        ["\ufeff" + HEADER, *BODY],
        ["\ufeff", HEADER, *BODY, ""],
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_without_text_marks_and_ends_of_lines_change_nothing(almanac, tmp_path, lines, end):
    (tmp_path / "mine.csv").write_bytes(end.join(lines).encode())
    task = cw.Task.from_csv(almanac, tmp_path / "mine.csv")
    assert [item.answer for item in task.items] == ["Mary", "Paul"]
    (tmp_path / "plain.csv").write_text("\n".join([HEADER, *BODY]))
    assert task.fingerprint == cw.Task.from_csv(almanac, tmp_path / "plain.csv", name="mine").fingerprint


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["", HEADER, BODY[0], "", '"","",Mary,John'], r"1 of 2 items of clean are no text\. row 5"),
        ([HEADER, '"two\nlines",x,y,z', BODY[0] + ",more"], r"1 of 2 items have not the 4 cells .* row 4: 5 cells"),
        ([HEADER, BODY[0], '"When Mary'], "quotation mark is not closed"),
        ([HEADER, BODY[0], '"' + "x" * 200_000], "is no table, from line 3 on"),
        (["", " ", ",,"], "no rows below its header"),
    ],
)
def test_a_bad_row_is_called_by_the_line_of_the_file_where_it_begins(almanac, tmp_path, lines, said):
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=said):
        cw.Task.from_csv(almanac, tmp_path / "mine.csv")
