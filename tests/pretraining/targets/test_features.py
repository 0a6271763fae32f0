"""Target features: their grids and orders, the constant-Q transform against its definition, and EnCodec where it can run."""

import math
import sys

import numpy as np
import pytest
import torch

from marble.errors import MarbleError
from marble.pretraining.targets.features import CQT, CQTPatches, EncodecPatches, StackedMel
from marble.upstreams.nn.mel import DecibelMel
from marble.upstreams.nn.patches import OMAR_MEL, MelPatches, WaveformInput, WaveformPatches, patches_of

RATE = 24_000
QUALITY = (2 ** (1 / 12) + 1) / (2 ** (1 / 12) - 1)  # of 24 bins an octave


def frequency(k):
    return 32.703 * 2 ** (k / 24)


def noise(*shape, seed=0):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mel_patches(frames):
    return MelPatches(OMAR_MEL.model_copy(update={"sample_rate": RATE, "hop": 320, "frames": frames}))


FEATURES = [
    (StackedMel(0.0, 1.0), 750, 512),
    (mel_patches(3), 750, 288),
    (mel_patches(4), 562, 384),
    (CQTPatches(3), 750, 564),
    (CQTPatches(4), 562, 752),
    (WaveformPatches(WaveformInput(sample_rate=RATE, samples=960)), 750, 960),
    (WaveformPatches(WaveformInput(sample_rate=RATE, samples=1280)), 562, 1280),
]


@pytest.mark.parametrize(("feature", "tokens", "width"), FEATURES)
def test_thirty_seconds_have_their_tokens_and_stay_float32_under_autocast(feature, tokens, width):
    waveform = noise(1, 30 * RATE)
    found = feature(waveform)
    assert found.shape == (1, tokens, width) == (1, 30 * RATE // feature.hop, feature.width)
    assert feature.sample_rate == RATE
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(feature(waveform), found, rtol=1e-5, atol=1e-5)
    assert not list(feature.parameters())


@pytest.mark.parametrize("samples", [9600, 10_559, 10_560])
def test_mel_is_stacked_frame_by_frame(samples):
    waveform = noise(2, samples)
    mel = DecibelMel(-3.0, 14.0)(waveform)
    stacked = StackedMel(-3.0, 14.0)(waveform)
    assert stacked.shape[1] == samples // 960
    for frame in range(4):
        assert torch.equal(stacked[:, 5, 128 * frame : 128 * (frame + 1)], mel[:, :, 20 + frame])


def test_patches_are_flattened_band_by_band():
    bands = torch.arange(2 * 3 * 8.0).view(2, 3, 8)
    assert patches_of(bands, 3)[1, 1].tolist() == bands[1, :, 3:6].flatten().tolist()
    waveform = noise(1, 9600)
    expected = ((1 + 10_000 * CQT()(waveform).square()).log10() - 4.754879065310596) / 1.9055732535255916
    torch.testing.assert_close(CQTPatches(3)(waveform)[0, 2], expected[0, :, 6:9].flatten())


def test_the_cqt_has_the_hops_and_sizes_of_omar_rq():
    cqt = CQT()
    assert cqt.hops == [320, 160, 80, 40, 20, 10, 5, 5]
    assert [2 * (cqt.get_buffer(f"wavelets{i}").shape[1] - 1) for i in range(8)] == [256] * 7 + [512]
    assert cqt(noise(1, 720_000)).shape == (1, 188, 2251)


def test_a_tone_peaks_in_its_bin_with_half_its_amplitude_times_the_length_of_the_wavelet():
    cqt = CQT()
    time = torch.arange(4 * RATE, dtype=torch.float64) / RATE
    for k in (0, 1, 23, 24, 47, 48, 95, 119, 143, 144, 167, 168, 187):
        tone = 0.3 * torch.sin(2 * math.pi * frequency(k) * time)
        found = cqt(tone.float()[None])[0, :, 150]
        assert found.argmax() == k
        assert found[k] == pytest.approx(0.15 * QUALITY * RATE / frequency(k), rel=0.01)
    torch.testing.assert_close(cqt(2 * tone.float()[None]), 2 * cqt(tone.float()[None]))


def test_the_recursive_cqt_is_the_direct_one():
    waveform = noise(1, 3 * RATE)
    found = CQT()(waveform)[0].numpy()
    samples = waveform[0].double().numpy()
    for k in (0, 10, 30, 60, 100, 130, 160, 187):
        length = QUALITY * RATE / frequency(k)
        time = np.arange(-length // 2, length // 2)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(len(time)) / len(time))
        wavelet = window / window.sum() * length * np.exp(-2j * np.pi * frequency(k) / RATE * time)
        centres = range(100, 125)
        direct = [abs(samples[320 * m + time.astype(int)] @ wavelet) for m in centres]
        # High up, where a wavelet is short, half a sample of its centre counts for more.
        np.testing.assert_allclose(found[k, list(centres)], direct, atol=(0.01 if k < 110 else 0.03) * max(direct))


def test_a_length_at_which_the_octaves_differ_in_frames_is_no_error():
    assert CQT()(noise(1, 48_319)).shape == (1, 188, 151)


def test_encodec_gives_the_standardised_values_before_its_quantiser(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.EncodecModel(transformers.EncodecConfig(num_filters=2, num_lstm_layers=1))
    model.save_pretrained(tmp_path)
    feature = EncodecPatches(3, tmp_path)
    waveform = noise(2, 9600)
    found = feature(waveform)
    assert found.shape == (2, 10, 384)
    expected = (model.eval().encoder(waveform[:, None]) + 0.5577428463574771) / 5.863781862801963
    torch.testing.assert_close(found[:, 4], expected[:, :, 12:15].flatten(1))
    assert not found.requires_grad
    assert not feature.state_dict()


def test_encodec_without_its_weights_is_a_sentence(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(MarbleError, match=r"EnCodec cannot be loaded from .*: fetch config.json and model.safetensors from"):
        EncodecPatches(3, tmp_path)


def test_encodec_without_transformers_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MarbleError, match=r"need transformers: pip install 'marble\[encodec\]'\.$"):
        EncodecPatches(3)
