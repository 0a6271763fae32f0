"""The feature cache: what is a hit and what a miss, and what it survives."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from marble.audio import decode as audio
from marble.errors import MarbleError
from marble.features import encode as extraction
from marble.features.cache import FORMAT, FeatureCache, Space, clip_key
from marble.features.encode import Excerpt, extract
from marble.features.reduction import REDUCTIONS
from marble.features.space import Windows, describe_space, resolve_windows
from marble.system.files import atomic_write, file_hash, locked

RATE = 8000
ALL = [0, 1, 2, 3, 4]
MEAN = REDUCTIONS["mean"]


def sounds(folder: Path, count: int, seconds: float = 0.3) -> list[Path]:
    """Files of noise."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, round(seconds * RATE))
        soundfile.write(folder / f"{number}.wav", noise, RATE)
    return [folder / f"{number}.wav" for number in range(count)]


def run(net, root: Path, paths, layers=ALL, *, start=0.0, stop=None, **wishes):
    """Extract, and return what was done, the space and the keys."""
    net.prepare("cpu", net.precision or "fp32")
    windows = resolve_windows(Windows(**wishes), None, net)
    space = FeatureCache(root).space(describe_space(net, windows, MEAN))
    keys = [clip_key(file_hash(path), start, stop) for path in paths]
    excerpts = [Excerpt(key, path, start, stop) for key, path in zip(keys, paths, strict=True)]
    return extract(net, space, excerpts, layers, windows, MEAN, workers=1), space, keys


