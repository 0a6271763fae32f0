"""The command line as a user meets it."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marble.cli.app import app
from marble.errors import MarbleError
from marble.probe.presets import PROTOCOLS

QUICK = ["--seeds", "2", "--set", "probe.epochs=3"]


def start(arguments, **options):
    """Run the installed command in a process of its own."""
    command = [str(Path(sys.executable).with_name("marble")), *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, **options)


def marble(*arguments, **options):
    """Run the installed command and keep what it prints."""
    return start(arguments, stdout=subprocess.PIPE, **options)


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_run_prints_a_table_and_with_json_nothing_else(tones, tmp_path):
    words = [
        "run",
        "--upstream",
        "fbank-chroma,constant",
        "--task",
        f"folder:{tones}",
        "--results",
        tmp_path / "results",
        *QUICK,
    ]
    first = marble(*words)
    assert first.returncode == 0, first.stderr
    assert "fbank+chroma" in first.stdout
    assert "chosen on validation" in first.stdout
    assert "protocol marble (probe.epochs=3)" in first.stdout
    (figure,) = (tmp_path / "results/fbank-chroma").glob("heatmap-marble-*.png")  # of a changed protocol
    assert figure.stat().st_size > 10_000
    again = marble(*words, "--json")
    documents = json.loads(again.stdout)
    assert [document["upstream"]["name"] for document in documents] == ["fbank-chroma", "constant"]
    assert "already done" in again.stderr


def test_one_failure_does_not_stop_the_others_and_shows_in_the_status(tones, tmp_path):
    words = [
        "run",
        "--upstream",
        "nonsense,constant",
        "--task",
        f"gtzan,folder:{tones}",
        "--results",
        tmp_path,
        "--data-root",
        tmp_path,
    ]
    done = marble(*words, *QUICK, "--json")
    assert done.returncode == 1
    assert len(json.loads(done.stdout)) == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 4
    assert "3 of 4 runs failed" in errors[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--upstream", "fbank-chrom", "--task", "gtzan"], "did you mean fbank-chroma"),
        (["run", "--upstream", "constant", "--task", "folder:/no/such/place"], "there is no folder /no/such/place"),
        (["run", "--upstream", "constant", "--task", "TONES", "--layers", "7"], "'7' names no layer: there are 0..0"),
        (["run", "--upstream", "constant", "--task", "TONES", "--device", "tpu"], "'tpu' is no device"),
        (["run", "--upstream", "constant", "--task", "TONES", "--device", "cuda:63"], "There is no device 'cuda:63'"),
        (["run", "--upstream", "constant", "--task", "TONES", "--precision", "bf16"], "does not run in bf16"),
        (["run", "--upstream", "constant", "--task", "TONES", "--set", "probe.hiden=3"], "sets nothing"),
        (["run", "--upstream", "constant", "--task", "TONES", "--protocol", "x"], "no protocol called 'x'"),
        (["info", "upstream", "nonsense"], "no upstream called"),
        (["ls", "nonsense"], "write marble ls"),
        (["leaderboard", "--format", "xml", "--results", "."], "write --format csv|md|latex|html"),
        (["heatmap", "--results", "/no/such/place"], "no results in /no/such/place"),
        (["leaderboard", "--results", "/no/such/place"], "no results in /no/such/place"),
        (["report", "--results", "/no/such/place"], "no results in /no/such/place"),
        (["cache", "verify", "--cache-dir", "/no/such/place"], "no cache in /no/such/place"),
        (["run", "--upstream", "", "--task", "gtzan"], "'' names no upstream"),
        (["run", "--upstream", "constant", "--task", " ,"], "' ,' names no task"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(tones, words, message):
    done = invoke(*[f"folder:{tones}" if word == "TONES" else word for word in words])
    said = done.stderr if isinstance(done.exception, SystemExit) else str(done.exception)
    assert done.exit_code == 1
    assert isinstance(done.exception, (SystemExit, MarbleError))
    assert message in said
    assert said.count("error:") <= 1


def test_a_mistake_ends_the_process_without_a_traceback():
    done = marble("info", "upstream", "nonsense")
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no upstream called 'nonsense'")
    assert done.stderr.count("\n") == 1


def test_bad_clips_are_named_and_the_status_tells(tones, tmp_path):
    (tones / "low" / "text.wav").write_text("no audio")
    words = ["run", "--upstream", "constant", "--task", f"folder:{tones}", "--results", tmp_path, *QUICK]
    refused, accepted = marble(*words), marble(*words, "--skip-bad")
    assert (refused.returncode, accepted.returncode) == (1, 0)
    for done in (refused, accepted):
        assert f"bad clip: {tones}/low/text.wav is not audio" in done.stderr
    assert "1 bad clip was left out" in refused.stderr


def test_a_bad_file_is_named_once_with_the_number_of_its_excerpts(tones, tmp_path):
    (tones / "low/text.wav").write_text("no audio")
    rows = [f"{label}/{take}.wav,0,,{label}" for label in ("low", "middle", "high") for take in range(8)]
    rows += [f"low/text.wav,{start},{start + 0.1:.1f},low" for start in range(9)] + ["high/0.wav,7,8,high"]
    (tones / "excerpts.csv").write_text("\n".join(["path,start,stop,label", *rows]) + "\n")
    done = invoke("run", "--upstream", "constant", "--task", f"table:{tones}/excerpts.csv", "--results", tmp_path, *QUICK)
    assert sorted(line for line in done.stderr.splitlines() if line.startswith("bad clip")) == [
        f"bad clip: {tones}/high/0.wav is 0.30 s long and ends before the clip from 7 s to 8 s",
        f"bad clip: {tones}/low/text.wav is not audio that libsndfile reads, or is corrupt (first of 9 clips of it)",
    ]
    assert "10 bad clips were left out" in done.stderr
    done = invoke("data", "verify", f"table:{tones}/excerpts.csv")
    assert done.stdout.count("text.wav is not audio") == 1
    assert "corrupt (first of 9 clips of it)" in done.stdout


def test_a_result_that_cannot_be_read_is_named_and_stops_nothing(tones, tmp_path):
    """Names are written as they are: no emoji, no markup."""
    folder = tones.rename(tones.with_name("guitar[b]"))
    old = tmp_path / "results/old/task/marble-0123456789ab.json"
    old.parent.mkdir(parents=True)
    old.write_text("{")
    done = marble("run", "--upstream", "constant", "--task", f"folder:{folder}", "--results", tmp_path / "results", *QUICK)
    assert done.returncode == 0
    assert "constant on folder:guitar[b]: accuracy" in done.stdout
    assert "constant on folder:guitar[b]: encoding" in done.stderr
    assert "heatmap: " in done.stderr
    for words in (["leaderboard"], ["ls", "results"], ["heatmap"], ["report"]):
        done = marble(*words, "--results", tmp_path / "results")
        assert done.returncode == 0
        assert f"warning: {old} is not a result that this version reads (not JSON" in done.stderr
        assert f"warning: 1 of 2 results in {tmp_path / 'results'} are passed over." in done.stderr


def test_a_run_draws_only_what_it_changed(tones, tmp_path):
    def heatmaps(upstream, *more):
        done = invoke("run", "--upstream", upstream, "--task", f"folder:{tones}", "--results", tmp_path, *QUICK, *more)
        return sorted(line.split("/")[-2] for line in done.stderr.splitlines() if line.startswith("heatmap: "))

    assert heatmaps("fbank-chroma") == ["fbank-chroma"] * 2
    assert heatmaps("constant") == ["constant"] * 2
    assert heatmaps("constant") == []
    assert heatmaps("constant", "--limit", "3") == ["constant"] * 2
    (tmp_path / "constant").joinpath(next((tmp_path / "constant").glob("*.svg")).name).unlink()
    assert heatmaps("constant,fbank-chroma") == ["constant"] * 2
    for figure in (tmp_path / "constant").glob("heatmap-*"):
        figure.unlink()
    assert heatmaps("constant") == ["constant"] * 2  # that of the other limit is no work of this run
    assert len(list((tmp_path / "constant").glob("heatmap-*"))) == 2


def test_a_full_disk_is_one_sentence(tones, tmp_path):
    script = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); from marble.cli.app import main; main()"
    words = ["run", "--upstream", "fbank-chroma", "--task", f"folder:{tones}", "--results", str(tmp_path), *QUICK]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "Cannot write" in done.stderr
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["ls", "protocols"], ["ls", "protocols", "--json"], ["--help"], ["--version"]])
def test_an_output_that_takes_no_more_is_one_sentence(words, unbuffered):
    reading, pipe = os.pipe()
    os.close(reading)
    for stdout, why in ((os.open("/dev/full", os.O_WRONLY), "no space left on device"), (pipe, "broken pipe")):
        done = start(words, stdout=stdout, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
        os.close(stdout)
        sentence = f"error: Cannot write to standard output ({why}): make room, or keep what reads it open.\n"
        assert (done.returncode, done.stderr) == (1, sentence)


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path

from marble.cli import main

if sys.argv.pop(1) == "warm":
    import marble.cli.tables, marble.jobs.many, marble.tasks.own.folder
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**20, mapped + 2**20))
main()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory that is mapped is read in /proc")
@pytest.mark.parametrize("state", ["cold", "warm"])
def test_a_want_of_memory_is_one_sentence(tones, state):
    """Whatever it is that Python or the loader of libraries raise."""
    words = ["run", "--upstream", "fbank-chroma", "--task", f"folder:{tones}"]
    command = [sys.executable, "-c", LITTLE_MEMORY, state, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "ulimit -v" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_run_whose_output_is_lost_is_done(tones, tmp_path):
    words = ["run", "--upstream", "constant", "--task", f"folder:{tones}", "--results", tmp_path, *QUICK, "--json"]
    with Path("/dev/full").open("w") as full:
        done = start(words, stdout=full)
    assert done.returncode == 1
    assert done.stderr.count("error: Cannot write to standard output (no space left on device)") == 1
    assert "Traceback" not in done.stderr
    assert invoke(*words).exit_code == 0
    assert list(tmp_path.glob("constant/*/*.json"))


def test_an_ascii_locale_fails_nothing(tones, tmp_path):
    folder = tones.rename(tones.with_name("tönes"))
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = ["run", "--upstream", "constant", "--task", f"folder:{folder}", "--results", tmp_path, *QUICK]
    done = marble(*words, env=ascii_only)
    assert done.returncode == 0, done.stderr
    assert "0.333 \\xb1 0.000" in done.stdout
    (document,) = json.loads(marble(*words, "--json", env=ascii_only).stdout)
    assert document["task"]["name"] == "folder:tönes"
    assert [path.parent.name for path in tmp_path.glob("constant/*/*.json")] == ["folder-tönes"]
    for words in (["ls", "results"], ["leaderboard"], ["heatmap"]):
        done = marble(*words, "--results", tmp_path, env=ascii_only)
        assert done.returncode == 0, done.stderr


def test_control_characters_in_names_reach_no_terminal(tones, tmp_path):
    folder = tones.rename(tones.with_name("a\x01\x1b[31mred\x9b"))
    (folder / "low" / "bad\x1b[2J.wav").write_text("no audio")
    words = ["run", "--upstream", "constant", "--task", f"folder:{folder}", *QUICK]
    run = marble(*words, "--results", tmp_path / "other\x1b[33m")
    there = ["--results", tmp_path / "other\x1b[33m"]
    others = [["leaderboard", *there], ["ls", "results", *there], ["ls", "results", "--results", "\x1b[34m"]]
    outputs = [run, *(marble(*other) for other in others)]
    assert "\\x1b[31m" in run.stdout
    assert "\\x1b[2J" in run.stderr
    assert "\\x1b[33m" in run.stderr
    for done in outputs:
        assert all(letter.isprintable() or letter == "\n" for letter in done.stdout + done.stderr)


def test_the_version_is_that_of_the_package():
    assert invoke("--version").stdout == f"marble {version('marble')}\n"


def test_a_plan_counts_and_writes_no_features(tones, tmp_path):
    words = ["run", "--upstream", "fbank-chroma", "--task", f"folder:{tones}", "--results", tmp_path / "results", *QUICK]
    done = invoke(*words, "--plan", "--json")
    (plan,) = json.loads(done.stdout)
    assert (plan["clips"], plan["cached"], plan["layers"], plan["probes"]) == (24, 0, 3, 3 * 2 * 6)
    assert plan["audio_hours"] == pytest.approx(24 * 0.3 / 3600, rel=0.01)
    assert plan["feature_gigabytes"] == pytest.approx(24 * 184 * 4 / 1e9)
    assert 0 < plan["encode_minutes"] + plan["probe_minutes"] < plan["total_minutes"]
    assert not (tmp_path / "results").exists()
    assert invoke(*words).exit_code == 0
    (plan,) = json.loads(invoke(*words, "--plan", "--json").stdout)
    assert (plan["cached"], plan["audio_hours"], plan["encode_minutes"]) == (24, 0, 0)


def test_lists_and_facts_as_json(tones, tmp_path):
    upstreams = json.loads(invoke("ls", "upstreams", "--json").stdout)
    assert {"name", "parameters", "sample_rate", "frame_rate", "layers", "licence"} <= set(upstreams[0])
    tasks = json.loads(invoke("ls", "tasks", "--json").stdout)
    assert {"gtzan", "synth-pitch", "folder:PATH", "table:FILE"} <= {task["name"] for task in tasks}
    protocols = json.loads(invoke("ls", "protocols", "--json").stdout)
    assert [one["name"] for one in protocols] == list(PROTOCOLS)
    omar = next(one for one in protocols if one["name"] == "omar")
    assert omar["probe"]["learning_rates"] == [1e-4]
    assert "cosine" in omar["about"]
    assert "batch_size=32" in invoke("ls", "protocols").stdout
    (fbank,) = json.loads(invoke("info", "upstream", "fbank-chroma", "--json").stdout)
    assert [layer["width"] for layer in fbank["layers"]] == [80, 12, 92]
    assert "layers: fbank (80), chroma (12), fbank+chroma (92)" in invoke("info", "upstream", "fbank-chroma").stdout
    (gtzan,) = json.loads(invoke("info", "task", "gtzan", "--json").stdout)
    assert gtzan["split_sizes"] == {"train": 442, "valid": 197, "test": 290}
    assert "rock" in invoke("info", "task", "gtzan").stdout
    (chords,) = json.loads(invoke("info", "task", "synth-chords", "--json").stdout)
    assert chords["frames"] == {"rate": None, "first": 0.0, "most": 25.0}
    rows = json.loads(invoke("info", "protocol", "omar", "--json").stdout)
    assert {"field": "early stop", "value": "none", "source": "downstream.py", "expressed": "probe.patience=none"} in rows
    assert "probe.patience=none" in invoke("info", "protocol", "omar").stdout
    invoke("run", "--upstream", "constant", "--task", f"folder:{tones}", "--results", tmp_path, *QUICK)
    (row,) = json.loads(invoke("ls", "results", "--results", tmp_path, "--json").stdout)
    assert row["task"] == "folder:tones"
    board = invoke("leaderboard", "--results", tmp_path).stdout.splitlines()
    assert board[0].startswith("task,protocol,metric,upstream,layer")
    assert len(board) == 2


def test_the_cache_is_listed_verified_and_cleaned(tones, tmp_path):
    cache = tmp_path / "cache"
    invoke("run", "--upstream", "constant", "--task", f"folder:{tones}", "--results", tmp_path, "--cache-dir", cache, *QUICK)
    (space,) = json.loads(invoke("cache", "ls", "--cache-dir", cache, "--json").stdout)
    assert (space["upstream"], space["clips"], space["layers"]) == ("constant", 24, 1)
    assert invoke("cache", "verify", "--cache-dir", cache).exit_code == 0
    (shard,) = cache.glob("features/*/*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    broken = marble("cache", "verify", "--cache-dir", cache)
    assert broken.returncode == 1
    assert "does not match its checksum" in broken.stdout
    probe, *_ = cache.glob("probes/*/*.safetensors")
    probe.write_bytes(probe.read_bytes()[:-1])
    assert invoke("cache", "verify", "--cache-dir", cache).stdout.count("damaged:") == 2
    assert "2 files removed" in invoke("cache", "gc", "--cache-dir", cache).stdout
    assert not shard.exists()
    assert not probe.exists()


@pytest.mark.parametrize("folder", ["/proc/nowhere", None])
def test_a_home_that_cannot_be_written_brings_no_words_of_libraries(tones, tmp_path, monkeypatch, folder):
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    if folder:
        monkeypatch.setenv("HOME", folder)
    else:
        monkeypatch.delenv("HOME")
    done = marble("run", "--upstream", "constant", "--task", f"folder:{tones}", "--results", tmp_path / "r", *QUICK)
    assert done.returncode == 0
    assert "heatmap: " in done.stderr
    assert "atplotlib" not in done.stderr


def test_a_folder_of_marble_that_cannot_be_written_is_told_once_and_named(tones, tmp_path, monkeypatch):
    monkeypatch.setenv("MARBLE_HOME", "/proc/nowhere")
    done = marble("run", "--upstream", "constant", "--task", f"folder:{tones}", "--results", tmp_path / "r", *QUICK)
    assert done.returncode == 1
    assert done.stderr.count("warning: cannot use /proc/nowhere/files.sqlite") == 1
    assert "choose another folder (marble's own is MARBLE_HOME), then run the same command again" in done.stderr


def test_no_folder_for_temporary_files_is_one_sentence():
    code = (
        "import sys, tempfile\ntempfile._candidate_tempdir_list = lambda: ['/proc/nowhere']\nfrom marble.cli.app import main\n"
        "sys.argv = 'marble run --upstream constant --task synth-key'.split()\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: There is no folder for temporary files that can be written: set TMPDIR to one.\n"


def test_check_tells_what_holds_and_what_does_not(tmp_path):
    assert invoke("check", "--upstream", "constant").exit_code == 0
    (tmp_path / "broken_of_a_test.py").write_text(
        "import torch\nfrom marble.upstream import Layer, Upstream, UpstreamInfo\n"
        "class Broken(Upstream):\n"
        '    info = UpstreamInfo(name="broken", sample_rate=8000, frame_rate=100.0, layers=(Layer("a", 2),))\n'
        "    def layers(self, waveform):\n        yield torch.rand(len(waveform), waveform.shape[1] // 80, 2)\n"
    )
    done = marble("check", "--upstream", "broken_of_a_test:Broken", cwd=tmp_path)
    assert done.returncode == 1
    assert "BROKEN  gives the same states twice" in done.stdout
    assert "breaks 3 of" in done.stderr  # a click is nowhere where all is random


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (["--help"], {"torch", "numpy", "pandas", "matplotlib", "datasets", "pydantic", "sklearn", "rich.table"}),
        (["ls", "protocols"], {"torch", "matplotlib", "pandas"}),
        (["ls", "suites"], {"torch", "matplotlib", "pandas"}),
        (["ls", "results", "--results", "RESULTS"], {"torch", "matplotlib", "pandas"}),
        (["leaderboard", "--with-published", "--results", "RESULTS"], {"torch", "matplotlib"}),
        (["heatmap", "--results", "RESULTS"], {"torch", "pandas"}),
        (["report", "--results", "RESULTS"], {"torch", "matplotlib"}),
    ],
)
def test_what_needs_no_torch_loads_none(tones, tmp_path, words, unused):
    if "RESULTS" in words:
        invoke("run", "--upstream", "constant", "--task", f"folder:{tones}", "--results", tmp_path, *QUICK)
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom marble.cli.app import app\n"
        f"done = CliRunner().invoke(app, {[str(tmp_path) if word == 'RESULTS' else word for word in words]})\n"
        f"assert done.exit_code == 0\nprint({unused} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_two_data_sets_of_one_name_are_two_columns_and_a_name_is_taken(tones, tmp_path):
    folders = [tmp_path / place / "data" for place in ("one", "two")]
    for folder in folders:
        shutil.copytree(tones, folder)
    shutil.move(folders[1] / "low" / "0.wav", folders[1] / "high" / "0 .wav")
    task = ",".join(f"folder:{folder}" for folder in folders)
    words = ["run", "--upstream", "constant", "--results", tmp_path / "r", *QUICK]
    done = invoke(*words, "--task", task)
    assert done.exit_code == 0, done.stderr
    assert all(f"folder:data ({place}/data)" in done.stdout for place in ("one", "two"))
    svg = next((tmp_path / "r/constant").glob("heatmap-*.svg")).read_text()
    assert "(one/data)" in svg
    assert "(two/data)" in svg
    rows = json.loads(invoke("ls", "results", "--results", tmp_path / "r", "--json").stdout)
    assert sorted(row["task"] for row in rows) == ["folder:data (one/data)", "folder:data (two/data)"]
    invoke(*words, "--task", f"folder:{folders[0]}", "--name", "first")
    board = invoke("leaderboard", "--results", tmp_path / "r").stdout
    assert [line.split(",")[0] for line in board.splitlines()[1:]] == [
        "folder:data (one/data)",
        "folder:data (two/data)",
        "folder:first",
    ]
    refused = invoke(*words, "--task", task, "--name", "both")
    assert "--name both names one task, but there are 2: run each on its own" in str(refused.exception)


def test_what_a_task_does_not_take_is_one_sentence(tones):
    for words, sentence in (
        (["--task", "gtzan", "--group", "parent"], "'gtzan' has a name and splits of its own: --name, --group and split.valid"),
        (
            ["--task", f"folder:{tones}", "--group", "kit"],
            "A folder has no column 'kit' for --group: write parent or regex:PATTERN",
        ),
        (["--task", f"folder:{tones}", "--set", "split.valid=2"], "--set split.valid: input should be less than 1, got '2'"),
        (["--task", f"folder:{tones}", "--set", "split.valid=0.2"], "states no split: leave it out"),
        (["--task", f"folder:{tones}", "--limit", "1"], "--limit 1 leaves one class to train on, or none: allow more tracks"),
    ):
        done = invoke("run", "--upstream", "constant", *words)
        assert sentence in done.stderr
        assert done.exit_code == 1


def test_a_mean_over_some_of_the_tags_says_so_under_its_table(tones, tmp_path):
    files = sorted(tones.rglob("*.wav"))
    lines = [
        f"{file},{file.parent.name}{';rare' if not number else ''},{('train', 'valid', 'test')[number % 3]}"
        for number, file in enumerate(files)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["path,labels,split", *lines]))
    done = invoke("run", "--upstream", "constant", "--task", f"table:{tmp_path}/t.csv", "--results", tmp_path / "r", *QUICK)
    assert "roc_auc: mean over 3 of 4 labels" in " ".join(done.stdout.split())
    assert "roc_auc and average_precision of test: the mean over 3 of 4 labels" in done.stderr
