"""How far can a unit use what it sees? Train a network on a cue at each of several distances, for one seed.

Writes one row a distance: accuracy on new images, and the ERF of the classifying unit before and after training.

Takes a minute to an hour on one core, by depth and epochs.
"""

import sys
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from erf.measuring.measure import measure
from erf.models.batch_norm import calibrate_batch_norm
from erf.system.devices import choose_device
from erf.system.seeds import torch_generator
from erf.theory import stack_rf
from replication.commands.cli import add_settings, command, new_parser, write_table
from replication.stacks.structures import special_layers, structure, theory_stack
from replication.training.reach import ReachData, ReachNet
from replication.training.resume import check_settings, exclusive, load_if_whole, save_state
from replication.training.trainer import Recipe, Trainer, arithmetic, bf16_at_first


def train_at(distance: float, settings: dict, seed: int, device: torch.device) -> dict:
    """Train on cues at `distance` pixels from the unit; the initial weights are the same for every distance."""
    kind = settings["structure"], settings["depth"], 3, special_layers(settings)
    layers = structure(*kind, centre_light=settings["centre_light"])
    side = stack_rf(theory_stack(layers, "random"))[0]  # an image is as large as the theoretical receptive field
    data = ReachData(side, distance, settings["batch_size"], settings["steps"], seed, device)
    model = ReachNet(layers, settings["width"], torch_generator(seed, "reach weights"))
    images, _ = data.draw(settings["images"], torch_generator(seed, "reach", "measuring"))
    calibrate_batch_norm(model, images)
    trainer = Trainer(model, data, Recipe(**settings["recipe"]), device)
    before = measure(model, images, layer="top")
    for epoch in range(1, settings["recipe"]["epochs"] + 1):
        trainer.train_epoch(epoch)
    after = measure(model, images, layer="top")
    return {
        "seed": seed,
        "structure": settings["structure"],
        "centre_light": settings["centre_light"],
        "steps": settings["steps"] * settings["recipe"]["epochs"],
        "distance": distance,
        "accuracy": trainer.evaluate("test")["test_accuracy"],
        "size_before": float(before.size),
        "size_after": float(after.size),
        "theoretical_rf": side,
        "dead_before": before.dead,
        "dead_after": after.dead,
        "images": settings["images"],
    }


def train_all(settings: dict, seed: int, device: torch.device, state_path: Path) -> list[dict]:
    """One row for each distance; those that an interrupted run left in its state are not trained again."""
    identity = {**settings, "seed": seed, "arithmetic": arithmetic(device, bf16_at_first(device))}
    state = load_if_whole(state_path, "identity", "rows") or {"identity": identity, "rows": []}
    check_settings(state_path, state["identity"], identity)
    rows, distances = state["rows"], settings["distances"]
    for distance in tqdm(distances[len(rows) :], unit="distance", initial=len(rows), total=len(distances)):
        rows.append(train_at(distance, settings, seed, device))
        save_state(state_path, state)
    return rows


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    add_settings(parser, "the experiment's settings")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--resume", type=Path, required=True, help="folder of the state that a rerun goes on from")
    parser.add_argument("--out", type=Path, required=True, help="table, .csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.settings["threads"])
    device = choose_device(args.device)
    with exclusive(args.resume):
        state = args.resume / arithmetic(device, bf16_at_first(device)) / "rows.pt"
        rows = train_all(args.settings, args.seed, device, state)
        write_table(pd.DataFrame(rows), args.out)


if __name__ == "__main__":
    sys.exit(main())
