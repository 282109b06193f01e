"""The command line behind run_all.sh: ``python -m experiments VERB|ITEM [options]``."""

from __future__ import annotations

import itertools
import signal
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from experiments.cli import (
    bundling,
    completion,
    data,
    evaluate,
    merging,
    parity,
    publishing,
    questions,
    weights,
)
from experiments.cli.options import (
    DEFAULT_PROFILE,
    SEEDLESS,
    STORED,
    TRAINING,
    DataRootOption,
    ItemArgument,
    JobsOption,
    ProfileOption,
    RegistryOption,
    ResultsOption,
    StyleOption,
    asks,
    figure_style,
    parse_duration,
    table_style,
)
from experiments.errors import (
    NotYetError,
    SsaError,
    UnclearNameError,
    UnknownNameError,
    sentence_of,
)
from experiments.machine import print_what_can_be_printed
from experiments.store.workspace import DEFAULT_DATA_ROOT, DEFAULT_RESULTS, Workspace

if TYPE_CHECKING:
    from types import FrameType

    from experiments.plan.request import Request

USAGE, INCOMPLETE, INTERRUPTED = 2, 3, 130

app = typer.Typer(
    cls=completion.Door,
    add_completion=False,  # see experiments/cli/completion.py
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=(
        "Regenerate the tables and figures of the paper that the registry declares. "
        "Name an item (table8, all) or one of the verbs below."
    ),
)

#: click's error class for a wrong command line; typer carries a click of its own
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Only(str, Enum):
    """What part of a table."""

    complexity = "complexity"


def _say_completion(wanted: bool) -> None:
    if wanted:
        typer.echo(completion.how_to_install())
        raise typer.Exit


@app.callback()
def door(
    install_completion: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            callback=_say_completion,
            is_eager=True,
            help="Say how the Tab key completes items, verbs, rows and profiles in your shell.",
        ),
    ] = False,
) -> None:
    """Take the options that stand before a verb."""


@app.command(hidden=True)
@asks(*STORED, *TRAINING)
def run(
    request: Request,
    item: ItemArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    only: Annotated[
        Only | None, typer.Option(help="Only count parameters and MACs: no data, no training.")
    ] = None,
    style: StyleOption = None,
) -> None:
    """Train what ITEM needs and is missing, print and export it; a figure is drawn.

    The item "all" draws every figure besides.

    Exit code: 0 complete, 3 incomplete (blocked cells), 1 a run failed, 2 a wrong command.
    """
    from experiments.cli import verbs
    from experiments.show.console import make_console

    console, declared = make_console(), request.registry.figures
    if item in declared:
        from experiments.draw import draw

        chosen, width = [declared[item]], figure_style(style)
        if dry_run:
            raise typer.Exit(draw.plan_figures(request, chosen, console))
        raise typer.Exit(draw.train_and_draw(request, chosen, console, width))
    if only is Only.complexity:
        raise typer.Exit(verbs.count(request, item, console))
    if dry_run:
        raise typer.Exit(verbs.show_plan(request, item, console))
    code = verbs.run(request, item, console, table_style(style))
    if item == "all" and not request.rows:
        from experiments.draw import draw

        others = draw.draw_stored(request, list(declared.values()), console, only_new=True)
        code = code if code == 1 else others or code  # a failure outranks what is incomplete
    raise typer.Exit(code)


