"""The tokens of every OMAR-RQ recipe against its formulas, written out in float64 from the published configurations."""

import numpy as np
import pytest
import torch
from torch import nn

from marble.pretraining.recipes import RECIPES
from marble.pretraining.targets import features
from marble.pretraining.targets.target import make_target
from marble.registry import find_upstream

# Mean and std of the configurations with random projections, and of that with finite scalars.
FIRST = {
    "cqt": (4.754879065310596, 1.9055732535255916),
    "encodec": (-0.5577428463574771, 5.863781862801963),
    "mel": (2.06755686098554, 1.268292820667291),
    "waveform": (0.0, 1.0),
}
NEW = FIRST | {
    "cqt": (5.175809567648937, 1.9251926999183888),
    "mel": (1.860820794608335, 1.2249547514586288),
    "waveform": (0.0, 0.1908563740990311),
}
# Rate, hop of a frame, frames in a token, statistics, codes (of codebooks, or all of the finite scalars).
MODELS = {
    "omar-rq-base": (16_000, 256, 4, FIRST, (8192, 1)),
    "omar-rq-multicodebook": (16_000, 256, 4, FIRST, (8192, 4)),
    "omar-rq-multifeature": (24_000, 320, 4, FIRST, (8196, 1)),
    "omar-rq-multifeature-25hz": (24_000, 320, 3, FIRST, (8196, 1)),
    "omar-rq-multifeature-25hz-fsq": (24_000, 320, 3, NEW, None),
}
# Tokens 8 to 10 of `music`, as the formulas below gave them.
REFERENCE = {
    "omar-rq-base": {"mel": [172, 3220, 1179]},
    "omar-rq-multicodebook": {"mel": [172, 3220, 1179, 4567, 4001, 6299, 4433, 2312, 5795, 3818, 6229, 5554]},
    "omar-rq-multifeature": {
        "cqt": [6076, 5468, 7669],
        "encodec": [65, 418, 3981],
        "mel": [172, 4826, 2244],
        "waveform": [3120, 6778, 5961],
    },
    "omar-rq-multifeature-25hz": {
        "cqt": [8028, 8120, 8028],
        "encodec": [4121, 8168, 6792],
        "mel": [374, 3050, 3771],
        "waveform": [460, 3111, 7275],
    },
    "omar-rq-multifeature-25hz-fsq": {
        "cqt": [1777, 2035, 1819],
        "encodec": [0, 1104, 7752],
        "mel": [5678, 5894, 4592],
        "waveform": [2900, 4437, 4846],
    },
}


def music(rate):
    """Two seconds of partials that glide, and a little noise."""
    time = np.arange(2 * rate) / rate
    partials = [np.sin(2 * np.pi * (110 * k * time + 15 * k * time**2)) / k for k in range(1, 40)]
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.2 * np.sum(partials, axis=0) * (0.6 + 0.4 * np.cos(5 * time)) + 0.02 * noise).astype(np.float32)


