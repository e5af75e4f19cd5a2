# %% [markdown]
# # The poster in ten minutes
#
# Luo, Li, Urtasun and Zemel (NIPS 2016) say that the effective receptive field (ERF) of a deep network is Gaussian,
# and that it grows more slowly than the theoretical receptive field. This notebook shows why, and measures both on
# small untrained networks. No dataset is needed, and it runs in seconds.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import erf

# %% [markdown]
# ## Layers are convolutions of the gradient
#
# The gradient is 1 at the unit and 0 elsewhere. Each layer back convolves it with the layer's kernel. If all
# weights are equal, the result is Eq. 1 of the paper: the coefficients of a polynomial's power. For kernels of two
# pixels they are the binomial coefficients.

# %%
for depth in (1, 2, 3, 4):
    print(erf.theory.extended_binomial(2, depth))

# %% [markdown]
# A sum of many independent steps is nearly Gaussian. The gradient after many layers is therefore nearly Gaussian,
# too.

# %%
taps = erf.theory.uniform_taps(3, axes=1)
figure, panels = plt.subplots(1, 4, figsize=(9, 2.2), layout="constrained")
for axes, depth in zip(panels, (1, 2, 5, 20), strict=True):
    exact = erf.theory.linear_map([erf.theory.Layer(taps)] * depth)
    pixels = np.arange(len(exact)) - depth
    axes.bar(pixels, exact, width=1, color="0.75", label="gradient")
    axes.plot(pixels, erf.theory.clt_map(taps, depth), color="C3", label="Gaussian")
    axes.set(title=f"{depth} layer{'s' * (depth > 1)}", xlabel="pixels from the unit")
_ = panels[0].legend(fontsize=7)

# %% [markdown]
# ## The theoretical field grows faster
#
# Variances of independent steps add. The Gaussian's σ, and with it the ERF size, grows as the root of the number of
# layers. The theoretical field grows as the number of layers itself, so that a deeper network uses a smaller share
# of it.

# %%
depths = np.array([5, 10, 20, 40, 80])
sizes = np.array([erf.theory.plain_size(depth, kernel=3, weights="random") for depth in depths])
fields = 1 + 2 * depths

figure, axes = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
axes.loglog(depths, fields, "s--", color="0.5", label="theoretical field")
axes.loglog(depths, sizes, "o-", color="C0", label="ERF size, by theory")
axes.set(xlabel="layers", ylabel="pixels")
axes.set_xticks(depths, depths)
axes.minorticks_off()
axes.legend()
print(f"slope of the ERF size: {erf.theory.log_log_slope(depths, sizes):.2f}")
print(f"slope of the ERF size over the theoretical field: {erf.theory.log_log_slope(depths, sizes / fields):.2f}")

# %% [markdown]
# ## Measure untrained networks
#
# `stack` builds a network of 3 × 3 convolutions with random weights. One draw of the weights gives a ragged map.
# The mean over several draws is close to the map that theory expects.

# %%
CHANNELS, DRAWS = 16, 20


def stack(depth, nonlinearity=torch.nn.Identity):
    """Convolutions with He's weights, each followed by the nonlinearity but for the last."""
    layers = []
    for number in range(depth):
        layers += [torch.nn.Conv2d(1 if number == 0 else CHANNELS, CHANNELS, 3, padding=1, bias=False), nonlinearity()]
        torch.nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
    return torch.nn.Sequential(*layers[:-1])


def mean_field(depth, nonlinearity=torch.nn.Identity):
    """The field of the mean map of several networks."""
    side = 2 * depth + 1
    one_by_one = [erf.measure(stack(depth, nonlinearity), torch.randn(1, 1, side, side)) for _ in range(DRAWS)]
    maps = np.stack([field.map / field.map.sum() for field in one_by_one])
    return erf.ReceptiveField.from_runs(maps, (depth, depth), (side, side), rng=np.random.default_rng(0))


torch.manual_seed(0)
shallow, deep, relu = mean_field(5), mean_field(20), mean_field(20, torch.nn.ReLU)
for name, field in {"5 layers": shallow, "20 layers": deep, "20 layers with ReLU": relu}.items():
    print(f"{name}: {field}")

# %%
figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
expected = erf.theory.plain_map(20, kernel=3, weights="random")
pixels = np.arange(len(expected)) - 20
axes.plot(pixels, expected[20] / expected.sum(), color="k", label="theory")
axes.plot(pixels, deep.map[20], ".", color="C0", label="linear network")
axes.plot(pixels, relu.map[20], ".", color="C1", label="with ReLU")
axes.set(xlabel="pixels from the unit, in its row", ylabel="share of the impact")
_ = axes.legend()

# %% [markdown]
# ## Look at the fields
#
# Both maps have one scale. The dashed square is the theoretical field, and the white line is the bound of the ERF.

# %%
erf.compare({"5 layers": shallow, "20 layers": deep})

# %% [markdown]
# ## What changes it
#
# Subsampling and dilation let later layers step farther. A skip connection adds the gradient that does not step at
# all. The closed form tells all three.

# %%
layer = erf.theory.Layer(erf.theory.uniform_taps(3) / 3)  # of the variances of random weights
halving = erf.theory.Layer(erf.theory.uniform_taps(3) / 3, stride=2)
dilated = erf.theory.Layer(erf.theory.uniform_taps(3) / 3, dilation=2)
structures = {
    "plain": [layer] * 12,
    "subsampled once": [layer] * 4 + [halving] + [layer] * 7,
    "dilated in four layers": [layer] * 4 + [dilated] * 4 + [layer] * 4,
    "with skip connections": [erf.theory.Residual((layer, layer))] * 6,
}
for name, network in structures.items():
    size, (side, _) = erf.theory.expected_size(network, "random", reference="maximum"), erf.theory.stack_rf(network)
    print(f"{name:24} ERF size {size:5.1f} px of {side} px")

# %% [markdown]
# [Results](../results.md) has the same at the paper's scale, with intervals and verdicts, and [your own
# model](own_model.py) measures a real network.
