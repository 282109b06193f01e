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
# # Figure 1: pixel features and prototypes of one image
#
# A segmentation network labels a pixel with the class whose prototype its feature $S_f$ is most like.
# The usual classifier has one fixed prototype a class for all images. The paper's first figure asks
# how near it lies to the pixels of *this* image, and where SSA-Seg's prototype goes once it has been
# adapted to the image.
#
# Each point is one position of the feature map. Coloured points are labelled with one class, grey
# ones with any other. The white star is the fixed prototype, the coloured star the adapted one.

# %%
from analysis.notebook import open_figure

figure = open_figure("figure1")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## What can be read off, and what cannot
#
# t-SNE keeps neighbours together; the distance between far groups, the size of a group and its place
# mean nothing. So look at which points a star has around it, and take the cosines of the table for
# the rest: they are measured in the feature space itself, before t-SNE. A prototype that separates
# its class has a high cosine to the class's own pixels and a low one to all others.

# %%
from analysis.tsne import cosine_frame, panels_of, shown_image

cosine_frame(panels_of(figure.material, shown_image(figure.material))).round(3)

# %%
figure.numbers.groupby(["panel", "what", "class"], sort=False).size().rename("points").to_frame()

# %% [markdown]
# It is one image and one class, chosen by the labels before any prediction was seen. An example is
# no evidence for a mean: that is what the tables are for. `./run_all.sh figure1` draws the figure as
# PDF and PNG, with these points as CSV.