@app.command()
@asks(*STORED, "jobs", "rows", "accumulation")
def plan(
    request: Request,
    item: ItemArgument,
    detect: Annotated[
        float | None,
        typer.Option(help="Say how many seeds it takes to see a gain of so many points."),
    ] = None,
) -> None:
    """Show which runs of ITEM there are, which are missing or blocked and why, and how long.

    With --detect 1.0 only how many seeds, runs and hours a gain of one point takes.
    """
    from experiments.cli.verbs import show_detection, show_plan
    from experiments.show.console import make_console

    if detect is not None:
        if not detect > 0:
            raise typer.BadParameter(f"--detect takes a gain in points above 0, not {detect:g}.")
        if item in request.registry.figures:
            raise UnclearNameError(
                f"{item} is a figure; --detect is about the gains of a table: "
                f"`./run_all.sh plan {next(iter(request.registry.tables), 'TABLE')} --detect 1.0`."
            )
        raise typer.Exit(show_detection(request, item, detect, make_console()))
    if figure := request.registry.figures.get(item):
        from experiments.draw.draw import plan_figures

        raise typer.Exit(plan_figures(request, [figure], make_console()))
    raise typer.Exit(show_plan(request, item, make_console()))


@app.command()
@asks(*SEEDLESS, "jobs", "device", "gpus", "accumulation", "launcher", "slurm")
def decide(
    request: Request,
    item: ItemArgument,
    budget: Annotated[
        str | None, typer.Option(help="How long, e.g. 45m, 2h, 1h30m. Default: no end.")
    ] = None,
    max_seeds: Annotated[
        int, typer.Option(min=3, help="Seeds of a row; a claim that takes more is futile.")
    ] = 30,
) -> None:
    """Add seeds to a table where they are worth most, until its claims are decided or futile.

    Goes on where it stopped. From then on the table is judged by intervals that hold at whatever
    number of seeds one stops.

    Exit code: 0 every claim is decided, 3 one is not, 1 a run failed.
    """
    from experiments.cli import verbs
    from experiments.show.console import make_console

    if item in request.registry.figures:
        raise UnclearNameError(
            f"{item} is a figure, which claims nothing; decide takes a table: "
            f"`./run_all.sh decide {next(iter(request.registry.tables), 'TABLE')}`."
        )
    try:
        seconds = parse_duration(budget) if budget else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(verbs.decide(request, item, make_console(), seconds, max_seeds))


@app.command()
@asks(*STORED)
def figures(request: Request, style: StyleOption = None) -> None:
    """Draw every figure from what is stored; trains nothing and says what is missing (exit 3)."""
    from experiments.draw.draw import draw_stored
    from experiments.show.console import make_console

    chosen = list(request.registry.figures.values())
    raise typer.Exit(draw_stored(request, chosen, make_console(), figure_style(style)))


@app.command()
@asks(*STORED, "device")
def extract(
    request: Request,
    item: Annotated[str, typer.Argument(metavar="RUN|ITEM", help="A run's id, figure or table.")],
    pictures: Annotated[
        bool | None,
        typer.Option(
            "--pictures/--without-pictures",
            help="Keep the chosen images themselves, or only what a network makes of them, for "
            "data that may not be passed on. Default: as they are; with them at first.",
        ),
    ] = None,
) -> None:
    """Keep what figures need of finished runs (needs their weights and data, once)."""
    from experiments.draw.draw import extract_item
    from experiments.show.console import make_console

    raise typer.Exit(extract_item(request, item, make_console(), pictures))


@app.command("list")
def list_(registry: RegistryOption = None) -> None:
    """Show every table and figure of the paper, the studies, models and profiles."""
    from rich.markup import escape

    from experiments.declare.extensions import own_names
    from experiments.declare.load import load_registry
    from experiments.declare.registry import STUDY
    from experiments.show.terminal import make_console

    loaded, console = load_registry(registry or []), make_console()
    declared = {
        **{n: f"{table.title} ({len(table.rows)} rows)" for n, table in loaded.tables.items()},
        **{n: figure.title for n, figure in loaded.figures.items()},
    }
    paper = loaded.paper
    others = [name for name in declared if name not in paper.items]
    studies = [name for name in others if name.startswith(STUDY)]
    groups = {
        f"{paper.name} ({paper.venue}), tables and figures": paper.items,
        "Studies of ours": studies,
        "Others": [name for name in others if name not in studies],
    }
    for heading, members in groups.items():
        if members:
            console.print(f"{heading}:")
        for name in members:
            console.print(f"  {name:<16}{escape(declared.get(name, 'not in the registry yet'))}")
    console.print("Profiles:")
    for chosen in loaded.profiles.values():
        console.print(f"  {chosen.name:<16}{escape(chosen.title)}")
    console.print("Models:")
    for card in loaded.models.values():
        console.print(f"  {card.name:<16}{escape(card.title)}, {escape(card.backbone)}")
    for kind, names in own_names(loaded.folders).items():
        console.print(f"Your {kind}:")
        for name, text in names.items():
            console.print(f"  {name:<20}{escape(text)}", soft_wrap=True)


