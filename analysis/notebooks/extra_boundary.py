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
# # Near the borders of classes
#
# The paper says that SSA-Seg draws better boundaries and shows examples; it prints no number. This
# figure measures it: mIoU counted only in a band around the borders between classes, for bands of 1
# to 15 pixels, beside the mIoU over whole images. If the gain is a gain at boundaries, it is larger
# in narrow bands than over whole images.

# %%
from analysis.notebook import open_figure

figure = open_figure("extra_boundary")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## The bands as numbers
#
# Medians over the seeds in percent, and the gain of runs with the same seed in percent points. The
# band 0 stands for the whole image. Tables give the difference of the medians instead, so its gain may
# differ from theirs.

# %%
from analysis.notebook import gain_table

gain_table(figure, "band_px", "miou_percent").round(2)

# %% [markdown]
# Pixels are those of the size at which the data set is evaluated: 3 pixels of a small made scene are
# a larger share of the image than 3 pixels of a photograph. `docs/figures.md` has the definitions.