def frames(x, size, hop, mode):
    """Frames of x centred on every hop."""
    padded = np.pad(x, size // 2, mode=mode)
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def mel(x, rate, hop):
    """Log-mel of 96 bands by Slaney's scale and areas, a periodic Hann window of 512 samples; float64[96, frames]."""
    top = 15 + 27 * np.log(rate / 2 / 1000) / np.log(6.4)
    marks = np.linspace(0, top, 98)
    corners = np.where(marks < 15, marks * 200 / 3, 1000 * 6.4 ** ((np.maximum(marks, 15) - 15) / 27))
    bins = np.arange(257) * rate / 512
    bands = [
        2 / (c - a) * np.interp(bins, (a, b, c), (0, 1, 0))
        for a, b, c in zip(corners[:-2], corners[1:-1], corners[2:], strict=True)
    ]
    window = np.sin(np.pi * np.arange(512) / 512) ** 2
    power = np.abs(np.fft.rfft(frames(x, 512, hop, "reflect") * window)) ** 2
    return np.log10(1 + 10_000 * np.array(bands) @ power.T)


def halved(x):
    """A waveform at half its rate: Hann-windowed sinc of six zero crossings, roll-off .99; its energy is kept."""
    place = np.arange(-13, 15)
    time = np.clip(place / 2 * 0.99, -6, 6)
    taps = 0.99 / 2 * np.sinc(time) * np.cos(np.pi * time / 12) ** 2
    padded = np.concatenate((np.zeros(13), x, np.zeros(15)))
    return np.sqrt(2) * np.array([padded[2 * n : 2 * n + 28] @ taps for n in range((len(x) + 1) // 2)])


def cqt(x, rate, hop):
    """Log-CQT of 188 bins, 24 an octave from 32.703 Hz, octave by octave from the top; float64[188, frames]."""
    quality = (2 ** (1 / 12) + 1) / (2 ** (1 / 12) - 1)
    count, octaves, local = 1 + len(x) // hop, [], rate
    for octave in range(7, -1, -1):
        frequencies = [32.703 * 2 ** (k / 24) for k in range(24 * octave, min(188, 24 * octave + 24))]
        size = 1 << int(np.ceil(np.log2(int(quality * local / frequencies[0]))))
        spectra = np.fft.rfft(frames(x, size, hop, "constant"))[:count]
        rows = []
        for frequency in frequencies:
            length = quality * local / frequency
            time = np.arange(-length // 2, length // 2)
            hann = np.sin(np.pi * np.arange(len(time)) / len(time)) ** 2
            wavelet = np.zeros(size, complex)
            start = (size - len(time)) // 2
            wavelet[start : start + len(time)] = hann / hann.sum() * np.exp(2j * np.pi * frequency / local * time)
            basis = np.fft.fft(wavelet)[: size // 2 + 1] * length / size * np.sqrt(rate / local)
            rows.append(np.abs(spectra @ basis))
        octaves.insert(0, rows)
        if hop % 2 == 0:
            x, local, hop = halved(x), local / 2, hop // 2
    return np.log10(1 + 10_000 * np.concatenate(octaves) ** 2)


BASIS = 30 * np.cos(np.outer(np.arange(320) + 0.5, np.arange(128)) * np.pi / 320)


def encodec(x, rate, hop):
    """In place of EnCodec's encoder, whose weights may not be here: 128 cosines of every 320 samples."""
    return BASIS.T @ x[: len(x) // 320 * 320].reshape(-1, 320).T


class Cosines(nn.Module):
    """The same as a module."""

    def forward(self, waveform):
        return (waveform[:, 0].unfold(1, 320, 320) @ torch.from_numpy(BASIS).float()).mT


def token_vectors(name, feature, x):
    """Normalised vectors of one feature, float64[tokens, width]: bands one after the other, each with its frames."""
    rate, hop, together, statistics, _ = MODELS[name]
    if feature == "waveform":
        bands, together = x[None], hop * together
    else:
        bands = {"mel": mel, "cqt": cqt, "encodec": encodec}[feature](x, rate, hop)
    mean, std = statistics[feature]
    count = bands.shape[1] // together
    return ((bands[:, : count * together] - mean) / std).reshape(len(bands), count, together).swapaxes(0, 1).reshape(count, -1)


def tokens_by_formula(name, feature, x):
    """Tokens, int[tokens, codebooks], by draws of torch's global stream as the official constructors make them."""
    vectors = token_vectors(name, feature, x)
    width, books = vectors.shape[1], MODELS[name][4]
    if books is None:
        torch.manual_seed(0)
        inward, _ = nn.Linear(width, 5), nn.Linear(5, width)
        weight = nn.init.xavier_normal_(inward.weight).detach().double().numpy()
        z = vectors @ (weight / np.linalg.norm(weight, axis=1, keepdims=True)).T + inward.bias.detach().double().numpy()
        return (np.floor(5 * (np.tanh(z) + 1) / 2 + 0.5).astype(int) @ 6 ** np.arange(5))[:, None]
    columns = []
    for book in range(books[1]):
        torch.manual_seed(book)
        projection = nn.init.xavier_normal_(torch.empty(width, 16)).double().numpy()
        codes = torch.empty(books[0], 16).normal_().double().numpy()
        columns.append((vectors @ projection @ (codes / np.linalg.norm(codes, axis=1, keepdims=True)).T).argmax(1))
    return np.stack(columns, 1)


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_those_of_the_published_configuration(name, monkeypatch):
    monkeypatch.setattr(features, "_encodec_encoder", lambda weights: Cosines())
    with torch.device("meta"):
        upstream = find_upstream(name).random()
    waveform = music(upstream.info.sample_rate)
    x = waveform.astype(np.float64)
    for spec in RECIPES[name].targets:
        values, tokens = make_target(spec, upstream, 2.0)(torch.from_numpy(waveform)[None])
        expected = tokens_by_formula(name, spec.feature, x)
        np.testing.assert_array_equal(tokens[0].numpy(), expected, err_msg=spec.feature)
        assert tokens[0, 8:11].T.flatten().tolist() == REFERENCE[name][spec.feature]
        if spec.feature == "waveform":
            assert torch.equal(values, upstream.patches(torch.from_numpy(waveform)[None]))
