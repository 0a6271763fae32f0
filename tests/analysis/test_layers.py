"""Layers are compared over the same audio, frame by frame or clip by clip, whatever the rates."""

import json

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

import marble
import marble.audio.decode
from marble import registry
from marble.analysis.figures import similarity_curves, similarity_matrix
from marble.analysis.layers import cca, overlap_weights
from marble.analysis.similarity import MEASURES, similarity
from marble.cli.app import app
from marble.errors import MarbleError
from marble.upstream import Layer, Upstream, UpstreamInfo


class Blocks(Upstream):
    """Mean, power and crossings of each block of 800 samples at 16 kHz: 20 frames a second, the first centred at 25 ms."""

    info = UpstreamInfo(name="blocks", sample_rate=16_000, frame_rate=20, layers=(Layer("all", 3), Layer("power", 1)))

    def layers(self, waveform):
        blocks = waveform.unfold(1, 800, 800)
        parts = [blocks.mean(2), blocks.square().mean(2), (blocks[..., 1:] * blocks[..., :-1] < 0).float().mean(2)]
        yield torch.stack(parts, dim=2)
        yield parts[1][..., None].log()

    def frame_times(self, frames):
        return 0.025 + torch.arange(frames, dtype=torch.float64) / 20


class Vector(Blocks):
    """The mean of each of the two layers."""

    def layers(self, waveform):
        first, second = super().layers(waveform)
        yield first
        yield second.mean(1, keepdim=True)


def of(table, measure):
    return table[table["measure"] == measure].set_index(["first_layer", "second_layer"])["value"].to_dict()


def frames_by_hand(folder):
    """Frames of both layers of all clips, and of the log-mel spectrogram averaged over each block by its overlap."""
    mel, blocks = registry.load_upstream("fbank-chroma").prepare("cpu"), Blocks().eval()
    rows = []
    for path in sorted(folder.rglob("*.wav")):
        samples = torch.from_numpy(marble.audio.decode.load(path, 16_000))[None]
        own = [layer[0].numpy() for layer in blocks.layers(samples)]
        fast = next(iter(mel.layers(torch.from_numpy(marble.audio.decode.load(path, 24_000))[None])))[0].numpy()
        # Of eleven frames every 10 ms, five lie inside of a block of 50 ms, and the two at its edges by half.
        weights = np.array([0.5, 1, 1, 1, 1, 0.5]) / 5
        slow = np.stack([weights @ fast[5 * k : 5 * k + 6] for k in range(len(own[0]))])
        rows.append([own[0], own[1], slow])
    return [np.concatenate(part) for part in zip(*rows, strict=True)]


def test_frames_are_those_of_the_same_time(noises):
    table = marble.cca(Blocks(), noises, seed=3)
    all_of, power, mel = frames_by_hand(noises)
    assert set(table["count"]) == {len(power)}
    seen = {measure: of(table, measure) for measure in MEASURES}
    for layer, rows in enumerate((all_of, power)):
        for measure, value in similarity(rows, mel).values.items():
            if measure != "pwcca_google":
                assert seen[measure][layer, 0] == pytest.approx(value, abs=1e-4), (layer, measure)
    assert (table["null"] < table["value"] + 0.05).all()
    assert table["second"].unique() == ["input"]


def test_layers_among_each_other_and_against_another_upstream(noises):
    options = {"measures": ["linear_cka", "mean_cca"]}
    own = cca(Blocks(), noises, "layers", **options)
    all_of, power, _ = frames_by_hand(noises)
    cka = of(own, "linear_cka")
    assert set(cka) == {(0, 0), (0, 1), (1, 1)}
    assert cka[0, 0] == pytest.approx(1)
    assert cka[0, 1] == pytest.approx(similarity(all_of, power).values["linear_cka"], abs=1e-5)
    again = cca(Blocks(), noises, Blocks(), **options)
    assert {pair: value for pair, value in of(again, "linear_cka").items() if pair in cka} == pytest.approx(cka, abs=1e-6)
    with pytest.warns(UserWarning, match="layer 1 of fbank-chroma has 12 units of rank 11: .* of 1 more layers"):
        other = cca(Blocks(), noises, "fbank-chroma", **options)
    assert set(of(other, "mean_cca")) == {(a, b) for a in range(2) for b in range(3)}
    assert of(other, "mean_cca")[0, 0] == pytest.approx(of(cca(Blocks(), noises, **options), "mean_cca")[0, 0], abs=1e-6)
    figures = similarity_matrix(own, "mean_cca"), similarity_matrix(other), similarity_curves(cca(Blocks(), noises))
    shown = figures[0].axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, [[1, of(own, "mean_cca")[0, 1]], [of(own, "mean_cca")[0, 1], 1]], atol=1e-9)
    assert figures[1].axes[0].images[0].get_array().shape == (2, 3)
    with pytest.raises(MarbleError, match="no 'svcca' in the table: it has linear_cka, mean_cca"):
        similarity_matrix(own, "svcca")


