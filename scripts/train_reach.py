"""How far can a unit use what it sees? Train a network on a cue at each of several distances, for one seed.

Writes one row a distance: accuracy on new images, and the ERF of the classifying unit before and after training.
"""

import sys
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from cli import command, json_object, new_parser, write_table
from erf.measure import measure
from erf.networks import calibrate_batch_norm
from erf.reach import ReachData, ReachNet
from erf.seeds import torch_generator
from erf.stacks import special_layers, structure, theory_stack
from erf.theory import stack_rf
from erf.training import Recipe, Trainer, choose_device


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
        "erf_radius_before": before.diameter / 2,
        "erf_radius_after": after.diameter / 2,
        "theoretical_radius": (side - 1) / 2,
        "dead_before": before.dead,
        "dead_after": after.dead,
        "images": settings["images"],
    }


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--settings", type=json_object, required=True, help="the experiment's settings, JSON")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--out", type=Path, required=True, help="table, .csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.settings["threads"])
    device = choose_device(args.device)
    distances = args.settings["distances"]
    rows = [train_at(distance, args.settings, args.seed, device) for distance in tqdm(distances, unit="distance")]
    write_table(pd.DataFrame(rows), args.out)


if __name__ == "__main__":
    sys.exit(main())
