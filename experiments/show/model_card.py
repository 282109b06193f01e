"""The page of a published row or table: README.md with the metadata that huggingface.co reads.

Every number of ours stands with its source, so that ``./run_all.sh check README.md`` holds the page
against the records (docs/prose.md); in the metadata the source is a comment of YAML.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from experiments.declare.table import Table
from experiments.judge.assemble import RowResult, TableResult
from experiments.show.export import show_gain
from experiments.show.publish import PublishError, hub_library
from experiments.store.records import Record
from ssa import __version__

LIBRARY = "ssa-seg-lab"
LICENCE = "apache-2.0"  # as huggingface.co spells it


def model_card(result: TableResult, row: RowResult, target: str) -> str:
    """README.md for the weights of one row's runs.

    Args:
        result: the table with that row.
        row: it has runs.
        target: USER/NAME, as whose numbers the metadata lists them.

    Raises:
        PublishError: the row has no run, or huggingface_hub is missing.
    """
    if row.miou is None:
        raise PublishError(
            f"No run of {result.table.name}/{row.row.id} is stored in the profile "
            f"{result.profile}: `./run_all.sh {result.table.name} --profile {result.profile}`."
        )
    source = f"{result.table.name}@{result.profile}/{row.row.id}"
    metadata = _metadata(result, row, target).splitlines()
    numbers = [
        f"{line} # <!-- from: {source}/miou -->" if line.lstrip().startswith("value:") else line
        for line in metadata
    ]
    return "\n".join(["---", *numbers, "---", "", *_body(result, row, source)])


def _metadata(result: TableResult, row: RowResult, target: str) -> str:
    hub = hub_library()
    assert row.miou is not None
    dataset = row.records[0].spec.dataset
    measured = hub.EvalResult(
        task_type="image-segmentation",
        task_name="Semantic segmentation",
        dataset_type=dataset,
        dataset_name=f"{row.dataset} (profile {result.profile})",
        metric_type="mean_iou",
        metric_name=f"mIoU in percent, {_seeds(row.miou.num_seeds)}",
        metric_value=round(row.miou.median, 2),
    )
    card = hub.ModelCardData(
        license=LICENCE,
        datasets=[dataset],
        metrics=["mean_iou"],
        library_name=LIBRARY,
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", row.row.classifier.name],
        model_name=target.rpartition("/")[2],
        eval_results=[measured],
    )
    return str(card.to_yaml()).strip()


def _body(result: TableResult, row: RowResult, source: str) -> Iterator[str]:
    table, paper, records = result.table, result.table.paper, row.records
    assert row.miou is not None
    yield from (f"# {row.row.label}: {row.model}, {row.backbone}, on {row.dataset}", "")
    yield from (
        f"Weights of row `{row.row.id}` of `{table.name}` ({table.title}; {table.source}), one "
        f"network a seed, trained by {LIBRARY} {__version__} in the profile {result.profile} "
        f"({result.profile_title}).",
        "",
        "## What was measured",
        "",
    )
    seeds = ", ".join(str(record.spec.seed) for record in records)
    spread, of = "", f"of the one seed {seeds}"
    if row.miou.num_seeds > 1:
        spread = f" ({row.miou.low:.2f}–{row.miou.high:.2f})"
        of = f"the median over the seeds {seeds}, with the lowest and the highest"
    yield f"- mIoU {row.miou.median:.2f}{spread}<!-- from: {source}/miou --> %, {of}."
    if row.gain is not None:
        gain = row.gain
        over = table.row(table.baseline_of(row.row).id).label
        drawn = "seeds and images" if gain.num_seeds > 1 else "images alone"
        yield (
            f"- {show_gain(gain)}<!-- from: {source}/gain --> points of mIoU over "
            f"{over}, with the 95 % interval over {drawn}."
        )
    yield from ("", _comparison(result, row), "")
    notes = dict.fromkeys(text for record in records for text in record.deviations)
    notes |= dict.fromkeys(f"Stale: {reason}" for reason in row.stale)
    if notes:
        yield from ("What differs from the protocol:", "", *(f"- {text}." for text in notes), "")
    yield from (
        "## To use it",
        "",
        "The folder is a results folder:",
        "",
        "```python",
        *_loading(records, table),
        "```",
        "",
        "## Where it comes from",
        "",
        *(f"- `{record.run_id}`: {_origin(record)}." for record in records),
        "",
        f"Method: {paper.title} ({paper.venue}), {paper.url}. The weights are under the licence "
        f"in LICENSE ({LICENCE}); of the data the licence is their own.",
        "",
    )


def _seeds(number: int) -> str:
    return f"median of {number} seeds" if number > 1 else "one seed"


def _comparison(result: TableResult, row: RowResult) -> str:
    sizes = sorted({record.spec.model_size for record in row.records})
    as_published = sizes == ["paper"] and row.dataset == row.paper_dataset
    if row.versus_paper.word == "not comparable" or not as_published:
        return (
            f"**These numbers do not compare with the publication's**: the network's size here is "
            f"“{', '.join(sizes)}” and the data are {row.dataset}, the publication's row is about "
            f"the full size on {row.paper_dataset}."
        )
    if row.versus_paper.word == "not reported":
        return "The publication prints no number for this row."
    return f"Against the publication's number: {row.versus_paper}."


def _loading(records: Sequence[Record], table: Table) -> list[str]:
    return [
        "from pathlib import Path",
        "",
        "from experiments.store.store import Store",
        "from experiments.train.trained import load_trained",
        "",
        'store = Store(Path("DOWNLOADED"))',
        f'record = store.read("{records[0].run_id}")  # of {table.name}',
        "network = load_trained(record, store)",
    ]


def _origin(record: Record) -> str:
    commit = record.environment.git_commit
    code = f"commit {commit[:12]}" if commit else "no commit recorded"
    return (
        f"finished {record.finished}, torch {record.environment.torch} on "
        f"{record.environment.device}, {code}, result digest `{record.result_digest[:16]}`"
    )


def bundle_card(table: Table, profile: str, archive: str, runs: int) -> str:
    """README.md beside a table's bundle."""
    return "\n".join(
        [
            "---",
            f"license: {LICENCE}",
            f"pretty_name: {table.name}",
            "tags: [semantic-segmentation, ro-crate, reproduction]",
            "---",
            "",
            f"# {table.name}: {table.title}",
            "",
            f"{runs} runs of `{table.name}` ({table.source}) in the profile {profile}, with the "
            "areas per image and class behind each score, the exported table, the declared files "
            f"and the locked environment, as one RO-Crate made by {LIBRARY} {__version__}:",
            "",
            "```bash",
            f"./run_all.sh unbundle {archive} --out theirs    # checks every checksum",
            "./run_all.sh diff results theirs",
            "```",
            "",
        ]
    )