@pytest.fixture
def filled(small_net, tmp_path):
    """Five clips of the small net in the cache, in shards of two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "SHARD_CLIPS", 2)
        paths = sounds(tmp_path / "sounds", 5)
        done, space, keys = run(small_net.Net(), tmp_path / "cache", paths)
        assert done.clips == 5
        yield paths, space, keys, [space.read(keys, layer)[0] for layer in ALL]


@pytest.fixture
def hand_made(tmp_path):
    """A space with one shard of three clips and two layers, and what is in it."""
    space = FeatureCache(tmp_path / "cache").space({"upstream": "none", "format": FORMAT})
    layers = {layer: np.random.default_rng(layer).normal(size=(5, 3)).astype(np.float32) for layer in (0, 7)}
    return space, space.write(["a", "b", "c"], [1, 3, 1], layers), layers


def shards(space: Space) -> list[Path]:
    return sorted(space.folder.glob("*.safetensors"))


# What is a hit and what is a miss


def test_the_same_work_is_a_hit_wherever_it_is_asked_for(small_net, tmp_path, filled):
    paths, _, _, features = filled
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    renamed = [path.rename(moved / f"take {path.name}") for path in paths]
    os.utime(renamed[0])
    done, space, keys = run(small_net.Net(), tmp_path / "cache", renamed[::-1])
    assert done.clips == 0
    np.testing.assert_array_equal(space.read(keys[::-1], 3)[0], features[3])


@pytest.mark.parametrize(
    ("what", "wishes"),
    [
        ("weights", {}),
        ("version", {}),
        ("sample rate", {}),
        ("shortest input", {}),
        ("precision", {}),
        ("decoder", {}),
        ("source", {}),
        ("audio byte", {}),
        ("window", {"seconds": 1.0}),
        ("hop", {"hop": 1.5}),
        ("tail", {"tail": 0.5}),
        ("start", {"start": 0.1}),
        ("stop", {"stop": 0.2}),
        ("padding", {"short": "padded"}),
        ("level", {"level": "standard"}),
    ],
)
def test_whatever_can_change_a_number_is_a_miss(small_net, tmp_path, filled, monkeypatch, what, wishes):
    paths, *_ = filled
    net = small_net.Net(seed=int(what == "weights"))
    changes = {"version": {"version": 2}, "sample rate": {"sample_rate": 7000}, "shortest input": {"min_seconds": 0.2}}
    net.info = replace(net.info, **changes.get(what, {}), precisions=("fp32", "bf16"))
    if what == "precision":
        net.precision = "bf16"
    if what == "decoder":
        monkeypatch.setattr(audio, "VERSION", audio.VERSION + 1)
    if what == "source":
        shutil.copy(small_net.__file__, tmp_path / "net.py")
        with (tmp_path / "net.py").open("a") as file:
            file.write("# an experiment\n")
        monkeypatch.setattr(small_net, "__file__", str(tmp_path / "net.py"))
    if what == "audio byte":
        content = bytearray(paths[0].read_bytes())
        content[-2] ^= 1
        paths[0].write_bytes(content)
    done, *_ = run(net, tmp_path / "cache", paths, **wishes)
    assert done.clips == (1 if what == "audio byte" else 5)
    assert run(net, tmp_path / "cache", paths, **wishes)[0].clips == 0


def test_more_layers_later_store_only_those(small_net, tmp_path):
    paths = sounds(tmp_path / "sounds", 3)
    run(small_net.Net(), tmp_path / "cache", paths, [0, 1])
    net = small_net.Net()
    done, space, keys = run(net, tmp_path / "cache", paths)
    assert done.clips == 3
    sizes = sorted(path.stat().st_size for path in shards(space))
    assert len(sizes) == 2
    assert sizes[1] - sizes[0] < 3 * 16 * 4 + 400  # three new layers beside two old ones
    assert run(net, tmp_path / "cache", paths, [2])[0].clips == 0
    _, once, _ = run(small_net.Net(), tmp_path / "once", paths)
    for layer in ALL:
        np.testing.assert_array_equal(space.read(keys, layer)[0], once.read(keys, layer)[0])


def test_more_clips_later_encode_only_those(small_net, tmp_path, filled):
    _, _, keys, features = filled
    more = sounds(tmp_path / "more", 8)
    done, space, all_keys = run(small_net.Net(), tmp_path / "cache", more)
    assert done.clips == 3
    assert all_keys[:5] == keys
    np.testing.assert_array_equal(space.read(keys, 4)[0], features[4])


def test_reading_gives_any_clips_in_any_order(hand_made):
    space, _, layers = hand_made
    fresh = Space(space.folder)
    fresh.refresh()
    values, counts = fresh.read(["c", "b", "c"], 7)
    np.testing.assert_array_equal(values, layers[7][[4, 1, 2, 3, 4]])
    assert counts.tolist() == [1, 3, 1]
    with pytest.raises(MarbleError, match="1 clips are no longer in the cache"):
        fresh.read(["a", "x"], 7)
    assert fresh.size() == (3, [0, 7], shards(space)[0].stat().st_size)


# Damage


def answers(space: Space, keys: list[str], layers: list[int]) -> list[np.ndarray | None]:
    """What a cache gives for each layer: features, or None where it misses them or finds them damaged."""
    found: list[np.ndarray | None] = []
    for layer in layers:
        try:
            found.append(None if space.missing(keys, [layer]) else space.read(keys, layer)[0])
        except MarbleError:
            found.append(None)
    return found


def test_no_flipped_byte_is_ever_read(hand_made):
    space, path, layers = hand_made
    whole = path.read_bytes()
    for place in range(len(whole)):
        for value in {whole[place] ^ 1, whole[place] ^ 0xFF, ord("I"), ord("0")} - {whole[place]}:
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            fresh = Space(space.folder)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                fresh.refresh()
                for key, rows in (("a", slice(0, 1)), ("b", slice(1, 4)), ("c", slice(4, 5))):
                    for layer, values in zip((0, 7), answers(fresh, [key], [0, 7]), strict=True):
                        assert values is None or np.array_equal(values, layers[layer][rows])
            assert path.exists() == (not told)
            path.with_suffix(".damaged").unlink(missing_ok=True)


@pytest.mark.parametrize("left", [0, 7, 300, -1])
def test_a_truncated_shard_is_set_aside_at_once(hand_made, left):
    space, path, _ = hand_made
    path.write_bytes(path.read_bytes()[:left])
    assert [damaged for damaged, _ in space.damaged()] == [path]
    fresh = Space(space.folder)
    with pytest.warns(UserWarning, match="set aside the damaged shard"):
        fresh.refresh()
    assert fresh.missing(["a"], [0]) == ["a"]
    assert [file.suffix for file in space.folder.iterdir()].count(".damaged") == 1


def test_a_damaged_shard_is_encoded_again(small_net, tmp_path, filled):
    paths, space, keys, features = filled
    path = shards(space)[1]
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)
    assert [damaged for damaged, _ in space.damaged()] == [path]
    fresh = Space(space.folder)
    fresh.refresh()
    with pytest.warns(UserWarning, match="set aside"), pytest.raises(MarbleError, match="A shard of the cache was damaged"):
        [fresh.read(keys, layer) for layer in ALL]
    lost = len(fresh.missing(keys, ALL))
    assert lost in (1, 2)
    net = small_net.Net()
    done, again, _ = run(net, tmp_path / "cache", paths)
    assert done.clips == net.runs[0] == lost
    for layer in ALL:
        np.testing.assert_array_equal(again.read(keys, layer)[0], features[layer])
    assert not again.damaged()
    assert [reason for _, reason in FeatureCache(tmp_path / "cache").collect()] == ["damaged"]


def test_a_shard_that_another_process_mended_is_seen(hand_made):
    space, path, layers = hand_made
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    fresh = Space(space.folder)
    with pytest.warns(UserWarning, match="set aside"):
        fresh.refresh()
    path.write_bytes(whole)
    fresh.refresh()
    np.testing.assert_array_equal(fresh.read(["a", "b", "c"], 7)[0], layers[7])


def test_a_damaged_description_is_written_anew(small_net, tmp_path, filled):
    paths, space, _, _ = filled
    (space.folder / "space.json").write_text('{"upstream": ')
    with pytest.raises(MarbleError, match=r"space.json is damaged .*: remove it"):
        _ = space.description
    done, space, _ = run(small_net.Net(), tmp_path / "cache", paths)
    assert done.clips == 0
    assert space.description["upstream"] == "small-net"


def test_a_removed_shard_is_told(filled):
    _, space, keys, _ = filled
    shards(space)[0].unlink()
    with pytest.raises(MarbleError, match=r"Cannot read .* run the same command again"):
        space.read(keys, 0)


# Many processes


def test_two_processes_share_the_work(processes, tmp_path):
    for number, path in enumerate(sounds(tmp_path / "sounds", 48)):
        label = tmp_path / "sounds" / f"class {number % 2}"
        label.mkdir(exist_ok=True)
        path.rename(label / path.name)
    folder = tmp_path / "run"
    started = [processes.start(folder, tmp_path / "sounds", how={"seeds": 1}) for _ in range(3)]
    assert [processes.wait(process) for process in started] == [0, 0, 0], (folder / "says").read_text()
    heard = processes.encoded(folder)
    assert len(set(heard)) == len(heard) == 48
    (space,) = FeatureCache(folder / "home/cache").spaces()
    assert not space.damaged()
    assert space.size()[0] == 48


def test_processes_with_different_tasks_over_the_same_audio_encode_no_clip_twice(processes, tmp_path):
    for number, path in enumerate(sounds(tmp_path / "sounds", 48)):
        for task in range(3):
            label = tmp_path / f"task {task}" / f"class {number // 2**task % 2}"
            label.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, label / f"{(number * 11 + 5 * task) % 48}.wav")
    folder = tmp_path / "run"
    started = [processes.start(folder, tmp_path / f"task {task}", how={"seeds": 1}) for task in range(3)]
    assert [processes.wait(process) for process in started] == [0, 0, 0], (folder / "says").read_text()
    heard = processes.encoded(folder)
    assert len(set(heard)) == len(heard) == 48


def test_a_clip_that_another_process_holds_is_left_for_later(small_net, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD_CLIPS", 2)
    paths = sounds(tmp_path / "sounds", 6)
    net = small_net.Net().prepare("cpu")
    _, space, keys = run(net, tmp_path / "cache", [])
    keys = [clip_key(file_hash(path), 0.0, None) for path in paths]
    with locked(space.clip_path(keys[0]), wait=True):
        work = threading.Thread(target=run, args=(net, tmp_path / "cache", paths))
        work.start()
        end = time.monotonic() + 20
        while net.runs[4] < 5 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)
        assert net.runs[4] == 5
    work.join(20)
    assert net.runs[4] == 6


def test_the_lock_of_a_killed_process_is_free(small_net, tmp_path):
    paths = sounds(tmp_path / "sounds", 1)
    _, space, _ = run(small_net.Net(), tmp_path / "cache", [])
    lock = space.clip_path(clip_key(file_hash(paths[0]), 0.0, None)).with_suffix(".lock")
    script = f"import filelock, time; filelock.FileLock({str(lock)!r}).acquire(); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert lock.exists()
    assert run(small_net.Net(), tmp_path / "cache", paths)[0].clips == 1


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "\xff"])
def test_a_damaged_description_is_one_sentence(hand_made, content):
    space, _, _ = hand_made
    (space.folder / "space.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(MarbleError, match=r"space\.json is damaged .*: remove it and run again"):
        _ = space.description


# Folders that are full or closed


@contextmanager
def mounted(folder: Path, options: str):
    """A small file system of its own; skips where that is not allowed."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def assert_clean(root: Path) -> None:
    assert not [path for path in root.rglob("*") if path.suffix in (".part", ".damaged", ".lock")]


