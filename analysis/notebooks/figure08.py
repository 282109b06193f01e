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
# # Figure 8: masks, and what they rest on
#
# For four images: the image, the truth, the mask of each network, and its Grad-CAM for one class,
# which is outlined. Grad-CAM weighs the channels of the backbone's last map by how much they raise
# the class's mean score over its labelled pixels. Bright places speak for the class.
#
# The images and the class were chosen by the labels, before any prediction was seen.

# %%
from analysis.notebook import open_figure

figure = open_figure("figure8")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## The masks in numbers
#
# IoU of the outlined class in that image, and the share of all labelled pixels that are right, in
# percent.

# %%
figure.numbers.set_index(["image", "focus_class", "label"]).unstack("label").round(1)

# %% [markdown]
# Each map is scaled by its own maximum, so brightness cannot be compared between two maps, only where
# in a map it is. Four images are an illustration; the mean over the whole split is in the column
# `miou_percent` above.