@app.command()
def doctor(
    data_root: DataRootOption = DEFAULT_DATA_ROOT, results: ResultsOption = DEFAULT_RESULTS
) -> None:
    """Check this installation: versions, devices, disk, data; says how to mend what is wrong."""
    from experiments.cli.doctor import examine, show_findings
    from experiments.show.console import make_console

    workspace = Workspace(results=results.resolve(), data_root=data_root.resolve())
    findings = examine(workspace)
    raise typer.Exit(show_findings(make_console(), findings))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="classifier, networks, table, …; compare, page.")],
    results: ResultsOption = DEFAULT_RESULTS,
) -> None:
    """Measure speed and memory side by side; further options go to the benchmark (see its --help).

    Writes results/benchmarks/. Ratios are to be compared, not seconds.
    """
    import subprocess

    from experiments.machine import PROJECT, module_command

    sources = (PROJECT / "benchmarks").glob("[a-z]*.py")
    known = sorted(path.stem for path in sources if "\ndef main(" in path.read_text("utf-8"))
    if name not in known:
        raise UnknownNameError("benchmark", name, known)
    out = str(results.resolve() / "benchmarks")  # before the call's own, of which the last holds
    command = module_command(f"benchmarks.{name}", "--out", out, *context.args)
    raise typer.Exit(subprocess.run(command, cwd=PROJECT, check=False).returncode)


@app.command()
def report(
    items: Annotated[list[str] | None, typer.Argument(help="Tables to show. Default: all.")] = None,
    profile: Annotated[
        list[str] | None, typer.Option(help="Only this profile; may be given again. Default: all.")
    ] = None,
    data_root: DataRootOption = DEFAULT_DATA_ROOT,
    results: ResultsOption = DEFAULT_RESULTS,
    registry: RegistryOption = None,
    site: Annotated[
        Path | None, typer.Option(help="Write a page a table into this folder instead.")
    ] = None,
) -> None:
    """Write results/report/index.html: one page with the whole state of the reproduction.

    Reads what is stored and trains nothing. The page loads nothing from anywhere.
    """
    given = {"profile": profile, "registry": registry, "data-root": data_root, "results": results}
    _hand_on("analysis.report", items, given | {"site": site})


@app.command()
def notebooks(
    names: Annotated[
        list[str] | None, typer.Argument(help="Figures, or tour. Default: all of them.")
    ] = None,
    profile: ProfileOption = DEFAULT_PROFILE,
    results: Annotated[
        Path | None, typer.Option(help="Default: results if it holds a run, or results/reference.")
    ] = None,
    registry: RegistryOption = None,
    row: Annotated[str | None, typer.Option(help="That the tour follows: TABLE/ROW.")] = None,
    jobs: JobsOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: RESULTS/notebooks.")] = None,
) -> None:
    """Execute the notebooks of analysis/notebooks on stored results; trains and draws nothing.

    Exit code: 0 complete, 3 a figure has not been drawn yet, 1 a notebook failed.
    """
    given: dict[str, Any] = {"profile": profile, "registry": registry, "results": results}
    _hand_on("analysis.execution", names, given | {"row": row, "jobs": jobs, "out": out})


