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
# # Which classes gain and which lose
#
# A mean over all classes hides who pays for it. Here is the change of IoU of each class against the
# baseline, sorted, as medians over the seeds. The line across a bar reaches from the lowest to the
# highest seed: where it crosses zero, the seeds do not agree on the sign.

# %%
from analysis.notebook import open_figure

figure = open_figure("extra_classes")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## The classes as numbers
#
# `agreed` is true where every seed has the sign of the median. Classes that a baseline hardly finds
# at all have much to gain and little to lose.

# %%
numbers = figure.numbers.drop(columns="label").set_index("class")
low, high = numbers["change_low_points"], numbers["change_high_points"]
numbers.assign(agreed=(low > 0) | (high < 0)).round(1)

# %% [markdown]
# The mean of `change_points` need not be the gain in a table: a median of differences is not a
# difference of medians, and a class's own median may come from another seed. Tables say how sure the
# gain of the mean is.
