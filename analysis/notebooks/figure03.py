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
# # Figure 3: how classes relate to each other
#
# During training a teacher builds its prototypes from the ground truth. The loss $L_{sd}$ asks the
# student to keep its classes at least as far apart as the teacher keeps them. What it compares is a
# matrix: row softmax of $\tau\cos$ between the semantic prototypes of all classes. A row says how a
# class divides its attention; a bright diagonal means that classes are told apart, a bright cell off
# the diagonal is a pair that is easily confused.
#
# Both networks below have a teacher. Only the second was trained with $L_{sd}$.

# %%
from analysis.notebook import open_figure

figure = open_figure("figure3")
print(figure.setting)
figure.runs

# %%
figure.picture

# %%
print(figure.note)

# %% [markdown]
# ## The matrices in two numbers
#
# `own` is the mean of the diagonal, what a class keeps for itself. `nearest` is the mean over classes
# of the largest other entry. The loss punishes only a pair that the student holds for more alike than
# the teacher does, so with it the student's `own` should not lie below its teacher's; nothing keeps
# it from lying far above.

# %%
import pandas as pd

from analysis.relation_matrix import relations_of

relations = [relation for of_line in relations_of(figure.material) for relation in of_line]
summary = [{"matrix": r.title, "own": r.own, "nearest": r.confusion} for r in relations]
pd.DataFrame(summary).round(3)

# %% [markdown]
# The pairs that each matrix holds for most alike:

# %%
pairs = figure.numbers[figure.numbers["class"] != figure.numbers["other_class"]]
largest = pairs.sort_values("share", ascending=False, kind="stable").groupby("matrix", sort=False)
largest.head(4).sort_values(["matrix", "share"], ascending=[True, False]).round(3)

# %% [markdown]
# Whether $L_{sd}$ helps the mIoU is another question, which Table 9 answers: `./run_all.sh table9`.
