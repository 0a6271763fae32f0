"""Everything that only a GPU can show, in one command of at most 8 minutes on one H100 or H200.

    python tests/benchmarks/gpu.py [--only encoders,bank] [--out FILE] [--dry]

Each part is a process of its own with a time limit of its own; the JSON lines that it prints are passed on as they come, to the
screen and to ``--out`` (default: gpu.jsonl in $OUT, else in the current folder), each with the name of its part. A part that
fails or runs out of time is a line with its last words, and the next one begins. ``--dry`` runs every part tiny on the CPU.

No network is needed. Beside torch (2.11 or newer, built for CUDA) bring along the wheels of numpy, scikit-learn, scipy,
mir_eval, pandas, pyarrow, datasets, typer, rich, matplotlib, soundfile, soxr, safetensors, huggingface_hub, pydantic, filelock
and pretty_midi with all that they need, and for the tests of pytest, hypothesis and pytest-xdist.

==============  =======  ======================================================================================================
part            seconds  prints
==============  =======  ======================================================================================================
tests                90  the outcome of the suite's CUDA tests
encoders            150  per model and precision: audio hours a second, share of the matrix rate, memory, agreement with CPU
path                120  the whole path from files to the cache for 930 clips of 30 s: what the encoder took, and what all took
bank                 90  the probe bank beside one scikit-learn classifier for each probe, for small and large tasks
pretraining          60  clips a second, share of the matrix rate and of waiting for audio, by the training's own log
==============  =======  ======================================================================================================
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
LIMITS = {"tests": 90, "encoders": 150, "path": 120, "bank": 90, "pretraining": 60}
RATE = 44_100  # of the synthesised clips, so that they are resampled for every model


def main() -> None:
    """Run the parts one after another."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(LIMITS))
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")) / "gpu.jsonl")
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        PARTS[options.part](dry=options.dry)
        return
    failed = 0
    with options.out.open("w") as out:
        for part in options.only.split(","):
            for line in outcome(part, options.dry):
                failed += "error" in line
                print(json.dumps({"part": part} | line), flush=True)
                out.write(json.dumps({"part": part} | line) + "\n")
                out.flush()
    sys.exit(bool(failed))


def outcome(part: str, dry: bool):
    """Yield the JSON lines of a part as they come, and one that says how it ended."""
    command = [sys.executable, __file__, "--part", part, *(["--dry"] if dry else [])]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as words:
        limited = ["timeout", str(LIMITS[part] * (4 if dry else 1)), *command]
        process = subprocess.Popen(limited, stdout=subprocess.PIPE, stderr=words, text=True)
        assert process.stdout
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
        status = process.wait()
        words.seek(0)
        end: dict[str, Any] = {"seconds": round(time.monotonic() - began, 1)}
        yield end | ({"error": f"status {status}: {words.read().strip()[-1500:]}"} if status else {"done": True})


def tell(**line: Any) -> None:
    """Print a JSON line."""
    print(json.dumps(line), flush=True)


def device(dry: bool) -> str:
    """Return the device of a run."""
    return "cpu" if dry else "cuda"


def script(name: str, *arguments: object) -> None:
    """Run a script beside this one; its lines are those of the part."""
    subprocess.run([sys.executable, HERE / f"{name}.py", *map(str, arguments)], check=True)


