"""Similarity of every layer to the input from streamed sums, beside plain NumPy on whole matrices.

Prints a JSON line for the sums of all layers, with their null: processor seconds, and peak memory above the features. Then
one for each measure: processor seconds for a layer, streamed (its share of the sums, and the measure with its null) and
plain (without a null), the ratio, and the largest difference of values. Plain are, for `pwcca_google`, the steps of
google/svcca (`np.cov` of both side by side, pseudo-inverses, roots, a QR decomposition of n rows), and for
`pwcca_morcos_second` QR decompositions of both representations.

``OMP_NUM_THREADS=1 python tests/benchmarks/cca.py [--frames 100000] [--width 1024] [--layers 13] [--plain 3]``
"""

import argparse
import json
import os
import platform
import time

import numpy as np

from marble.analysis.moments import Moments
from marble.analysis.similarity import similarity_of
from marble.system.machine import memory_now, memory_peak, reset_memory_peak

BANDS = 80
CHUNK = 750  # frames of a window


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--plain", type=int, default=3, help="layers that plain NumPy computes")
    options = parser.parse_args()
    about = {"benchmark": "cca", **vars(options), "bands": BANDS, "threads": os.environ.get("OMP_NUM_THREADS")}
    mel, layers = features(options.frames, options.width, options.layers)
    reset_memory_peak()
    before, begin = memory_now(), time.process_time()
    moments = streamed(mel, layers)
    sums = time.process_time() - begin
    line = {"seconds": round(sums, 1), "megabytes_above_features": round((memory_peak() - before) / 1e6)}
    print(json.dumps(about | {"sums": line, "machine": platform.platform()}), flush=True)
    for measure, plain in PLAIN.items():
        names = [f"layer {number}" for number in range(options.plain)]
        begin = time.process_time()
        values = [similarity_of(moments, name, "input", [measure]).values[measure] for name in names]
        seconds = sums / options.layers + (time.process_time() - begin) / options.plain
        reset_memory_peak()
        before, begin = memory_now(), time.process_time()
        expected = [plain(layer, mel) for layer in layers[: options.plain]]
        plain_seconds = (time.process_time() - begin) / options.plain
        line = {
            "seconds_per_layer": round(seconds, 2),
            "plain_seconds_per_layer": round(plain_seconds, 2),
            "ratio": round(plain_seconds / seconds, 2),
            "plain_megabytes_above_features": round((memory_peak() - before) / 1e6),
            "largest_difference": float(np.abs(np.subtract(values, expected)).max()),
        }
        print(json.dumps({"benchmark": "cca", "measure": measure, **line}), flush=True)


def features(frames: int, width: int, count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return an input and layers that lose it step by step, float32."""
    random = np.random.default_rng(0)
    mel, noise = (random.standard_normal((frames, columns), dtype=np.float32) for columns in (BANDS, width))
    mixed = mel @ random.standard_normal((BANDS, width), dtype=np.float32)
    layers = [np.roll(mixed, 3 * number, axis=1) / np.float32(number + 1) for number in range(count)]
    for number, layer in enumerate(layers):
        layer += np.roll(noise, 7 * number, axis=1)
    return mel, layers


def streamed(mel: np.ndarray, layers: list[np.ndarray]) -> Moments:
    """Return the sums of all layers beside the input, a window after another."""
    names = [f"layer {number}" for number in range(len(layers))]
    moments = Moments([(name, "input") for name in names], lag=CHUNK)
    for begin in range(0, len(mel), CHUNK):
        part = slice(begin, begin + CHUNK)
        moments.add({"input": mel[part]} | {name: layer[part] for name, layer in zip(names, layers, strict=True)})
    return moments.finish()


def google(x: np.ndarray, y: np.ndarray) -> float:
    """Return `pwcca_google` by its steps, for more units in x than in y."""
    covariance = np.cov(x.T, y.T)
    width = x.shape[1]
    own, cross, other = covariance[:width, :width], covariance[:width, width:], covariance[width:, width:]
    left, right = root(np.linalg.pinv(own)), root(np.linalg.pinv(other))
    _, correlations, directions = np.linalg.svd(left @ cross @ right, full_matrices=False)
    mean = y.mean(0, dtype=np.float64)
    basis, _ = np.linalg.qr((y - mean) @ directions.T + mean)
    weights = np.abs(basis.T @ y).sum(1)
    return float(weights @ correlations / weights.sum())


def morcos(x: np.ndarray, y: np.ndarray) -> float:
    """Return `pwcca_morcos_second` by QR decompositions."""
    first, _ = np.linalg.qr(x - x.mean(0, dtype=np.float64))
    centred = y - y.mean(0, dtype=np.float64)
    second, _ = np.linalg.qr(centred)
    _, correlations, right = np.linalg.svd(first.T @ second, full_matrices=False)
    weights = np.abs((second @ right.T).T @ centred).sum(1)
    return float(weights @ correlations / weights.sum())


def root(matrix: np.ndarray) -> np.ndarray:
    """Return the root of a positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(values) @ vectors.T


PLAIN = {"pwcca_google": google, "pwcca_morcos_second": morcos}


if __name__ == "__main__":
    main()
