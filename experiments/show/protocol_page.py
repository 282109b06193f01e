"""The tables of docs/protocol.md, made from the protocol files.

``python -m experiments.show.protocol_page`` writes them anew between the page's two marks; a
test fails where the page says something else than the files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.declare.load import load_registry
from experiments.declare.profile import Profile
from experiments.declare.protocol import Settings, known_datasets, resolve_protocol
from experiments.declare.registry import ExperimentRegistry
from experiments.declare.training import Optimizer, Schedule
from experiments.files import write_atomically
from experiments.machine import PROJECT

PAGE = PROJECT / "docs" / "protocol.md"
BEGIN = "<!-- made from experiments/protocols by python -m experiments.show.protocol_page -->"
END = "<!-- end of what is made -->"


def tables(registry: ExperimentRegistry, profile: Profile) -> str:
    """Settings, sources and deviations of every protocol that ``profile`` names, in Markdown."""
    names = list(dict.fromkeys(profile.protocols.values()))
    found = {
        name: {
            data: resolve_protocol(registry, name, data) for data in known_datasets(registry, name)
        }
        for name in names
    }
    return "\n\n".join(
        (
            "## Settings\n\n" + _settings(found),
            "## Sources\n\n" + _sources(registry, profile, names),
            "## Deliberate deviations\n\n" + _deviations(found),
        )
    )


def page(registry: ExperimentRegistry, profile: Profile, text: str) -> str:
    """``text`` with what stands between the marks made anew.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/protocol.md needs the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables(registry, profile)}\n\n{END}{after}"


def _settings(found: dict[str, dict[str, Settings]]) -> str:
    head = (
        *("Protocol", "Data set", "Optimiser", "Groups", "Schedule", "Iterations × batch"),
        *("Resize, crop", "Test"),
    )
    rows = []
    for name, by_dataset in found.items():
        for dataset, settings in by_dataset.items():
            training, evaluation = settings.training, settings.evaluation
            draws = training.augmentation
            test = f"{evaluation.mode}, {_pair(evaluation.scale)}"
            if evaluation.mode == "slide":
                test += f", windows {_pair(evaluation.crop)} every {_pair(evaluation.stride)}"
            if evaluation.multiple_of:
                test += f", to a multiple of {evaluation.multiple_of}"
            rows.append(
                (
                    *(f"`{name}`", dataset, _optimizer(training.optimizer)),
                    *(_groups(training.optimizer), _schedule(training.schedule)),
                    f"{training.iterations} × {training.batch}",
                    f"{_pair(draws.scale)} × {draws.ratio_range[0]:g} … {draws.ratio_range[1]:g}, "
                    f"{_pair(draws.crop)}, one class ≤ {draws.cat_max_ratio:g}",
                    f"{test}; every {evaluation.interval}",
                )
            )
    return _markdown(head, rows)


def _sources(registry: ExperimentRegistry, profile: Profile, names: Iterable[str]) -> str:
    rows = []
    for name in names:
        users = [model for model, used in profile.protocols.items() if used == name]
        protocol = registry.protocol(name)
        none = "; ".join(f"{data}: {why}" for data, why in protocol.unpublished.items())
        rows.append((f"`{name}`", ", ".join(users), protocol.source, none or "–"))
    return _markdown(("Protocol", "Models", "Source", "Not published"), rows)


def _deviations(found: dict[str, dict[str, Settings]]) -> str:
    where: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name, by_dataset in found.items():
        for dataset, settings in by_dataset.items():
            for each in settings.deviations:
                mention = "yes" if each.changes_results else "no: bookkeeping"
                key = (each.field, each.ours, each.theirs, each.why, mention)
                where.setdefault(key, {}).setdefault(name, []).append(dataset)
    rows = []
    for (field, ours, theirs, why, mention), protocols in where.items():
        places = []
        for name, datasets in protocols.items():
            everywhere = len(datasets) == len(found[name])
            places.append(f"`{name}`" + ("" if everywhere else f" ({', '.join(datasets)})"))
        rows.append((field, ours, theirs, why, ", ".join(places), mention))
    return _markdown(("Field", "Ours", "Source", "Why", "Where", "In records"), rows)


def _optimizer(declared: Optimizer) -> str:
    text = f"{declared.type} {declared.lr:g}, decay {declared.weight_decay:g}"
    if declared.momentum is not None:
        text += f", momentum {declared.momentum:g}"
    if declared.grad_clip_norm is not None:
        text += f", gradients clipped to norm {declared.grad_clip_norm:g}"
    return text


def _groups(declared: Optimizer) -> str:
    paramwise: dict[str, Any] = dict(declared.paramwise)
    keys = paramwise.pop("custom_keys", {})
    parts = [f"{name} {value:g}" for name, value in paramwise.items()]
    for key, factors in keys.items():
        parts += [f"{key}: {name} {value:g}" for name, value in factors.items()]
    return ", ".join(filter(None, (declared.constructor, *parts))) or "–"


def _schedule(declared: Schedule) -> str:
    if declared.cosine_to is None:
        text = f"poly {declared.power:g}"
        text += f" to {declared.min_lr:g}" if declared.min_lr else ""
    else:
        text = f"half a cosine to {declared.cosine_to:g} of it"
    if declared.warmup_iterations:
        text += f", warm-up {declared.warmup_iterations} from {declared.warmup_ratio:g}"
    return text


def _pair(sides: tuple[int, int] | None) -> str:
    return "own size" if sides is None else f"{sides[0]}×{sides[1]}"


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").strip() for cell in line) + " |"
        for line in lines
    )


def main(path: Path = PAGE) -> None:
    """Write the page's tables anew."""
    registry = load_registry()
    text = path.read_text(encoding="utf-8")
    write_atomically(path, page(registry, registry.profile("paper"), text))


if __name__ == "__main__":
    main()
