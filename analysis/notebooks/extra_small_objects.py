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
# # By the size of objects
#
# The paper says that small targets gain, and measures no such thing. An object is here a connected
# part of one class in the labels, sorted by its share of the image. The figure gives the mean IoU of
# the classes that have an object of a size, and the gain over the baseline, size by size.

# %%
from analysis.notebook import open_figure

figure = open_figure("extra_small_objects")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## The sizes as numbers
#
# Medians over the seeds in percent, the gain of runs with the same seed in percent points; sizes as
# shares of the image. A size with few objects or few classes says little, so `objects` stands beside
# it.

# %%
from analysis.notebook import gain_table

gain_table(figure, ["from_share", "to_share", "objects"], "mean_iou_percent").round(2)

# %% [markdown]
# `./run_all.sh extra_small_objects` draws it as PDF and PNG; `docs/figures.md` has the rule by which
# a wrong pixel is given to a size.
