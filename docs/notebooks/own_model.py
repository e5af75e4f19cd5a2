# %% [markdown]
# # Your own model
#
# Which pixels does a unit of your network really depend on? Here the network is torchvision's ResNet-18 with random
# weights, so that nothing is downloaded. Put your own model and your own images in its place.

# %%
import numpy as np
import torch

import erf
from erf.models.torchvision_import import import_torchvision

torchvision = import_torchvision()  # `import torchvision`, also beside a torch of another build

torch.manual_seed(0)
model = torchvision.models.resnet18()
images = torch.randn(4, 3, 224, 224)  # (N, C, H, W), normalised as the model expects

# %% [markdown]
# ## Measure one unit
#
# Without a `unit` it is the middle one of the layer's output. The model is left as it was.

# %%
field = erf.measure(model, images, layer="layer3", rng=np.random.default_rng(0))
print(field)
axes = field.plot()

# %% [markdown]
# All numbers are read from `field.map`. `summary()` has them by name.

# %%
low, high = field.interval
print(f"ERF size {field.size:.1f} px, 95 % interval over images {low:.1f} to {high:.1f} px")
print(f"share of the theoretical field's side: {field.ratio:.2f}")
print(f"half of the impact lies in a square of {field.contribution_area(0.5)[0]:.0f} px")
print("all names:", ", ".join(field.summary()))

# %% [markdown]
# ## What can it see at all?
#
# The theoretical field does not depend on the weights, and needs no images.

# %%
erf.theoretical_rf(model, "layer3", input_shape=(3, 224, 224))

# %% [markdown]
# ## All layers
#
# The theoretical field grows faster than the ERF, so that the share that the ERF fills, `ratio`, falls from layer to
# layer. Layers that are shaded red add nothing: the layer before them already sees the whole image.

# %%
layers = [
    "conv1",
    *(f"layer{stage}.{block}.conv{number}" for stage in (1, 2, 3, 4) for block in (0, 1) for number in (1, 2)),
]
found = erf.profile(model, images, layers)
axes = found.plot()
found.table()[["layer", "size", "theoretical", "ratio", "adds_nothing"]].round(2)

# %% [markdown]
# ## Compare
#
# Fields side by side have one scale of colours and one of lengths. Here are three stages of one model; two models,
# or one before and after training, are compared in the same way.

# %%
stages = ["layer1", "layer2", "layer3"]
erf.compare(dict(zip(stages, erf.measure(model, images, stages), strict=True)))

# %% [markdown]
# ## Is the gradient right?
#
# A gradient tells what a very small change of a pixel does. `erf.perturbed` draws the pixels of rings around the
# unit anew, which is a large change, and compares the unit's response with the gradient's prediction.

# %%
check = erf.perturbed(model, images, "layer2", rings=4, draws=4)
for first, last, measured, predicted in zip(
    check.edges, check.edges[1:], check.shares, check.predicted_shares, strict=False
):
    print(f"{first:3.0f} to {last:3.0f} px: {100 * measured:4.1f} % of the change, {100 * predicted:4.1f} % predicted")
print(f"distance {check.distance:.2f}, by chance alone {check.distance_by_chance:.2f}")

# %% [markdown]
# [The library](../library.md) lists all options, and [pitfalls](../pitfalls.md) the mistakes that are easily made.
