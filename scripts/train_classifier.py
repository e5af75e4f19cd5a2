"""Train the paper's CIFAR-10 network for one seed, with snapshots on the way.

Writes, all at the end: epoch_NNN.pt for each declared epoch (0 is before training), best.pt at the highest validation
accuracy, metrics.csv (one row an epoch), speed.csv (seconds and images/s) and test.csv (the best snapshot on the test
set, which nothing else sees). Until then everything lies in the resume folder, from which a killed run goes on.
"""

import argparse
import shutil
import sys
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from cli import command, json_object, new_parser, write_table
from erf.datasets import ClassifierData, load_cifar10, normalise
from erf.errors import InputError
from erf.files import atomic
from erf.networks import ResNetCifar, calibrate_batch_norm
from erf.seeds import torch_generator
from erf.training import Recipe, Trainer, choose_device, discard_state, exclusive, load_state, run_training, save_state

CALIBRATION = 1000  # training images from which the untrained network's batch-norm statistics are taken


def build_trainer(settings: dict, data_path: Path, seed: int, device: torch.device) -> Trainer:
    """The network at its initialisation, its data on the device, and the recipe."""
    splits = load_cifar10(data_path, settings["validation"], seed)
    model = ResNetCifar(**settings["network"], generator=torch_generator(seed, "weights"))
    calibrate_batch_norm(model, normalise(splits["train"].images[:CALIBRATION]))
    data = ClassifierData(splits, settings["batch_size"], seed, device)
    return Trainer(model, data, Recipe(**settings["recipe"]), device)


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 arrays, .npz")
    parser.add_argument("--settings", type=json_object, required=True, help="the training's settings, JSON")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--resume", type=Path, required=True, help="folder of the resume state, removed at the end")
    parser.add_argument("--out", type=Path, required=True, help="folder of the outputs")
    args = parser.parse_args(argv)
    if args.resume.resolve() == args.out.resolve():
        raise InputError(f"--resume and --out are the same folder, {args.out}: the one is removed at the end")
    torch.set_num_threads(args.settings["threads"])  # not left to the environment: the last bits depend on it
    with exclusive(args.resume):
        train(build_trainer(args.settings, args.data, args.seed, choose_device(args.device)), args)
        discard_state(args.resume)


def train(trainer: Trainer, args: argparse.Namespace) -> None:
    """Train to the end in the resume folder, test, and copy what is to be kept to the folder of the outputs."""
    settings, folder = args.settings, args.resume
    epochs = settings["recipe"]["epochs"]
    with tqdm(total=epochs + 1, desc=f"seed {args.seed} on {trainer.device}", unit="epoch") as progress:
        for row in run_training(trainer, settings, args.seed, folder):
            progress.set_postfix(validation_accuracy=f"{row['validation_accuracy']:.4f}", refresh=False)
            progress.update(row["epoch"] + 1 - progress.n)  # a resumed run begins where it was

    state = load_state(folder / "state.pt", "rows", "speed", "best")
    trainer.model.load_state_dict(state["best"]["model"])
    test = {"seed": args.seed, "best_epoch": state["best"]["epoch"], **trainer.evaluate("test")}
    speed = pd.DataFrame(state["speed"])
    speed["images_per_second"] = trainer.data.steps * trainer.data.batch_size / speed["seconds"]
    speed["device"] = str(trainer.device)

    for name in (f"epoch_{epoch:03d}.pt" for epoch in settings["snapshots"]):
        with atomic(args.out / name) as temporary:  # a copy: killed in here, a rerun still finds all in the folder
            shutil.copyfile(folder / name, temporary)
    save_state(args.out / "best.pt", state["best"])
    write_table(pd.DataFrame(state["rows"]), args.out / "metrics.csv")
    write_table(speed, args.out / "speed.csv")
    write_table(pd.DataFrame([test]), args.out / "test.csv")
    print(f"test accuracy {test['test_accuracy']:.4f} at epoch {test['best_epoch']}")


if __name__ == "__main__":
    sys.exit(main())
