"""Annotations in lab files, whole and damaged, and the audio that belongs to them."""

import re
from pathlib import Path

import pytest

from marble.errors import MarbleError
from marble.tasks.lab_files import audio_of, files_below, read_chords, read_lab


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("0.000\t1.5\tN\n1.5\t2\tC:maj\n", [(0.0, 1.5, "N"), (1.5, 2.0, "C:maj")]),
        ("0.0 7.3469387e-2 N\r\n7.3469387e-2 1 A:min/b3\r\n", [(0.0, 0.073469387, "N"), (0.073469387, 1.0, "A:min/b3")]),
        ("\ufeff0 1 G\n\n   \n1 2 Key Bb\n", [(0.0, 1.0, "G"), (1.0, 2.0, "Key Bb")]),
        ("0 1 C\n1 1 D\n1 2 E", [(0.0, 1.0, "C"), (1.0, 2.0, "E")]),
        ("0 1.0005 C\n1 2 D", [(0.0, 1.0005, "C"), (1.0005, 2.0, "D")]),
        ("0 1 C\n4 5 D", [(0.0, 1.0, "C"), (4.0, 5.0, "D")]),
        ("0 1\n1 2 D", [(0.0, 1.0, ""), (1.0, 2.0, "D")]),
    ],
)
def test_lines_are_read(tmp_path, text, rows):
    (tmp_path / "a.lab").write_bytes(text.encode())
    assert read_lab(tmp_path / "a.lab") == rows


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no interval"),
        ("\n\n", "holds no interval"),
        ("0 1 C\n1 two D\n", "has '1 two D' in line 2: write start, stop and label, in seconds"),
        ("0 1 C\n2 1 D\n", "in line 2: write start"),
        ("-1 1 C\n", "in line 1: write start"),
        ("0 nan C\n", "in line 1: write start"),
        ("0 inf C\n", "in line 1: write start"),
        ("0\n", "in line 1: write start"),
        ("<html>404 Not Found</html>", "in line 1: write start"),
        ("0 2 C\n1 3 D\n", "has an interval in line 2 that begins before the one above ends"),
        ("1 2 C\n0 1 D\n", "has an interval in line 2 that begins before the one above ends"),
    ],
)
def test_damaged_files_are_named_with_the_line(tmp_path, text, sentence):
    (tmp_path / "a.lab").write_text(text)
    with pytest.raises(MarbleError, match=rf"{re.escape(str(tmp_path / 'a.lab'))} .*{re.escape(sentence)}"):
        read_lab(tmp_path / "a.lab")
    with pytest.raises(MarbleError, match="cannot be read"):
        read_lab(tmp_path / "none.lab")


def test_labels_that_are_none_are_counted(tmp_path):
    for name, text in {"a": "0 1 C\n1 2 N.C.\n2 3 &pause", "b": "0 1 H\n1 2\n2 3 G:7"}.items():
        (tmp_path / f"{name}.lab").write_text(text)
    files = [tmp_path / "a.lab", tmp_path / "b.lab"]
    with pytest.warns(UserWarning, match=r"4 labels .* as no chord \(2\) or as unknown \(2\), first 'N\.C\.' in .*a\.lab"):
        first, second = read_chords(files)
    assert first.rows == ((0.0, 1.0, "C:maj"), (1.0, 3.0, "N"))
    assert second.rows == ((0.0, 2.0, "X"), (2.0, 3.0, "G:maj"))


def paired(labs, audio):
    return {str(lab): str(path) for lab, path in audio_of([Path(lab) for lab in labs], [Path(path) for path in audio]).items()}


def test_audio_is_known_by_name_and_by_the_folders_above_it():
    labs = ["l/Queen/Hits I/01 One.lab", "l/Queen/Hits II/01 One.lab", "l/Queen/Hits II/02 Two.lab", "l/Queen/Hits II/03.lab"]
    audio = ["a/hits i/01 one.flac", "a/Hits II/01 One.MP3", "a/02 Two.wav", "a/Hits II/02 Two.wav", "b/elsewhere/02 Two.wav"]
    assert paired(labs, audio) == dict(zip(labs[:3], (audio[0], audio[1], audio[3]), strict=True))


def test_unicode_forms_are_one_name_and_formats_beside_each_other_one_song():
    assert paired(["l/Caf\u00e9.lab"], ["a/Cafe\u0301.wav"]) == {"l/Caf\u00e9.lab": "a/Cafe\u0301.wav"}
    assert paired(["l/1.lab"], ["a/1.flac", "a/1.wav"]) == {"l/1.lab": "a/1.flac"}


def test_two_songs_of_one_name_are_not_guessed():
    with pytest.raises(MarbleError, match=r"l/1\.lab may belong to a/1\.wav or to b/1\.wav: keep one"):
        paired(["l/1.lab"], ["a/1.wav", "b/1.wav"])
    with pytest.raises(MarbleError, match=r"a/1\.wav may belong to l/1\.lab or to m/1\.lab: keep one"):
        paired(["l/1.lab", "m/1.lab"], ["a/1.wav"])


def test_audio_of_another_song_is_not_taken():
    assert paired(["l/A/1.lab", "l/B/1.lab"], ["a/A/1.wav"]) == {"l/A/1.lab": "a/A/1.wav"}


def test_files_are_listed_in_order_without_hidden_ones_and_circles(tmp_path):
    for name in ("b/2.lab", "b/1.LAB", "a.wav", ".hidden/3.lab", "b/._1.lab", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b/up").symlink_to(tmp_path)
    labs, audio = files_below(tmp_path)
    assert [path.name for path in labs] == ["1.LAB", "2.lab"]
    assert [path.name for path in audio] == ["a.wav"]
