"""Train the paper's CIFAR-10 network for one seed, with snapshots on the way (experiment C).

Writes, all at the end: epoch_NNN.pt for each declared epoch (0 is before training), best.pt at the highest validation
accuracy, metrics.csv (one row an epoch), speed.csv (seconds and images/s) and test.csv (the best snapshot on the test
set, which nothing else sees). Until then everything lies in the resume folder, from which a killed run goes on.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from cli import command, json_object, new_parser, write_table
from erf.datasets import ClassifierData, load_cifar10, normalise
from erf.files import atomic
from erf.networks import ResNetCifar, calibrate_batch_norm
from erf.seeds import torch_generator
from erf.training import Recipe, Trainer, choose_device, load_state, run_training

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
    settings, folder = args.settings, args.resume
    device = choose_device(args.device)
    torch.set_num_threads(settings["threads"])  # not left to the environment: the last bits depend on it
    trainer = build_trainer(settings, args.data, args.seed, device)

    epochs = settings["recipe"]["epochs"]
    with tqdm(total=epochs + 1, desc=f"seed {args.seed} on {device}", unit="epoch") as progress:
        for row in run_training(trainer, settings, args.seed, settings["snapshots"], folder):
            progress.set_postfix(validation_accuracy=f"{row['validation_accuracy']:.4f}", refresh=False)
            progress.update(row["epoch"] + 1 - progress.n)  # a resumed run begins where it was

    state = load_state(folder / "state.pt")
    best = load_state(folder / "best.pt")
    trainer.model.load_state_dict(best["model"])
    test = {"seed": args.seed, "best_epoch": best["epoch"], **trainer.evaluate("test")}
    images = trainer.data.steps * trainer.data.batch_size
    speed = pd.DataFrame(state["speed"])
    speed["images_per_second"] = images / speed["seconds"]
    speed["device"] = str(device)
    write_table(pd.DataFrame(state["rows"]), folder / "metrics.csv")
    write_table(speed, folder / "speed.csv")
    write_table(pd.DataFrame([test]), folder / "test.csv")

    names = [f"epoch_{epoch:03d}.pt" for epoch in settings["snapshots"]]
    for name in [*names, "best.pt", "metrics.csv", "speed.csv", "test.csv"]:
        with atomic(args.out / name) as temporary:  # a copy: killed in here, a rerun still finds all in the folder
            shutil.copyfile(folder / name, temporary)
    (folder / "state.pt").unlink()  # first, so that half a folder is never resumed from
    shutil.rmtree(folder)
    print(f"test accuracy {test['test_accuracy']:.4f} at epoch {test['best_epoch']}")


if __name__ == "__main__":
    sys.exit(main())
