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
# # Which classes gain, and in which images
#
# The paper explains the gain by features that lie far from the fixed prototype of their class (its
# figure 1). Here that distance is measured in every image of the split, in the baseline's networks,
# and the gain of each class is set against it, against the share of the images that show the class
# and against its size. Lower right, each class is compared with itself: in which of its images does
# it gain?

# %%
from analysis.notebook import open_figure

figure = open_figure("extra_mechanism")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## The classes as numbers
#
# Means over the seeds, the classes with the largest distance first. For each seed the distance is
# that of the other seeds' networks: in its own, the noise of one training would be in both numbers.

# %%
numbers = figure.numbers
classes = numbers[numbers["class"].notna()]
columns = ["distance", "frequency_percent", "size_percent", "gain_points"]
classes.groupby("class")[columns].mean().sort_values("distance", ascending=False).round(2)

# %% [markdown]
# ## The images of a class in fifths
#
# Gain over the class's own mean in the fifth of its images in which its features lie nearest to the
# prototype (1) … farthest from it (5). It is empty where no class is shown by enough images.

# %%
fifths = numbers[numbers["fifth_by_distance"].notna()]
fifths.pivot_table(index="fifth_by_distance", columns="seed", values="gain_points").round(2)

# %% [markdown]
# A class that is hard for the baseline lies far from its prototype and has much to gain for either
# reason: the comparison within a class, from image to image, is the stricter one. Neither says that
# the distance is the cause. The verdicts are those of the table `study_mechanism`.
