"""What the scripts that train on images share: their arguments, training to the end, and what is kept of it."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from erf.errors import InputError
from erf.system.devices import choose_device
from replication.commands.cli import add_settings, new_parser, write_table
from replication.training.resume import (
    LAST,
    exclusive,
    load_snapshot,
    load_state,
    run_training,
    save_state,
    settle_arithmetic,
)
from replication.training.speed import (
    bf16_peak,
    convolution_seconds,
    convolutions,
    has_bf16,
    keep_freed_memory,
    training_flops,
)
from replication.training.trainer import Trainer

BuildTrainer = Callable[[dict, Path, int, torch.device], Trainer]


def run(description: str, argv: list[str] | None, build_trainer: BuildTrainer) -> None:
    """The command: train for one seed, with a resume state that survives a kill.

    The state stays when the training has ended: whoever called the command may be killed before it knows, and call it
    again. Then it is done at once.
    """
    parser = new_parser(description)
    parser.add_argument("--data", type=Path, required=True, help="arrays of the dataset, .npz")
    add_settings(parser, "the training's settings")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--resume", type=Path, required=True, help="folder of the state that a rerun goes on from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the outputs")
    args = parser.parse_args(argv)
    if args.resume.resolve() == args.out.resolve():
        raise InputError(f"--resume and --out are the same folder, {args.out}: the one is for what may be removed")
    keep_freed_memory()
    torch.set_num_threads(args.settings["threads"])  # not left to the environment: the last bits depend on it
    device = choose_device(args.device)
    with exclusive(args.resume):
        trainer = build_trainer(args.settings, args.data, args.seed, device)
        # Requeued on another kind of node, it begins anew, and what it had waits for it.
        train(trainer, args, settle_arithmetic(trainer, args.resume, args.settings["arithmetic"]))


def train(trainer: Trainer, args: argparse.Namespace, folder: Path) -> None:
    """Train to the end in the folder of the state, test, and copy what is to be kept to the folder of the outputs."""
    settings, score = args.settings, trainer.data.task.score
    epochs = settings["recipe"]["epochs"]
    with tqdm(total=epochs + 1, desc=f"seed {args.seed} on {trainer.device}", unit="epoch") as progress:
        for row in run_training(trainer, settings, args.seed, folder):
            progress.set_postfix({score: f"{row[f'validation_{score}']:.4f}"}, refresh=False)
            progress.update(row["epoch"] + 1 - progress.n)  # a resumed run begins where it was

    state = load_state(folder / LAST, "rows", "speed", "best")
    trainer.model.load_state_dict(state["best"]["model"])
    test = {"seed": args.seed, "best_epoch": state["best"]["epoch"], **trainer.evaluate("test")}

    for name in (f"epoch_{epoch:03d}.pt" for epoch in settings["snapshots"]):
        save_state(args.out / name, load_snapshot(folder / name))  # killed in here, a rerun still finds the original
    save_state(args.out / "best.pt", state["best"])
    write_table(pd.DataFrame(state["rows"]), args.out / "metrics.csv")
    write_table(speed_table(trainer, state["speed"]), args.out / "speed.csv")
    write_table(pd.DataFrame([test]), args.out / "test.csv")
    print(f"test {score} {test[f'test_{score}']:.4f} at epoch {test['best_epoch']}")


def speed_table(trainer: Trainer, rows: list[dict]) -> pd.DataFrame:
    """One row an epoch: time, images per second and what share they are of what the convolutions alone would allow;
    arithmetic since the beginning, and its share of the device's bf16 peak; memory."""
    data, device = trainer.data, trainer.device
    images, _ = next(iter(data.training_batches(1)))
    flops = training_flops(trainer.model, images[:1])
    dtype = torch.bfloat16 if trainer.bf16 else torch.float32
    alone = data.batch_size / convolution_seconds(convolutions(trainer.model, images), device, dtype)
    peak = bf16_peak(device) if has_bf16(device) else float("nan")  # emulated, it is no peak
    table = pd.DataFrame(rows)
    table["images_per_second"] = data.steps * data.batch_size / table["seconds"]
    table["share_of_convolutions"] = table["images_per_second"] / alone
    table["gflop_per_image"] = flops / 1e9
    table["pflop"] = table["epoch"] * data.steps * data.batch_size * flops / 1e15
    table["share_of_bf16_peak"] = table["images_per_second"] * flops / peak
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return table.assign(
        arithmetic=trainer.arithmetic, bf16_peak_tflops=peak / 1e12, device=name, threads=torch.get_num_threads()
    )
