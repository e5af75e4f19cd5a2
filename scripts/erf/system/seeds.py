"""Named random streams: every random thing has a name, and one seed gives each name a stream of its own.

Adding an experiment, a layer or an epoch shifts no other stream, and a training run that starts again at epoch 7
draws what epoch 7 would have drawn, so no generator's state has to be stored.
"""

import hashlib


def seed_for(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on `seed` and all `names` ("order", 3), the same on every machine."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *names: object):
    """A CPU torch.Generator at `seed_for(seed, *names)`. On the CPU even for a GPU run: the same draws everywhere."""
    import torch

    return torch.Generator().manual_seed(seed_for(seed, *names))
