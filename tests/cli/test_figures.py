"""The commands that draw and rank, from a folder of results with a broken one among them."""

import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import marble
from marble.cli.app import app
from marble.errors import MarbleError
from marble.results.store import read

QUICK = {"seeds": 2, "settings": ["probe.epochs=2"]}


@pytest.fixture(scope="module")
def once(tmp_path_factory, tones_below):
    """Two upstreams on three tasks, with a limit and without, and a file that is no result."""
    root = tmp_path_factory.mktemp("once")
    folder, tones = root / "results", tones_below(root / "tones")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARBLE_HOME", str(root / "home"))
        first = marble.run("fbank-chroma", f"folder:{tones}", results=folder, **QUICK)
        limited = marble.run("fbank-chroma", f"folder:{tones}", results=folder, limit=3, **QUICK)
    for upstream in ("fbank-chroma", "other"):
        for result in (first, limited):
            for name in ("folder:tones", "b", "c"):
                copy = result.model_copy(deep=True)
                copy.upstream.name, copy.task.name, copy.predictions_sha256 = upstream, name, None
                copy.layers[2].layer, copy.layers[2].weights = "weighted", [0.25, 0.75]
                copy.layers[2].name = "weighted sum"
                copy.selected.layer = 0
                copy.save(folder)
    broken = folder / "broken" / "task" / "marble-0123456789ab.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    return folder


@pytest.fixture
def results(once, tmp_path):
    return shutil.copytree(once, tmp_path / "results")


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def stems(folder):
    """The names of figures before the hash of the changed protocol, with their number."""
    names = [path.name.split("-marble-")[0] + path.suffix for path in folder.iterdir() if path.is_file()]
    return {name: names.count(name) for name in sorted(names)}


def test_each_figure_is_drawn_once_for_each_protocol_and_limit_past_a_broken_file(results):
    for command in ("curve", "radar", "weights", "shots"):
        with pytest.warns(UserWarning, match="is not a result|passed over") as warned:
            done = invoke(command, "--results", results, "--format", "svg, pdf", "--style", "paper")
        assert done.exit_code == 0, done.exception
        assert done.stderr.count(f"{command}: {results}/{command}-marble-") == (2 if command == "shots" else 4)
        assert "1 of 13 results" in str(warned[-1].message)
    assert stems(results) == {
        "curve.pdf": 2, "curve.svg": 2, "radar.pdf": 2, "radar.svg": 2, "shots.pdf": 1, "shots.svg": 1,
        "weights.pdf": 2, "weights.svg": 2,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_heatmaps_stand_beside_each_upstream_and_of_named_upstreams_side_by_side(results):
    assert invoke("heatmap", "--results", results, "--format", "svg").exit_code == 0
    assert stems(results / "other") == stems(results / "fbank-chroma") == {"heatmap.svg": 2}
    done = invoke("heatmap", "--results", results, "--format", "svg", "--upstream", "*", "--task", "b,c", "--noise")
    assert done.exit_code == 0, done.exception
    assert stems(results) == {"heatmap.svg": 2}
    svg = next(results.glob("heatmap-*.svg")).read_text()
    assert ">other<" in svg
    assert "tones" not in svg


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_be_drawn_of_any_protocol_is_one_sentence(results):
    for path in results.glob("*/*/*.json"):
        if path.parts[-3] != "broken" and read(path).task.name != "b":
            path.unlink()
    for words, sentence in (
        (["radar"], "A radar needs 3 tasks, there are 1"),
        (["curve", "--task", "nope"], "no result of the task 'nope': there are b"),
        (["curve", "--style", "poster"], "no style 'poster'"),
        (["curve", "--format", "gif"], "no figure in 'gif'"),
        (["leaderboard", "--upstream", "nope"], "there are fbank-chroma, other"),
    ):
        done = invoke(*words, "--results", results)
        assert isinstance(done.exception, MarbleError), done.output
        assert sentence in str(done.exception)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_leaderboard_is_filtered_and_written_as_in_papers(results):
    board = invoke("leaderboard", "--results", results, "--upstream", "other", "--task", "b").stdout.splitlines()
    assert [line.split(",")[0] for line in board] == ["task", "b"]
    table = invoke("leaderboard", "--results", results, "--wide", "--format", "latex").stdout
    assert "b accuracy & c accuracy & folder:tones accuracy & average & rank" in table


def test_none_of_them_imports_torch(results):
    there = ["--results", str(results)]
    commands = [[name, *there] for name in ("heatmap", "curve", "radar", "weights", "shots", "leaderboard")]
    commands += [["leaderboard", "--wide", "--with-published", *there]]
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom marble.cli.app import app\nimport marble\n"
        f"for words in {commands}:\n    assert CliRunner().invoke(app, words).exit_code == 0, words\n"
        f"marble.results.load({str(results)!r}, predictions=True)\n"
        "print({'torch', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
