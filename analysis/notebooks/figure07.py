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
# # Figure 7: one class in several images
#
# A class looks different from image to image. One fixed prototype must lie in the middle of all these
# appearances; an adapted one can go where this image's pixels are. The figure shows the pixels of one
# class in several images, a colour and a marker an image. Stars are prototypes: white the fixed one,
# in an image's colour the one that was adapted to it.

# %%
from analysis.notebook import open_figure

figure = open_figure("figure7")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## How far apart the images lie
#
# Mean cosines, measured in the feature space: between two pixels of the class in one image (`within`),
# in two images (`between`), and between the prototypes adapted to two images (`prototypes`). The gap
# between the first two is what a fixed prototype cannot follow; prototypes that follow it differ from
# image to image, so their cosine lies clearly below 1.

# %%
import pandas as pd

from analysis.intra_class import clouds_of

frame = pd.DataFrame(
    [
        {
            "space": cloud.title.replace("$", ""),
            "within": cloud.within,
            "between": cloud.between,
            "gap": cloud.within - cloud.between,
            "prototypes": cloud.prototypes,
        }
        for cloud in clouds_of(figure.material)
    ]
)
frame.round(3)

# %%
figure.numbers.groupby(["panel", "image", "what"], sort=False).size().rename("points").to_frame()

# %% [markdown]
# The class was chosen by the labels: the one that most of the stored images show. The study
# `study_variance` varies how much a class changes between images on purpose and measures the gain.
