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
# # From a registry entry to a verdict
#
# Every number of this project takes the same way: a declared row of a table becomes a run, the run
# leaves a record, the records of several seeds become a median with an interval, and that is compared
# with the paper. This notebook walks the way for one row, with what is stored. It trains nothing.

# %%
from analysis.notebook import Chosen
from experiments.declare.load import load_registry

chosen = Chosen.from_environment()
registry = load_registry(chosen.registry)
profile = registry.profile(chosen.profile)
table_name, _, row_id = chosen.row.partition("/")
table = registry.table(table_name)
row, base = table.row(row_id), table.baseline_of(table.row(row_id))
print(f"Read from {chosen.place}, profile {profile.name}: {profile.title}")

# %% [markdown]
# ## 1. The entry
#
# A table is a YAML file in `experiments/tables/`. A row names a classifier, the switches in which it
# differs, and the paper's own numbers. Here is the row, and below it the one that it is compared with.

# %%
import yaml

print(f"# {table.source}: {table.title}")
for entry in (row, base):
    print(yaml.safe_dump(entry.model_dump(exclude_defaults=True, mode="json"), sort_keys=False))

# %% [markdown]
# ## 2. The run
#
# Row, profile and seed together resolve to everything that a training needs. The run's name ends in
# a digest of all that: whatever changes, even a weight of a loss, makes another run. The exported
# table says which runs stand behind the row; the record has the resolved settings.

# %%
import pandas as pd

from experiments.nested import flatten

pd.set_option("display.max_colwidth", None)
ours, theirs = (chosen.records(table.name, entry.id) for entry in (row, base))
spec = ours[0].spec
print("as stored:      ", spec.run_id)
print("with seed 7:    ", spec.model_copy(update={"seed": 7}).run_id)
pd.Series(flatten(spec.training.model_dump(mode="json")), name="training").to_frame()

# %% [markdown]
# ## 3. The record
#
# A run exists once its record does. `load_runs` reads all records of a folder; these belong to the
# two rows. The columns that are not shown say on which data, with which code and software, and
# whether a module that the run used has changed since.

# %%
from experiments import load_curves, load_runs

names = [record.run_id for record in (*theirs, *ours)]
runs = load_runs(chosen.results).set_index("run_id").loc[names]
runs["git_commit"] = runs["git_commit"].str[:8]
runs[["seed", "miou_percent", "macc_percent", "total_s", "device", "git_commit"]].round(2)

# %%
labels = {r.run_id: entry.label for entry, found in ((base, theirs), (row, ours)) for r in found}
curves = load_curves(chosen.results)
curves["label"] = curves["run_id"].map(labels)
curves.pivot_table(index="iteration", columns=["label", "seed"], values="miou_percent").round(2)

# %% [markdown]
# ## 4. From pixels to a gain
#
# Beside the record lie the areas of every image and class, as whole numbers. The mIoU follows from
# them exactly. So do the gain (the mean of the pairs, one a seed), its interval for seeds and images
# drawn anew, and its p-value, below 0.05 where the interval leaves 0 out. The table's own interval
# borrows the deviation between seeds of its other rows besides, so it may differ a little. Where seeds
# were added while verdicts were looked at (`decide`) nothing is borrowed, and the interval holds at
# whatever number of seeds one stops.

# %%
from experiments.judge.statistics import ScoredRun, gain_over, summarise
from experiments.store.store import Store

store, document = Store(chosen.results), chosen.exported(table.name)
scored = {record.run_id: ScoredRun(store.read_areas(record.run_id)) for record in (*ours, *theirs)}
for record in ours:
    print(
        f"seed {record.spec.seed}: {scored[record.run_id].miou:.4f} from the areas, "
        f"{record.scores.miou:.4f} in the record"
    )
median = summarise([record.scores.miou for record in ours])
print(f"median of {median.num_seeds}: {median.median:.2f} ({median.low:.2f} to {median.high:.2f})")
seeds = {record.spec.seed: record for record in theirs}
pairs = [(record, seeds[record.spec.seed]) for record in ours if record.spec.seed in seeds]
runs, bases = ([scored[record.run_id] for record in side] for side in zip(*pairs))
gain = gain_over(runs, bases, sequential=document.get("sequential", False))
print(
    f"gain over {base.label}: {gain.value:+.2f} points [{gain.low:+.2f}, {gain.high:+.2f}], "
    f"p = {gain.p_value:.4f}, {gain.num_seeds} seeds, {gain.num_images} images"
)

# %% [markdown]
# ## 5. The verdict
#
# The measured median is compared with the paper's number in the paper's own setting only. In every
# other profile the word is "not comparable", however near the numbers may be. The table in `results`
# says the same of each of its rows.

# %%
from experiments.judge.statistics import noise_of_difference
from experiments.judge.verdict import against_paper

cells = {cell["row"]: cell for cell in document["rows"]}
noise = noise_of_difference(document["seed_deviation_points"], len(ours), 1)
verdict = against_paper(
    median.median,
    row.reported.miou,
    profile=profile.name,
    comparable=profile.compares_with_paper,
    noise=noise,
    stated_error=registry.paper.stated_error,
)
print(f"paper: {row.reported.miou}, ours: {median.median:.2f}: {verdict.word} ({verdict.reason})")
print(f"exported: {cells[row.id]['versus_paper']} ({cells[row.id]['versus_paper_reason']})")
columns = ["label", "seeds", "miou_percent", "gain_points", "gain_low_points", "gain_high_points"]
pd.DataFrame(document["rows"])[[*columns, "versus_paper"]].round(2)

# %% [markdown]
# What the paper concludes from the table is judged as well, for the size and data of this profile:

# %%
claims = pd.DataFrame(
    document["claims"], columns=["text", "verdict", "value", "low", "high", "unit"]
)
claims.round(2)

# %% [markdown]
# `./run_all.sh table8` makes all of this from nothing, on your machine: it trains what is missing and
# leaves what is there. `docs/architecture.md` names the module behind each step.
