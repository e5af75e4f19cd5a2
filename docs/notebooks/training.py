# %% [markdown]
# # The ERF during training
#
# A small network learns a task that needs a wide view: each output is the mean of the pixels around it.
# `erf.Monitor` measures the ERF while the network is trained, and leaves the training as it would have been
# without.

# %%
import matplotlib.pyplot as plt
import torch

import erf

SIDE, BOX = 32, 11  # of the images, and of the square whose mean is wanted, in pixels
WIDTH, STEPS = 12, 400

torch.manual_seed(0)
box = torch.nn.AvgPool2d(BOX, stride=1, padding=BOX // 2)


def batch(count=8):
    """Noise, and at each pixel the mean of the square around it, scaled to a variance of one."""
    images = torch.randn(count, 1, SIDE, SIDE)
    return images, BOX * box(images)


# %% [markdown]
# Nine layers of 3 × 3 can see more than the square. The inner ones are residual, y = x + γ f(x), and γ is small at
# first: the untrained network hardly looks beyond the nearest pixels.


# %%
class Block(torch.nn.Module):
    def __init__(self, width, gamma=0.1):
        super().__init__()
        self.branch = torch.nn.Sequential(torch.nn.Conv2d(width, width, 3, padding=1), torch.nn.ReLU())
        self.gamma = torch.nn.Parameter(torch.tensor(gamma))

    def forward(self, x):
        return x + self.gamma * self.branch(x)


first, last = torch.nn.Conv2d(1, WIDTH, 3, padding=1), torch.nn.Conv2d(WIDTH, 1, 3, padding=1)
model = torch.nn.Sequential(first, *[Block(WIDTH) for _ in range(7)], last)

# %% [markdown]
# ## Train
#
# The monitor takes one small batch, which is used at every step. `share=None` measures whenever a measurement is
# due; by default it keeps to a twentieth of the time.

# %%
monitor = erf.Monitor(model, batch(4)[0], every=20, share=None)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
losses = []
for step in range(STEPS + 1):
    monitor.step(step)
    images, wanted = batch()
    loss = torch.nn.functional.mse_loss(model(images), wanted)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

table = monitor.table()
table[["step", "size", "sigma", "theoretical_size", "ratio"]].iloc[::4].round(2)

# %% [markdown]
# ## The ERF grows towards the task

# %%
figure, (above, below) = plt.subplots(2, figsize=(5.5, 4.5), sharex=True, layout="constrained")
above.plot(losses, color="0.5")
above.set(ylabel="loss (1: nothing learnt)", yscale="log")
below.plot(table["step"], table["size"], "o-", markersize=3, label="ERF size")
below.axhline(table["theoretical_size"].iloc[0], color="0.4", linestyle="--", label="theoretical field")
below.axhline(BOX, color="C2", linestyle=":", label="side of the square that the task needs")
below.set(xlabel="step", ylabel="pixels", ylim=(0, None))
_ = below.legend(fontsize=8)

# %% [markdown]
# The impact fills the square at the end. The ERF is a little larger, because its threshold is low and the edges of
# the map are soft.

# %%
before, after = monitor.first[None], monitor.last[None]
print(f"before: {before.size:.1f} px, after: {after.size:.1f} px, the task: {BOX} px")
erf.compare({"before": before, "after": after}, scale="linear")

# %% [markdown]
# [The monitor's page](../monitor.md) says how to log to TensorBoard and to use it with Lightning. Whether training
# enlarges the ERF of real networks depends on how they start: see [the results](../results.md#during-training).
