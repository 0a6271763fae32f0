"""The folder of all results: what is read, and that nothing damaged is."""

import json
import random
import warnings

import pytest

import marble
from marble.errors import MarbleError
from marble.results.store import find, read, read_all


def flipped(content, bit):
    """The content with one bit flipped."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_what_was_saved_is_read_back(result, saved):
    assert read(saved / result.path) == result
    assert read_all(saved) == [result]
    assert find(saved, result.identity) == result
    assert find(saved, "0" * 64) is None


def test_a_document_from_before_the_seal_is_read_without_a_word(result, saved):
    path = saved / result.path
    document = json.loads(path.read_text())
    for key in ("seal", "predictions_sha256"):
        del document[key]
    del document["task"]["labels_without_roc_auc"]
    document["task"]["data"] = document["task"].pop("data_sha256")
    path.write_text(json.dumps(document))
    (old,) = read_all(saved)
    assert (old.seal, old.layers, old.task.data_sha256) == (None, result.layers, result.task.data_sha256)
    assert find(saved, result.identity) == old
    assert len(old.predictions(saved)) == len(result.predictions(saved))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda content: content[:100], "not JSON"),
        (lambda content: b"", "not JSON"),
        (lambda content: content.replace(b'"schema": 1', b'"schema": 2'), "damaged"),
        (lambda content: content.replace(b'"seed"', b'"sed"'), "damaged"),
        (lambda content: content.replace(b"fbank", b"fb\xe4nk"), "not UTF-8"),
        (lambda content: b"[" * 100_000, "nested too deeply"),
        (lambda content: b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (lambda content: b"[]", "not a JSON object"),
        (lambda content: b'{"schema": 2}', "has schema 2, this version reads 1"),
        (lambda content: b'{"schema": 1}', "identity: field required"),
        (lambda content: b'{"schema": ' + b"1" * 5000 + b"}", "not JSON"),
        (None, "is a directory"),
    ],
)
def test_a_file_that_is_no_result_is_refused_in_one_sentence(result, saved, spoil, why):
    path = saved / result.path
    if spoil:
        path.write_bytes(spoil(path.read_bytes()))
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(MarbleError, match=f"{why}.*run it again or remove it") as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_named_and_passed_over(result, saved):
    other = result.model_copy(deep=True)
    other.identity = "0" * 64
    path = other.save(saved)
    path.write_bytes(path.read_bytes().replace(b'"mean": 1.0', b'"mean": 0.5'))
    with pytest.warns(UserWarning, match="damaged|passed over") as warned:
        assert read_all(saved) == [result]
    first, count = (str(warning.message) for warning in warned)
    assert first.startswith(f"{path} is damaged")
    assert count == f"1 of 2 results in {saved} are passed over."


def test_no_flipped_bit_of_a_document_is_read_as_other_numbers(result, saved):
    path = saved / result.path
    content, dice = path.read_bytes(), random.Random(0)
    refused = 0
    for bit in dice.sample(range(8 * len(content)), 600):
        path.write_bytes(flipped(content, bit))
        try:
            assert read(path) == result
        except MarbleError:
            refused += 1
    assert refused > 400  # the rest is white space


def test_no_flipped_bit_of_the_predictions_goes_unnoticed(result, saved):
    file = (saved / result.path).with_suffix(".parquet")
    content, dice = file.read_bytes(), random.Random(0)
    for bit in dice.sample(range(8 * len(content)), 300):
        file.write_bytes(flipped(content, bit))
        with pytest.warns(UserWarning, match="is damaged or of another run"):
            assert find(saved, result.identity) is None


@pytest.mark.parametrize("file", [".json", ".parquet"])
def test_the_same_command_mends_what_was_damaged(tones, tmp_path, file):
    options = {"results": tmp_path, "seeds": 1, "settings": ["probe.epochs=2"]}
    first = marble.run("constant", f"folder:{tones}", **options)
    path = (tmp_path / first.path).with_suffix(file)
    content = path.read_bytes()
    path.write_bytes(flipped(content, 8 * (content.rindex(b'"validation"') + 40) if file == ".json" else 4 * len(content)))
    with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
        again = marble.run("constant", f"folder:{tones}", **options)
    assert again.layers == first.layers
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find(tmp_path, first.identity) == again
    assert file == ".json" or path.read_bytes() == content


def test_a_document_and_answers_of_two_runs_are_no_pair(result, saved):
    """As a run that is killed after the answers and before the document leaves them."""
    (saved / result.path).with_suffix(".parquet").write_bytes(b"of a later run")
    with pytest.warns(UserWarning, match="of another run"):
        assert find(saved, result.identity) is None