def tests(*, dry: bool) -> None:
    """Run the tests that need CUDA."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider", str(HERE.parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    tell(device=name, torch=torch.__version__, status=done.returncode, last=done.stdout.strip().splitlines()[-1:])
    if done.returncode:
        sys.exit(done.stdout[-1500:])


def encoders(*, dry: bool) -> None:
    """Time models of full size with random weights in every precision, and compare each with fp32 on the CPU."""
    import torch

    from marble.registry import find_upstream

    sys.path.insert(0, str(HERE))
    from encoder import matrix_rate, matrix_work

    models = ["branchformer-summarymixing-tiny"] if dry else ["muq", "mert-330m", "omar-rq-base"]
    modes = ["fp32"] if dry else ["fp32", "tf32", "bf16", "bf16 compiled", "bf16 compiled, CUDA graphs"]
    batch, seconds = (2, 2) if dry else (64, 30)
    for name in models:
        torch.manual_seed(0)
        weights = find_upstream(name).random().state_dict()
        generator = torch.Generator().manual_seed(1)
        rate = find_upstream(name).info.sample_rate
        waveform = 0.1 * torch.randn(batch, seconds * rate, generator=generator)
        with torch.inference_mode():
            exact = [x.double() for x in filled(name, weights).prepare("cpu").layers(waveform[:1, : 5 * rate])]
        for mode in modes:
            model = filled(name, weights).prepare(device(dry), "bf16" if mode.startswith("bf16") else "fp32")
            torch.set_float32_matmul_precision("high" if mode == "tf32" else "highest")
            torch.backends.cudnn.allow_tf32 = mode == "tf32"
            if "compiled" in mode:
                for block in model.blocks:
                    block.compile(mode="reduce-overhead" if "graphs" in mode else None)
            times = []
            with torch.inference_mode():
                states = [x.double().cpu() for x in model.layers(waveform[:1, : 5 * rate].to(device(dry)))]
                inputs = waveform.to(device(dry))
                for _ in range(4):
                    began = time.perf_counter()
                    for _ in model.layers(inputs):
                        pass
                    if not dry:
                        torch.cuda.synchronize()
                    times.append(time.perf_counter() - began)
            best = min(times[1:])
            dtype = torch.bfloat16 if mode.startswith("bf16") else torch.float32
            cosines = [float(torch.cosine_similarity(a, b, dim=-1).min()) for a, b in zip(states, exact, strict=True)]
            tell(
                model=name,
                mode=mode,
                batch=batch,
                seconds=best,
                audio_hours_per_second=batch * seconds / 3600 / best,
                matrix_share=matrix_work(filled(name, weights).prepare(device(dry)), inputs)
                / best
                / matrix_rate(device(dry), dtype),
                peak_gb=0 if dry else torch.cuda.max_memory_allocated() / 1e9,
                largest_difference=[float((a - b).abs().max()) for a, b in zip(states, exact, strict=True)],
                smallest_cosine=cosines,
            )
            if not dry:
                del model
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()


def filled(name: str, weights: dict):
    """Return a model with these weights."""
    from marble.registry import find_upstream

    model = find_upstream(name).random()
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def path(*, dry: bool) -> None:
    """Run a scan over clips on disk: decode, resample, encode, pool, write."""
    import marble

    count, seconds, name = (30, 2, "branchformer-summarymixing-tiny") if dry else (930, 30, "muq")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_clips(folder / "clips", count, seconds)
        began = time.perf_counter()
        result = marble.run(
            f"random-init:{name}", f"folder:{folder / 'clips'}", results=folder / "results", cache_dir=folder / "cache",
            seeds=1, device=device(dry), precision="fp32" if dry else "bf16", settings=["probe.epochs=1"], skip_bad=True,
        )  # fmt: skip
        whole = time.perf_counter() - began
    encoder = result.cost.encoder_seconds
    tell(
        model=name,
        clips=count,
        clip_seconds=seconds,
        encoder_seconds=encoder,
        probe_seconds=result.cost.probe_seconds,
        whole_seconds=whole,
        bound_by="encoder" if encoder > 0.7 * (whole - result.cost.probe_seconds) else "decoding and loading",
    )


def write_clips(folder: Path, count: int, seconds: int) -> None:
    """Write clips of three classes, each of tones of its own and noise."""
    with ProcessPoolExecutor() as processes:
        list(processes.map(write_clip, [folder] * count, range(count), [seconds] * count, chunksize=8))


def write_clip(folder: Path, number: int, seconds: int) -> None:
    """Write one clip."""
    import soundfile

    random = np.random.default_rng(number)
    time_axis = np.arange(seconds * RATE, dtype=np.float32) / RATE
    tone = sum(np.sin(2 * np.pi * f * time_axis) for f in random.uniform(100, 4000, 4)) / 8
    samples = tone + random.standard_normal(len(time_axis), dtype=np.float32) * 0.01 * (1 + number % 3)
    (folder / f"class{number % 3}").mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"class{number % 3}" / f"{number}.wav", samples, RATE)


def bank(*, dry: bool) -> None:
    """Time the probe bank beside scikit-learn: a small, a large and a very large task."""
    sizes = [(2, 64)] if dry else [(13, 442), (13, 25_860)]
    for layers, rows in sizes:
        epochs = 1 if rows > 1000 else 20
        script(
            "probe_bank", "--layers", layers, "--windows", rows, "--width", 32 if dry else 1024, "--seeds", 5,
            "--epochs", epochs, "--rounds", 1, "--device", device(dry),
        )  # fmt: skip


def pretraining(*, dry: bool) -> None:
    """Train for some steps on clips on disk and tell the last line of the log."""
    recipes = ["musicfm-tiny"] if dry else ["branchformer-summarymixing-large", "muq"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_clips(folder / "clips", 8 if dry else 256, 6 if dry else 31)
        for recipe in recipes:
            command = [sys.executable, "-m", "marble", "pretrain", recipe, "--data", str(folder / "clips")]
            command += ["--out", str(folder / recipe), "--device", device(dry), "--log-every", "5"]
            subprocess.run([*command, "--set", f"steps={5 if dry else 30}"], check=True, stdout=subprocess.DEVNULL)
            lines = [json.loads(line) for line in (folder / recipe / "log.jsonl").read_text().splitlines()]
            tell(recipe=recipe, **[line for line in lines if "clips_per_second" in line][-1])


PARTS = {"tests": tests, "encoders": encoders, "path": path, "bank": bank, "pretraining": pretraining}

if __name__ == "__main__":
    main()
