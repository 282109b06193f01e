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
# # Figure 5: the same with positions
#
# Figure 1 looks at the semantic features $S_f$. SSA-Seg decides on $S_f + P_f$: it adds a feature of
# the position and adapts a spatial prototype besides the semantic one. This figure puts both spaces
# side by side, for the same image and class: the baseline's, SSA-Seg's semantic one, and the one that
# it decides in.
#
# Read it like figure 1: coloured points belong to one class, grey ones to others; the white star is
# the fixed prototype, the coloured star the adapted one.

# %%
from analysis.notebook import open_figure

figure = open_figure("figure5")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## How near the prototypes are
#
# Mean cosines to the class's own pixels and to all others, in each space itself. What decides is the
# difference between the two, `margin`. The fixed prototypes stand in the decision's space only to
# compare with: SSA-Seg does not decide on them.

# %%
from analysis.tsne import cosine_frame, panels_of, shown_image

cosine_frame(panels_of(figure.material, shown_image(figure.material))).round(3)

# %% [markdown]
# The cosines of two spaces have different spreads; compare margins within one space rather than
# between two. `./run_all.sh figure5` draws the figure as PDF and PNG, with its points as CSV.
