"""gin files are read as data: values of every shape, macros, references; never code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marble.errors import MarbleError
from marble.upstreams.loading.gin import read_gin


def read(tmp_path, text):
    path = tmp_path / "config.gin"
    path.write_text(text)
    return dict(read_gin(path))


def test_values_references_macros_comments_and_continuations(tmp_path):
    text = r"""
import some.module  # not followed
include 'other.gin'
# Macros:
# ======
Class.uses = %rate
rate = 24000
double = %rate

a.module.Class.depth = 2
module.Class.depth = 3
other/Class.depth = 4
scope/Class.eps = -1e-5
fresh/macro.value = 5
Class.fresh = %fresh
Class.required = %gin.REQUIRED
Class.lists = [1, {2: (%elsewhere,)}]
one.Twin.size = 1
two.Twin.size = 2
one.Twin.size = 3
Third.size = 1
one.Third.size = 2
two.Third.size = 3
Block:
    size = 6
    pair = (1,
  2)
Class.eps = -1e-5
Class.text = 'a # is no comment, \'%rate\' no macro'
Class.joined = \
    'one '\
    'two'
Class.pair = (1,
    %rate)  # (
Class.nothing = None
Class.yes = True
Class.list = \
    [@nets.cqt.CQT,
     @scope/nets.waveform.Waveform()]
train.params = {'max_steps': 400000, 'rates': [%double, 0.5]}
"""
    assert read(tmp_path, text) == {
        "Class.uses": 24000,
        "rate": 24000,
        "double": 24000,
        "Class.depth": 3,
        "fresh": 5,
        "Class.fresh": 5,
        "Block.size": 6,
        "Block.pair": (1, 2),
        "Class.eps": -1e-5,
        "Class.text": "a # is no comment, '%rate' no macro",
        "Class.joined": "one two",
        "Class.pair": (1, 24000),
        "Class.nothing": None,
        "Class.yes": True,
        "Class.list": ["@nets.cqt.CQT", "@scope/nets.waveform.Waveform()"],
        "train.params": {"max_steps": 400000, "rates": [24000, 0.5]},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A.b = __import__('os').system('true')", "'__import__' is neither a value nor a reference"),
        ("A.b = @thing(1)", "it holds a call"),
        ("A.b = [x for x in (1, 2)]", "'x' is neither a value nor a reference"),
        ("A.b = name", "'name' is neither a value nor a reference"),
        ("A.b = _0", "'_0' is neither a value nor a reference"),
        ("A.b = {[1]: 2}", "unhashable type"),
        ("A.b = " + "-" * 30_000 + "1", ""),
        ("a = %b\nb = %a", "the macro %a is its own value|the macro %b is its own value"),
        ("A.b = (1,", "EOF in multi-line statement|unexpected EOF"),
        ("A.b =", ""),
        ("A.b", "'A . b' binds nothing"),
    ],
)
def test_what_is_not_data_is_refused_in_one_sentence(tmp_path, text, reason):
    with pytest.raises(MarbleError, match=rf"config\.gin cannot be read as a gin file \(.*({reason}).*\): download it again"):
        read(tmp_path, text)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "config.gin"
    path.write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(MarbleError, match="cannot be read as a gin file"):
        read_gin(path)


def test_a_setting_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "config.gin"
    path.write_text("A.b = 1")
    with pytest.raises(MarbleError, match=r"config\.gin does not say 'A\.c'"):
        read_gin(path)["A.c"]


literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(values=st.lists(literals, min_size=1, max_size=4))
def test_every_literal_survives(tmp_path_factory, values):
    text = "\n".join(f"Class.parameter{i} = {value!r}" for i, value in enumerate(values))
    found = read(tmp_path_factory.mktemp("gin"), text)
    assert found == {f"Class.parameter{i}": value for i, value in enumerate(values)}
