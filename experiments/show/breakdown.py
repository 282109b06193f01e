"""Where a network's parameters and multiply-accumulates are, module by module."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.declare.model import ModelCard
from experiments.judge.complexity import Complexity, complexity, complexity_difference


def show_breakdown(
    console: Console,
    card: ModelCard,
    classifiers: tuple[str, str],
    num_classes: int,
    size: int,
    depth: int,
) -> None:
    """Print the network of ``card`` with a classifier by module, and what that adds to another.

    Args:
        console: where to.
        card: the network.
        classifiers: its pixel classifier and the baseline; a mask classifier has none.
        num_classes: K.
        size: side of the square input, pixels.
        depth: levels of modules to show.

    Raises:
        SsaError: no such classifier, or a network that cannot be built.
    """

    def count(name: str) -> Complexity:
        return complexity(
            card.model_dump(), {"name": name}, num_classes=num_classes, size=size, depth=depth
        )

    classifier, baseline = classifiers
    own = classifier if card.pixel_classifier else "none"
    method = count(own)
    table = Table(title=escape(f"{card.title}, {own}, {size}×{size}, {num_classes} classes"))
    table.add_column("Module")
    for heading in ("Params, M", "MACs, G", "every product, G"):
        table.add_column(heading, justify="right")
    for part in method.modules:
        table.add_row(
            escape(part.name),
            f"{part.params_m:.3f}",
            f"{part.macs_g:.3f}",
            f"{part.macs_all_g:.3f}",
        )
    table.add_section()
    table.add_row(
        "all", f"{method.params_m:.3f}", f"{method.macs_g:.3f}", f"{method.macs_all_g:.3f}"
    )
    if own not in (baseline, "none"):
        added = complexity_difference(method, count(baseline))
        table.add_row(
            f"{own} adds to {baseline}",
            f"{added.params_m:+.3f}",
            f"{added.macs_g:+.3f}",
            f"{added.macs_all_g:+.3f}",
        )
    console.print(table)
    console.print(
        f"Parameters include the auxiliary head ({method.auxiliary_params_m:.3f} M) and leave out "
        f"what only training needs ({method.training_only_params_m:.3f} M)."
    )
