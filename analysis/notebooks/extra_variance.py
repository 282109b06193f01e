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
# # The more a class varies from image to image
#
# The paper explains its gain by prototypes that follow each image, where one class looks different
# from image to image. The made scenes have a knob for just that: `shift` moves each class's colours
# and texture in every image, from not at all (0) to as far as they go (1), and leaves the layouts as
# they are. Each point is a network of its own, trained and scored at that shift. If the explanation
# is right, the gain grows with the shift.

# %%
from analysis.notebook import open_figure

figure = open_figure("extra_variance")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## The shifts as numbers
#
# Medians over the seeds in percent; the gain is the mean of the paired gains over the seeds that
# both have, in percent points, with its 95 % interval and its p-value. These are
# the numbers of the table `study_variance`, from the same call.

# %%
wide = figure.numbers.pivot(index="shift", columns="label", values="miou_percent")
gains = figure.numbers.dropna(subset="gain_points").set_index("shift").filter(like="gain_")
wide.join(gains).round(3)

# %% [markdown]
# A larger shift also makes the task harder for both classifiers, so there is more to gain. A gain that
# grows is what the explanation predicts, not a proof of it. `docs/claims.md` says how the slope is
# judged, and what an interval from one seed does not know.
