"""Names, specs, plug-ins and what every built-in upstream and task must declare."""

import subprocess
import sys
import textwrap

import pytest

from marble import registry
from marble.cli import listing
from marble.errors import MarbleError
from marble.pretraining.recipes import load_recipe
from marble.probe.protocol import load_protocol
from marble.probe.scoring.metrics import METRICS
from marble.task import SPLITS
from marble.upstream import UpstreamInfo
from marble.upstreams.mel_encoder import PAPERS

PLUGIN = """
from marble.upstream import Layer, Upstream, UpstreamInfo
from marble.task import Task
class Model(Upstream):
    info = UpstreamInfo(name="mine", sample_rate=8000, frame_rate=10.0, layers=(Layer("a", 2),))
NOT_A_MODEL = 3
"""
# Nobody has published how many recordings the splits of these hold; piano-difficulty checks its test part by sha256.
UNCOUNTED = {"vocalset-singer", "vocalset-technique", "piano-difficulty", "nsynth-instrument-clean", "nsynth-pitch-clean"}
UNCOUNTED |= {"chords-isophonics", "local-key"}
UNCOUNTED |= {f"piano-difficulty-{split}" for split in range(1, 5)}


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("fbank-chrma", "fbank-chroma"), ("constnt", "constant"), ("zzzzzzzz", "known are"), ("fbank-chroma2:x/y", "fbank")],
)
def test_an_unknown_name_answers_with_the_nearest(spec, hint):
    with pytest.raises(MarbleError, match=hint):
        registry.load_upstream(spec)


def test_unknown_tasks_and_missing_or_needless_arguments_are_explained():
    with pytest.raises(MarbleError, match="did you mean gtzan"):
        registry.load_task("gtzen")
    with pytest.raises(MarbleError, match="folder:PATH"):
        registry.load_task("folder")
    with pytest.raises(MarbleError, match="folder:PATH"):
        registry.load_task("folder:")
    with pytest.raises(MarbleError, match="takes no argument"):
        registry.load_task("gtzan:x")
    with pytest.raises(MarbleError, match="takes no argument"):
        registry.load_upstream("constant:5")
    with pytest.raises(MarbleError, match="Random weights need no file: write random-init:muq-tiny without"):
        registry.load_upstream("random-init:muq-tiny:/some/file")
    for path in ("~nobody-of-this-name", "x" * 300):
        with pytest.raises(MarbleError, match="no upstream called"):
            registry.load_upstream(path)
    for spec in ("muq:~nobody-of-this-name/x", "saved:~nobody-of-this-name/x"):
        with pytest.raises(MarbleError, match="~nobody-of-this-name/x"):
            registry.load_upstream(spec)
    with pytest.raises(MarbleError, match="there is no folder"):
        registry.load_task("folder:~nobody-of-this-name/x")


@pytest.mark.parametrize("names", [registry.upstreams, registry.tasks, registry.suites, registry.recipes, registry.protocols])
def test_all_kinds_of_names_behave_alike(names):
    known = names.names()
    assert len(known) == len(set(known)) > 3
    first = next(name for name in known if name not in names.arguments)
    assert names.find(first)[1] is None
    assert names.find(f"{first}:argument")[1] == "argument"
    with pytest.raises(MarbleError, match=rf"There is no {names.kind} called '{first}x': did you mean .*{first}.*; marble ls"):
        names.find(f"{first}x")
    with pytest.raises(MarbleError, match=rf"There is no {names.kind} called 'zzzzzzzzzz': known are {known[0]}, {known[1]}"):
        names.find("zzzzzzzzzz")
    with pytest.raises(MarbleError, match=rf"The {names.kind} 'no_such_module:NAME' cannot be imported"):
        names.find("no_such_module:NAME")


@pytest.mark.parametrize("load", [load_protocol, load_recipe, registry.load_suite, registry.load_task])
def test_what_a_name_leads_to_must_be_of_its_kind(load):
    with pytest.raises(MarbleError, match=r"'os:sep' is not a .*: it must be a marble\.\w+"):
        load("os:sep")


@pytest.mark.parametrize("spec", ["os:getcwd", "builtins:eval", "os:sep", "subprocess:Popen"])
def test_what_is_no_upstream_is_not_called(spec):
    with pytest.raises(MarbleError, match="is not an upstream"):
        registry.load_upstream(spec)