def _hand_on(module: str, words: list[str] | None, given: dict[str, Any]) -> NoReturn:
    """Run a module of ours with these options in a process of its own; its exit code is ours."""
    import subprocess

    from experiments.machine import module_command

    command = module_command(module, *(words or []))
    for option, value in given.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        command += [word for each in values for word in (f"--{option}", str(each))]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def complexity(
    model: Annotated[
        str,
        typer.Argument(
            help="Name of a model file; `list` shows them.", autocompletion=completion.models
        ),
    ],
    classifier: Annotated[
        str | None, typer.Option(help="Default: the paper's method; beside its baseline.")
    ] = None,
    classes: Annotated[int, typer.Option(min=1, help="Number of classes.")] = 150,
    size: Annotated[int, typer.Option(min=1, help="Side of the input, pixels.")] = 512,
    depth: Annotated[int, typer.Option(min=1, help="Levels of modules to show.")] = 2,
    registry: RegistryOption = None,
) -> None:
    """Count a paper-size network by module: parameters, MACs, and what the classifier adds."""
    from experiments.declare.load import load_registry
    from experiments.show.breakdown import show_breakdown
    from experiments.show.console import make_console

    loaded = load_registry(registry or [])
    chosen, baseline = classifier or loaded.paper.method, loaded.paper.baseline
    card = loaded.model(model)
    show_breakdown(make_console(), card, (chosen, baseline), classes, size, depth)


app.command()(evaluate.evaluate)
app.command()(merging.merge)
app.command()(bundling.bundle)
app.command()(bundling.unbundle)
app.command()(publishing.publish)
questions.register(app)
app.add_typer(weights.app, name="weights")
app.add_typer(parity.app, name="parity")
app.add_typer(data.app, name="data")


def expand(arguments: list[str]) -> list[str]:
    """``table8 …`` → ``run table8 …``; verbs and options stay.

    Raises:
        UnknownNameError: neither a verb nor an item.
    """
    from experiments.declare.load import load_registry

    verbs = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    verbs += [str(group.name) for group in app.registered_groups]
    if not arguments or arguments[0].startswith("-") or arguments[0] in verbs:
        return arguments
    extra = [Path(b) for a, b in itertools.pairwise(arguments) if a == "--registry"]
    extra += [Path(a.partition("=")[2]) for a in arguments if a.startswith("--registry=")]
    loaded = load_registry(extra)
    items = [*loaded.tables, *loaded.figures, *loaded.paper.items, "all"]
    if arguments[0] not in items:
        names = [verb for verb in verbs if verb != "run"]
        raise UnknownNameError("item or verb", arguments[0], dict.fromkeys([*items, *names]))
    return ["run", *arguments]


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; a user's error is one sentence on standard error."""
    print_what_can_be_printed()  # a locale may lack "–"
    # end as Ctrl-C does, whatever is under way; under nohup a terminal may close
    asked = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    for number in asked:
        signal.signal(number, _interrupt)
    try:
        completion.answer_shells()
        code = app(
            expand(sys.argv[1:]),
            prog_name=f"./{completion.DOOR}",
            complete_var=completion.VARIABLE,
            standalone_mode=False,
        )
        if code == INTERRUPTED:  # newer typers return it, older ones raise Abort
            raise KeyboardInterrupt
    except (UnknownNameError, UnclearNameError) as error:
        code = _say(str(error), USAGE)
    except NotYetError as error:
        code = _say(str(error), INCOMPLETE)
    except SsaError as error:
        code = _say(sentence_of(error), 1)
    except UsageError as error:
        text = error.format_message()  # type: ignore[attr-defined]
        code = _say(text, USAGE) if text else 0  # no arguments: the help has been printed
    except (typer.Abort, KeyboardInterrupt):
        code = _say("Interrupted; the same command goes on where it stopped.", INTERRUPTED)
    for number in asked:  # all is done: what Python tears down now is no reason for another code
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code or 0)


def _say(sentence: str, code: int) -> int:
    typer.echo(f"Error: {sentence}", err=True)
    return code
