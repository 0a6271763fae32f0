"""``marble pretrain``: train an upstream by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marble.cli.console import reporter, tell, write


def pretrain(
    recipe: Annotated[str, typer.Argument(help="What marble ls recipes lists.")],
    data: Annotated[str, typer.Option(help="A folder of audio, a table with a column path, or synth.")],
    out: Annotated[Path | None, typer.Option(help="Folder of checkpoints and log. [default: pretraining/RECIPE]")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Change the recipe, e.g. batch=32.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    probe: Annotated[str, typer.Option(help="Tasks to probe at every checkpoint: NAME[,NAME…].")] = "",
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 1000,
    log_every: Annotated[int, typer.Option(min=1, help="Steps between lines of the log.")] = 20,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's files as well.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding processes.")] = None,
) -> None:
    """Pretrain an upstream. Ctrl-C and SIGTERM leave a checkpoint; on several GPUs: torchrun --nproc-per-node N -m marble …"""
    from marble.pretraining.session import pretrain as train
    from marble.pretraining.trainer import Stopped

    folder = out or Path("pretraining") / recipe
    try:
        last = train(
            recipe,
            data,
            folder,
            settings=settings or (),
            resume=resume,
            probe=[task for task in probe.split(",") if task],
            checkpoint_every=checkpoint_every,
            log_every=log_every,
            tensorboard=tensorboard,
            device=device,
            workers=workers,
            reporter=reporter(),
        )
    except Stopped as stopped:
        tell("stopped after a checkpoint: the same command with --resume goes on")
        raise typer.Exit(128 + stopped.signal) from None
    except KeyboardInterrupt:
        tell("stopped at once: --resume goes on from the last checkpoint, if there is one")
        raise typer.Exit(130) from None
    write(str(last))