def test_a_function_of_a_package_is_an_upstream(tmp_path, monkeypatch):
    function = "def load(argument, *, offline):\n    Model.info = replace(Model.info, name=argument)\n    return Model()\n"
    (tmp_path / "function_of_a_test.py").write_text("from dataclasses import replace\n" + PLUGIN + function)
    about = tmp_path / "function_of_a_test-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: function-of-a-test\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[marble.upstreams]\nmade = function_of_a_test:load\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.load_upstream("made:anything").info.name == registry.upstream_info("made:anything").name == "anything"
    with pytest.raises(MarbleError, match="The upstream 'made' needs an argument: write made:ARGUMENT"):
        registry.load_upstream("made")
    with pytest.raises(MarbleError, match="made is no architecture of its own"):
        registry.load_upstream("random-init:made")


def test_names_are_known_without_torch():
    names = "registry.upstreams.names(); registry.tasks.names(); registry.suites.names()"
    code = f"import sys; from marble import registry; {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_two_built_in_upstreams_share_their_identity():
    """Name, version and weights decide what the cache and the results are called."""
    identities = set()
    for name in registry.upstream_names():
        info = getattr(registry.upstreams.find(name)[0], "info", None)
        if info is not None:
            assert info.name == name
            identities.add((info.name, info.version))
    assert len(identities) == len(registry.upstream_names()) - len({"random-init", "saved"})


def test_an_upstream_needs_four_fields():
    info = UpstreamInfo(name="mine", sample_rate=8000, frame_rate=10.0, layers=())
    assert (info.version, info.parameters) == (1, None)
    assert {info.licence, info.training_data, info.paper, info.source} == {"not stated"}


