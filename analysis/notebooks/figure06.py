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
# # Figure 6: without and with distillation
#
# Adapting prototypes to an image needs a first guess of where the classes are, and a wrong guess
# pulls them astray. In training the teacher makes the same prototypes from the ground truth, and
# three losses draw the student's towards them. Here two networks with the same classifier stand side
# by side, in the space that they decide in: one was trained with the teacher and its losses, the
# other without.

# %%
from analysis.notebook import open_figure

figure = open_figure("figure6")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## How near the prototypes are
#
# If distillation helps the adapted prototype to find its class in this image, its `margin` is larger
# with it: nearer to the class's own pixels than to the others.

# %%
from analysis.tsne import cosine_frame, panels_of, shown_image

cosine_frame(panels_of(figure.material, shown_image(figure.material))).round(3)

# %% [markdown]
# The two networks have different features, so one picture cannot be laid over the other. The mIoU of
# both is in Table 8, rows "+ SEPA + SPPA" and "SSA-Seg".