def test_the_curve_draws_the_values_and_their_null(noises):
    table = cca("fbank-chroma", noises, measures=["debiased_cka"])
    axes = similarity_curves(table, "debiased_cka").axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), table["value"])
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), table["null"])
    assert axes.get_ylabel() == "debiased CKA"


def test_clips_are_means_over_windows_from_the_cache(noises):
    with pytest.warns(UserWarning, match="layer 0 of fbank-chroma has 80 units but only 12 rows"):
        table = cca("fbank-chroma", noises, "layers", rows="clips", measures=["linear_cka", "svcca"])
    assert table["value"].max() <= 1 + 1e-9
    assert set(table["first_directions"]) == {2}
    assert set(table["count"]) == {12}
    mel = registry.load_upstream("fbank-chroma").prepare("cpu")
    rows = []
    for path in sorted(noises.rglob("*.wav")):
        states = mel.layers(torch.from_numpy(marble.audio.decode.load(path, 24_000))[None])
        rows.append([layer[0].mean(0).numpy() for layer in states])
    first, second, _ = (np.stack(part) for part in zip(*rows, strict=True))
    assert of(table, "linear_cka")[0, 1] == pytest.approx(similarity(first, second).values["linear_cka"], abs=1e-5)


def test_the_seed_decides_the_null_alone(noises):
    tables = [cca(Blocks(), noises, measures=["linear_cka"], seed=seed) for seed in (0, 0, 1)]
    assert tables[0].equals(tables[1])
    assert tables[0]["value"].tolist() == pytest.approx(tables[2]["value"].tolist(), abs=1e-9)
    assert tables[0]["null"].tolist() != tables[2]["null"].tolist()


def test_a_clip_that_cannot_be_read_is_counted(noises):
    soundfile.write(noises / "dark/1.wav", np.full(4000, np.nan, dtype=np.float32), 16_000, subtype="FLOAT")
    with pytest.warns(UserWarning, match="1 of 12 clips were left out; the first "):
        assert len(cca(Blocks(), noises, measures=["linear_cka"])) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": "pooled"}, "no rows 'pooled': write frames or clips"),
        ({"measures": ["cka"]}, "no measure 'cka'"),
        ({"layers": "weighted"}, "leave 'weighted' out"),
        ({"layers": "7"}, "'7' names no layer"),
        ({"against": "fbank-chrom"}, "did you mean fbank-chroma"),
    ],
)
def test_mistakes_are_sentences(noises, arguments, message):
    with pytest.raises(MarbleError, match=message):
        cca(Blocks(), noises, **arguments)


def test_a_layer_without_frames_is_refused(noises):
    with pytest.raises(MarbleError, match="Layer 1 of blocks is one vector a window and has no frames"):
        cca(Vector(), noises)


def test_overlap_weights_share_out_each_slow_frame():
    slow, fast = 0.1 + np.arange(4) / 10, np.arange(60) / 100
    weights = overlap_weights(slow, 10, fast, 100)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights @ fast, slow)
    assert overlap_weights(np.array([0.0]), 10, fast, 100).sum() == pytest.approx(0.55)
    np.testing.assert_allclose(overlap_weights(fast, 100, fast, 100), np.eye(60), atol=1e-9)


def test_the_command_prints_a_table_or_json_and_draws(noises, tmp_path):
    words = ["cca", "--upstream", "fbank-chroma", "--task", f"folder:{noises}", "--results", str(tmp_path / "results")]
    with pytest.warns(UserWarning, match="of rank 11"):
        done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "fbank-chroma: similarity over" in done.stdout
    assert "1.000 (0." in done.stdout
    (drawn,) = (tmp_path / "results").rglob("cca-input.svg")
    assert drawn.stat().st_size > 5000
    chosen = ["--against", "layers", "--measures", "linear_cka", "--json", "--figure", str(tmp_path / "a.pdf")]
    done = CliRunner().invoke(app, [*words, *chosen])
    rows = json.loads(done.stdout)
    assert [(row["first_layer"], row["second_layer"]) for row in rows] == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    done = CliRunner().invoke(app, [*words[:2], "fbank-chroma,constant", *words[3:], "--against", "layers"])
    assert "give one --upstream beside --against layers" in str(done.exception)