def test_a_class_of_any_module_in_the_current_folder_is_an_upstream(tmp_path, monkeypatch):
    (tmp_path / "plugin_of_a_test.py").write_text(textwrap.dedent(PLUGIN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert registry.load_upstream("plugin_of_a_test:Model").info.name == "mine"
    with pytest.raises(MarbleError, match="not an upstream"):
        registry.load_upstream("plugin_of_a_test:NOT_A_MODEL")
    with pytest.raises(MarbleError, match="has no attribute 'Nothing'"):
        registry.load_upstream("plugin_of_a_test:Nothing")
    with pytest.raises(MarbleError, match=rf"no module 'no_such_module' in {tmp_path}, nor among what is installed"):
        registry.load_upstream("no_such_module.sub:Model")
    (tmp_path / "needy_plugin_of_a_test.py").write_text("import surely_not_installed\n")
    with pytest.raises(MarbleError, match=r"surely_not_installed.*install what it needs"):
        registry.load_upstream("needy_plugin_of_a_test:Model")


def test_a_plug_in_is_found_in_its_file_wherever_that_lies(tmp_path, monkeypatch):
    """With what lies beside it; the other of two files of one name is refused."""
    for folder in ("models", "others"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "helper_of_a_test.py").write_text("NAME = 'mine'\n")
        text = "from helper_of_a_test import NAME\n" + PLUGIN.replace('"mine"', "NAME")
        (tmp_path / folder / "filed_of_a_test.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for spec in ("models/filed_of_a_test.py:Model", f"{tmp_path}/models/filed_of_a_test.py:Model"):
        assert registry.load_upstream(spec).info.name == "mine"
    with pytest.raises(MarbleError, match=r"others/filed_of_a_test\.py has the name of .*models/filed_of_a_test\.py, which is"):
        registry.load_upstream("others/filed_of_a_test.py:Model")
    with pytest.raises(MarbleError, match=r"models/filed_of_a_test\.py has no attribute 'Modle'"):
        registry.load_upstream("models/filed_of_a_test.py:Modle")
    with pytest.raises(MarbleError, match=rf"no module 'absent' in {tmp_path}/models, nor among what is installed"):
        registry.load_upstream("models/absent.py:Model")
    with pytest.raises(MarbleError, match=r"write models/filed_of_a_test\.py:NAME for what the file holds"):
        registry.load_upstream("models/filed_of_a_test.py")


def test_a_path_without_its_kind_is_told_which_to_write(tmp_path, monkeypatch):
    (tmp_path / "drums").mkdir()
    (tmp_path / "songs.csv").touch()
    monkeypatch.chdir(tmp_path)
    for path, spec in (("drums", "folder:drums"), ("./drums", "folder:./drums"), ("songs.csv", "table:songs.csv")):
        with pytest.raises(MarbleError, match=rf"'{path}' is a path: write {spec} for the task over its audio"):
            registry.load_task(path)


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("import torch\nx = = 1\n", r"cannot be imported \(SyntaxError: invalid syntax \(.*line 2\)\): check"),
        ("raise RuntimeError('no luck')\n", r"cannot be imported \(RuntimeError: no luck\)"),
        (PLUGIN + "    def __init__(self): raise KeyError('weights')\n", r"cannot be loaded \(KeyError: 'weights'\)"),
        (PLUGIN.replace("    info = ", "    about = "), "has no info: give its class one"),
    ],
)
def test_what_is_wrong_in_a_module_of_ones_own_is_one_sentence(tmp_path, monkeypatch, module, sentence):
    name = f"faulty_{tmp_path.name}".replace("-", "_")
    text = module if "NOT_A_MODEL" not in module else module.replace("NOT_A_MODEL = 3\n", "")
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(MarbleError, match=sentence) as caught:
        registry.load_upstream(f"{name}:Model")
    assert "\n" not in str(caught.value)


def test_entry_points_of_installed_packages_are_found(tmp_path, monkeypatch):
    (tmp_path / "installed_of_a_test.py").write_text(textwrap.dedent(PLUGIN))
    about = tmp_path / "installed_of_a_test-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: installed-of-a-test\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[marble.upstreams]\nfrom-a-package = installed_of_a_test:Model\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "from-a-package" in registry.upstream_names()
    assert registry.load_upstream("from-a-package").info.name == "mine"
    (about / "entry_points.txt").write_text("[marble.upstreams]\nfrom-a-package = not_there_of_a_test:Model\n")
    with pytest.raises(MarbleError, match=r"'from-a-package' cannot be imported \(ModuleNotFoundError: .*install"):
        registry.load_upstream("from-a-package")


@pytest.mark.parametrize("name", ["muq-tiny", "conformer-summarymixing-tiny"])
def test_what_is_made_from_an_argument_tells_of_itself(name, tmp_path):
    random = registry.upstream_info(f"random-init:{name}")
    registry.load_upstream(f"random-init:{name}").save(tmp_path / "mine", {"name": "mine", "licence": "CC0", "steps": 3})
    saved = registry.upstream_info(str(tmp_path / "mine"))
    assert (saved.name, saved.licence, random.name) == ("mine", "CC0", f"random-init:{name}")
    declared = registry.find_upstream(name).info
    assert saved.layers == random.layers == declared.layers
    assert random.paper == declared.paper == PAPERS[name.split("-")[0]]


@pytest.mark.parametrize("name", registry.complete_task_names())
def test_every_task_declares_itself(name):
    task = registry.load_task(name)
    assert task.name == name
    assert task.version >= 1
    assert len(task.description) > 100
    assert all([task.citation, task.licence, task.source, task.labels])
    assert len(set(task.labels)) == len(task.labels)
    assert task.metrics
    assert all(metric in METRICS for metric in task.metrics)
    if name not in UNCOUNTED:
        assert task.split_sizes is not None
        assert set(task.split_sizes) == set(SPLITS)


@pytest.mark.parametrize("name", registry.complete_upstream_names())
def test_every_upstream_declares_itself(name):
    info = registry.find_upstream(name).info
    assert info.name == name
    assert info.version >= 1
    assert info.sample_rate > 0
    assert info.frame_rate > 0
    assert all(layer.width > 0 for layer in info.layers)
    assert len({layer.name for layer in info.layers}) == len(info.layers)
    assert all([info.licence, info.training_data, info.paper, info.source, info.precisions])


def test_an_empty_name_is_no_folder():
    with pytest.raises(MarbleError, match="There is no upstream called ''"):
        registry.load_upstream("")


def test_a_suite_is_told_by_its_name_with_or_without_the_word():
    assert listing.suite("suite:muq") == listing.suite("muq")
    with pytest.raises(MarbleError, match="no suite called 'muk': did you mean muq"):
        listing.suite("suite:muk")
