"""A small random upstream that writes down what it encodes, and runs of it in processes of their own, to be killed.

``python small_net.py`` imports everything once and then starts a process for each JSON line on standard input.
"""

import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from marble.errors import MarbleError
from marble.upstream import Layer, Upstream, UpstreamInfo


class Net(Upstream):
    """Four residual blocks on a spectrogram at 8 kHz; `runs` counts how often each layer was computed."""

    info = UpstreamInfo(
        name="small-net",
        version=1,
        sample_rate=8000,
        frame_rate=50.0,
        layers=tuple(Layer(f"block {number}", 16) for number in range(5)),
        parameters=4 * 16 * 16,
        licence="MIT",
        training_data="none",
        paper="none",
        source="drawn from a fixed seed",
        max_seconds=2.0,
        min_seconds=0.1,
    )

    def __init__(self, seed: int = 0):
        super().__init__()
        weights = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(seed)) / 4
        self.blocks = torch.nn.Parameter(weights)
        self.runs = [0] * 5
        self.heard: list[str] = []

    def layers(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield ``Tensor[B, T, 16]`` five times."""
        assert waveform.shape[1] >= 800
        self.heard += [hashlib.sha256(one.numpy().tobytes()).hexdigest() for one in waveform.cpu()]
        if "SMALL_NET_LOG" in os.environ:
            time.sleep(0.003)
            with Path(os.environ["SMALL_NET_LOG"]).open("a") as log:
                log.write(f"{self.heard[-1]}\n")
        spectrum = torch.stft(waveform, 256, 160, window=torch.hann_window(256), return_complex=True).abs().transpose(1, 2)
        hidden = spectrum[..., :128].unflatten(2, (16, 8)).mean(3)
        self.runs[0] += len(waveform)
        yield hidden
        for number, block in enumerate(self.blocks, start=1):
            hidden = (hidden @ block).tanh() + hidden
            self.runs[number] += len(waveform)
            yield hidden


def run(options: dict) -> None:
    """Run the net on a folder as `options` say."""
    import resource

    from marble.features import encode as extract
    from marble.jobs.run import run
    from marble.probe.training import checkpoint
    from marble.probe.training import train as probing

    os.environ.update(options["environment"])
    extract.SHARD_CLIPS = options["shard_clips"]
    checkpoint.SECONDS = options.get("checkpoint_seconds", checkpoint.SECONDS)
    checkpoint.TIMES_THE_WRITING = 0
    probing._CPU_STACK_BYTES = options.get("stack_bytes", probing._CPU_STACK_BYTES)
    if "largest_file" in options:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options["largest_file"], resource.RLIM_INFINITY))
    run(Net(), f"folder:{options['task']}", results=options["results"], workers=1, **options["how"])


def main() -> None:
    """Start a process for each line; answer with its number, and a line later with how it ended."""
    import marble.jobs.run
    import marble.tasks.own.folder  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
            continue
        child = os.fork()
        if child:
            print(child, flush=True)
            continue
        os.dup2(os.open(request["says"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        status = 1
        try:
            run(request)
            status = 0
        except MarbleError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)


if __name__ == "__main__":
    main()