def test_a_full_disk_is_one_sentence_and_the_same_command_continues(small_net, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD_CLIPS", 2)
    paths = sounds(tmp_path / "sounds", 6)
    with mounted(tmp_path / "disk", "size=48k"):
        (tmp_path / "disk/balloon").write_bytes(bytes(36_000))
        with pytest.raises(MarbleError, match=r"Cannot write .* \(no space left on device\): make room or choose another"):
            run(small_net.Net(), tmp_path / "disk/cache", paths)
        assert_clean(tmp_path / "disk")
        (tmp_path / "disk/balloon").unlink()
        done, space, keys = run(small_net.Net(), tmp_path / "disk/cache", paths)
        assert 0 < done.clips < 6
        assert not space.missing(keys, ALL)
        assert not space.damaged()


def test_a_file_that_may_not_grow_is_one_sentence_and_the_same_command_continues(processes, tmp_path):
    for number, path in enumerate(sounds(tmp_path / "sounds", 30)):
        label = tmp_path / "sounds" / f"class {number % 2}"
        label.mkdir(exist_ok=True)
        path.rename(label / path.name)
    folder = tmp_path / "run"
    assert processes.wait(processes.start(folder, tmp_path / "sounds", largest_file=3000)) == 1
    # A slow machine notes the hashes of its files as well, and warns that it cannot.
    (said,) = [line for line in (folder / "says").read_text().splitlines() if line.startswith("error")]
    assert said.startswith("error: Cannot write ")
    assert said.endswith("then run the same command again; what was finished is kept.")
    assert_clean(folder)
    assert processes.wait(processes.start(folder, tmp_path / "sounds")) == 0
    assert len(processes.encoded(folder)) == 8 + 30


def test_a_folder_that_may_only_be_read_serves_what_it_has(small_net, tmp_path):
    paths = sounds(tmp_path / "sounds", 3)
    with mounted(tmp_path / "disk", "size=1m"):
        run(small_net.Net(), tmp_path / "disk/cache", paths[:2])
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        assert run(small_net.Net(), tmp_path / "disk/cache", paths[:2])[0].clips == 0
        with pytest.raises(MarbleError, match=r"Cannot write .*read-only file system"):
            run(small_net.Net(), tmp_path / "disk/cache", paths)
        with pytest.raises(MarbleError, match=r"Cannot write .*read-only file system"):
            run(small_net.Net(), tmp_path / "disk/other", paths)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_forbidden_folder_is_one_sentence(small_net, tmp_path, filled):
    paths, space, _, _ = filled
    space.folder.chmod(0o500)
    assert run(small_net.Net(), tmp_path / "cache", paths)[0].clips == 0
    with pytest.raises(MarbleError, match=r"Cannot write .*permission denied"):
        run(small_net.Net(), tmp_path / "cache", sounds(tmp_path / "more", 8))
    space.folder.chmod(0o700)


def test_a_file_where_the_folder_should_be_is_one_sentence(small_net, tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(MarbleError, match="Cannot write"):
        run(small_net.Net(), tmp_path / "cache", [])


def test_a_write_is_whole_or_nothing(tmp_path):
    path = tmp_path / "folder/a.txt"
    with atomic_write(path) as beside:
        beside.write_text("one")
        assert not path.exists()
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as beside:
        beside.write_text("two \udcff")
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


# Looking after it


def test_collecting_removes_what_nobody_can_use(tmp_path, filled):
    _, space, *_ = filled
    cache = FeatureCache(tmp_path / "cache")
    assert cache.collect() == []
    old, new = space.folder / ".a.part", space.folder / ".b.part"
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    path = shards(space)[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert {removed for removed, _ in cache.collect()} == {old, path}
    assert new.exists()
    assert len(shards(space)) == 2
    assert [one.folder for one in cache.spaces()] == [space.folder]
    assert cache.collect(older_than_days=1) == []
    os.utime(space.folder / "space.json", (0, 0))
    assert len(cache.collect(older_than_days=1)) == 4
    assert not space.folder.exists()
    assert cache.spaces() == []


def test_collecting_keeps_a_young_checkpoint(tmp_path):
    young, old = (tmp_path / f"probes/ab/{name}.stopped" for name in ("young", "old"))
    for path, days in ((young, 6), (old, 8)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (time.time() - days * 86400,) * 2)
    assert FeatureCache(tmp_path).collect() == [(old, "stopped a week ago")]


def test_using_a_space_keeps_it_young(small_net, tmp_path, filled):
    paths, space, _, _ = filled
    os.utime(space.folder / "space.json", (0, 0))
    run(small_net.Net(), tmp_path / "cache", paths)
    assert FeatureCache(tmp_path / "cache").collect(older_than_days=1) == []
