"""gin files are read as data: scalars, references and macros; never code, and never more work than the file is long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marble.errors import MarbleError
from marble.upstreams.loading.gin import read_gin


def read(tmp_path, text):
    path = tmp_path / "config.gin"
    path.write_text(text)
    return dict(read_gin(path))


def test_scalars_references_macros_comments_and_continuations(tmp_path):
    text = r"""
import some.module  # not followed
include 'other.gin'
# rate = 3
Class.uses = %rate  # defined below
rate = 24000
double = %rate
Class.deeper = %double
a.module.Class.depth = 2
module.Class.depth = 3
other/Class.depth = 4
fresh/macro.value = 5
Class.fresh = %fresh
Class.required = %gin.REQUIRED
one.Twin.size = 1
two.Twin.size = 2
one.Twin.size = 3
Third.size = 1
one.Third.size = 2
two.Third.size = 3
Fourth.size = 1
Fourth.size = [2]
Block:
    size = 6
Class.eps = -1e-5
Class.text = 'a # is no comment, "%rate" no macro'
Class.joined = \
    'one'
Class.pair = (1,
    2)
Class.nothing = None
Class.yes = True
Class.input = @nets.waveform.Waveform
Class.made = @scope/nets.waveform.Waveform()
train.params = {'max_steps': 400000, 'rates': [%double, 0.5]}
"""
    assert read(tmp_path, text) == {
        "Class.uses": 24000,
        "rate": 24000,
        "double": 24000,
        "Class.depth": 3,
        "fresh": 5,
        "Class.fresh": 5,
        "Class.eps": -1e-5,
        "Class.text": 'a # is no comment, "%rate" no macro',
        "Class.joined": "one",
        "Class.nothing": None,
        "Class.yes": True,
        "Class.input": "@nets.waveform.Waveform",
        "Class.made": "@scope/nets.waveform.Waveform()",
    }


@pytest.mark.parametrize(
    "text",
    [
        "A.b = __import__('os').system('true')",
        "A.b = name",
        "A.b = lambda: 1",
        "A.b = 1.2.3",
        "A.b = " + "9" * 5000,
        "A.b = 'é",
    ],
)
def test_what_is_not_data_is_refused_in_one_sentence_or_not_read(tmp_path, text):
    path = tmp_path / "config.gin"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(
        MarbleError, match=r"config\.gin (cannot be read as (a gin file|text) \(.*\): download it again)"
    ) as caught:
        read_gin(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["A.b = @thing(1)", "A.b = [x for x in (1, 2)]", "A.b = 9**9**9", "A.b = {[1]: 2}", "A.b = (1,", "A.b ="]
)
def test_what_is_not_read_is_missing_when_it_is_asked_for(tmp_path, text):
    path = tmp_path / "config.gin"
    path.write_text(text)
    with pytest.raises(MarbleError, match=r"config\.gin does not say 'A\.b'"):
        read_gin(path)["A.b"]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"m{i} = [{', '.join([f'%m{i + 1}'] * 10)}]" for i in range(9)) + "\nm9 = [1]\nA.b = %m0",
        "a = %b\nb = %a\nA.b = %a",
        "A.b = " + "[" * 100_000,
        "A.b = " + "-" * 100_000 + "1",
        "A.b = '" * 100_000,
    ],
    ids=["macros of macros", "its own value", "deep", "signs", "quotes"],
)
def test_the_work_is_bounded_by_the_length_of_the_file(tmp_path, text):
    assert "A.b" not in read(tmp_path, text)


def test_a_file_longer_than_any_configuration(tmp_path):
    with pytest.raises(MarbleError, match=r"config\.gin is too long for a configuration \(2400000 bytes\)"):
        read(tmp_path, "A.b = 1\n" * 300_000)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="ascii", exclude_characters="'\"\\", exclude_categories=["C"]))
)


@given(values=st.lists(scalars, min_size=1, max_size=4))
def test_every_scalar_survives(tmp_path_factory, values):
    text = "\n".join(f"Class.parameter{i} = {value!r}" for i, value in enumerate(values))
    settings = read(tmp_path_factory.mktemp("gin"), text)
    assert settings == {f"Class.parameter{i}": value for i, value in enumerate(values)}
