"""Audio files under nearly the name that a table writes are found and said; no other file is taken for one."""

import unicodedata
import warnings

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marble.errors import MarbleError
from marble.registry import load_task
from marble.tasks.own.paths import audio_paths
from marble.tasks.own.table_file import table_of

NAME = "Sound/Beyoncé 0/a.b.WAV"
CHANGES = {
    "nothing": lambda text: text,
    "backslashes": lambda text: text.replace("/", "\\"),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "lower case": str.lower,
    "upper case": str.upper,
    "spaces": lambda text: f" {text}\t",
    "no extension": lambda text: text.removesuffix(".WAV").removesuffix(".wav"),
}


def found(folder, *written):
    return audio_paths(table_of("t.csv", folder, pandas.DataFrame({"path": list(written)})))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("paths")
    for name in (NAME, "Sound/two.wav", "Sound/two.mp3", "Sound/Case.wav", "Sound/case.wav", "Sound/notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


@given(st.lists(st.sampled_from(sorted(CHANGES)), max_size=4))
def test_any_mixture_of_near_misses_finds_the_file_and_says_so(folder, changes):
    written = NAME
    for change in changes:
        written = CHANGES[change](written)
    paths, notes = found(folder, written, NAME)
    assert [path.samefile(folder / NAME) for path in paths] == [True, True]
    if (folder / written).is_file():
        assert notes == []
    else:
        assert notes[0].startswith("1 paths are not there as written")
        assert f"first '{written}' as {folder / NAME}" in notes[0]


@pytest.mark.parametrize(
    "written", ["Sound/two", "Sound/CASE.wav", "Sound/notes", "Sound", "Sound/b.wav", "../paths", "Sound/a.b"]
)
def test_what_may_be_two_files_or_none_is_not_guessed(folder, written):
    paths, notes = found(folder, NAME, written)
    assert (paths[1], notes) == (folder / written, [])


def test_a_file_that_is_there_as_written_is_taken_whatever_lies_beside_it(tmp_path):
    for name in ("a\\b.wav", "a/b.wav", "x.wav", "X.wav", " x.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = ["a\\b.wav", "a/b.wav", "x.wav", "X.wav", " x.wav"]
    assert found(tmp_path, *names) == ([tmp_path / name for name in names], [])


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (
            "audio/a.wav",
            r"None of the 1 audio files that the table t.csv names is there, 'audio/a.wav' for one: write",
        ),
        ("https://example.org/a.wav", r"'https://example.org/a.wav' for one: download the files, and write where they are"),
        (7, r"has no path in row 1 but 7: write the path of a file"),
        ("", r"has no path in row 1 but ''"),
        ({"bytes": None, "path": None}, r"has no path in row 1 but None"),
    ],
)
def test_paths_that_lead_nowhere_are_told_as_what_they_are(folder, written, sentence):
    with pytest.raises(MarbleError, match=sentence):
        found(folder, written)


def test_audio_in_the_table_is_stored_once_under_its_content(audio, home):
    content = (audio / "0.wav").read_bytes()
    (path, other, again), notes = found(
        audio, {"bytes": content, "path": "x.wav"}, {"bytes": None, "path": "1.wav"}, {"bytes": content}
    )
    assert (path.read_bytes(), other, again, notes) == (content, audio / "1.wav", path, [])
    assert path.is_relative_to(home / "audio")


def test_a_table_of_audio_is_a_task_that_names_its_rows(audio):
    cells = [{"bytes": (audio / f"{number}.wav").read_bytes(), "path": "same.wav"} for number in range(12)]
    pandas.DataFrame({"audio": cells, "label": list("ab") * 6}).to_parquet(audio / "t.parquet")
    with pytest.warns(UserWarning, match="'audio' is read as path"):
        task = load_task(f"table:{audio}/t.parquet")
    assert [clip.id for clip in task.read(audio)][:2] == ["row 1", "row 2"]


def test_the_reason_comes_before_what_follows_from_it(audio):
    """Not that its labels have no clip to train on."""
    lines = [f"none/{number}.wav,{'ab'[number % 2]}" for number in range(12)]
    (audio / "t.csv").write_text("\n".join(["path,label", *lines]))
    with pytest.raises(MarbleError, match=r"None of the 12 audio files that the table .*t\.csv names is there"):
        load_task(f"table:{audio}/t.csv").read(audio)
    (audio / "t.csv").write_text("\n".join(["path,label", *lines, "0.wav,a", "1.wav,b"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_task(f"table:{audio}/t.csv").read(audio)) == 14
