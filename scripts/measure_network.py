"""Impact map of one untrained network, over many draws of its weights and inputs.

Each run draws new weights and one new input image. The input is as large as the receptive field and nothing is padded,
so one unit is left in the output plane, and it is read before its own activation.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from cli import command, json_object, new_parser
from erf.errors import InputError
from erf.field import ReceptiveField
from erf.measure import impact_maps
from erf.networks import plain_stack, stack_rf
from erf.seeds import seed_for, torch_generator


def measure_network(name: str, settings: dict) -> ReceptiveField:
    """Measure `settings["runs"]` networks; `name` names their random streams."""
    depth, kernel, channels, seed = (settings[key] for key in ("depth", "kernel", "channels", "seed"))
    side = stack_rf(depth, kernel)
    maps = []
    for run in range(settings["runs"]):
        weights = torch_generator(seed, name, "weights", run)
        model = plain_stack(depth, kernel, channels, settings["weights"], settings["activation"], weights)
        inputs = torch_generator(seed, name, "inputs", run)
        image = torch.randn(1, channels, side, side, generator=inputs, dtype=torch.float64)
        impacts = impact_maps(model, image, mode=settings["mode"])
        maps.append(impacts.maps[0])
    if not np.any(maps):
        raise InputError(f"{name}: the unit is dead in all {settings['runs']} runs; give it more channels or more runs")
    rng = np.random.default_rng(seed_for(seed, name, "bootstrap"))
    return ReceptiveField.from_runs(
        np.stack(maps), impacts.position, impacts.theoretical_rf, {"network": name, **settings}, rng
    )


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--name", required=True, help="name of the network, which also names its random streams")
    parser.add_argument("--settings", type=json_object, required=True, help="the network's settings, JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="result, .npz")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    field = measure_network(args.name, args.settings)
    field.save(args.out)
    low, high = field.interval
    print(f"{args.name}: ERF size {field.size:.2f} px, 95 % interval {low:.2f} to {high:.2f}, {field.dead} dead runs")


if __name__ == "__main__":
    sys.exit(main())
