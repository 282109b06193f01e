# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Figure 4: validation mIoU during training
#
# The paper says that SSA-Seg reaches the mIoU that its baseline ends with after about a third of the
# iterations. The figure shows the validation mIoU of both at every evaluation: lines are medians over
# the seeds, bands reach from the lowest to the highest. The dotted line marks where SSA-Seg first
# reaches the baseline's last value.

# %%
from analysis.notebook import open_figure

figure = open_figure("figure4")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## The curves as numbers
#
# Median mIoU over the seeds in percent, and the share of the training after which SSA-Seg has caught
# up. Evaluations are some way apart, so a share is no finer than that step.

# %%
figure.numbers.pivot_table(
    index="iteration", columns=["dataset", "label"], values="miou_percent", aggfunc="median"
).round(2)

# %%
import pandas as pd

from analysis.miou_curves import curve_of, reaches

rows = []
for dataset in figure.material.datasets:
    curves = {line.label: curve_of(line) for line in figure.material.on(dataset)}
    base = curves[figure.material.baseline.label]
    goal, last = float(base.median[-1]), int(base.iterations[-1])
    for label, curve in curves.items():
        reached = reaches(curve, goal)
        share = None if reached is None else reached / last
        rows.append((dataset, label, goal, reached, last, share))
columns = ["dataset", "label", "goal_percent", "reached_at", "of_iterations", "share"]
pd.DataFrame(rows, columns=columns).round(3)

# %% [markdown]
# A learning rate that falls to zero at the end lifts every curve late, and a short training leaves
# little room before it. In profiles that replace the paper's data both of its panels come down to
# one data set. The claim, with its interval over seeds, is judged with Table 8: `docs/claims.md`.
