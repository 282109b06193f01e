"""The options that several verbs share, and the call that they describe."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from experiments.cli import completion
from experiments.declare.metrics import METRICS
from experiments.machine import cpu_count, may_have_gpu, num_devices
from experiments.store.workspace import DEFAULT_DATA_ROOT, DEFAULT_RESULTS, Workspace

if TYPE_CHECKING:
    from experiments.declare.figure import Style as Width
    from experiments.declare.profile import Profile
    from experiments.plan.request import Request

DEFAULT_PROFILE = "quick"
CLUSTER_JOBS = 16  # of an array that run at once


class Device(str, Enum):
    """Where to train and to score."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Where(str, Enum):
    """Where runs go."""

    local = "local"
    slurm = "slurm"


class Log(str, Enum):
    """With what runs are followed while they train."""

    tensorboard = "tensorboard"
    wandb = "wandb"
    mlflow = "mlflow"


class Style(str, Enum):
    """How wide a figure is; how a table is laid out."""

    column = "column"
    text = "text"
    paper = "paper"


ItemArgument = Annotated[
    str,
    typer.Argument(help="An item (`list` shows them), or all.", autocompletion=completion.items),
]
TableArgument = Annotated[
    str, typer.Argument(help="A table; `list` shows them.", autocompletion=completion.tables)
]
RowArgument = Annotated[
    str,
    typer.Argument(help="Id of a row, or its label as printed.", autocompletion=completion.rows),
]
MetricArgument = Annotated[
    str,
    typer.Argument(
        help=f"{', '.join([*METRICS][:-1])} or {[*METRICS][-1]}.",
        autocompletion=completion.metrics,
    ),
]
ProfileOption = Annotated[
    str,
    typer.Option(
        help="Size of everything: smoke, quick, camvid, paper.", autocompletion=completion.profiles
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Runs at once. Default: one a processor or GPU; 16 of a cluster."),
]
DataRootOption = Annotated[
    Path, typer.Option(help="Folder that holds camvid/, ade20k/, …; may be read-only.")
]
ResultsOption = Annotated[Path, typer.Option(help="Folder that results are written to.")]
StyleOption = Annotated[
    Style | None,
    typer.Option(help="A figure's width: column, text. A table: paper, in the paper's columns."),
]
RegistryOption = Annotated[
    list[Path] | None,
    typer.Option("--registry", help="Your own folder of tables/, classifiers/, datasets/, …"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


def make_request(
    profile: ProfileOption = DEFAULT_PROFILE,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="How many (3) or which (0,2,7). Default: the profile's; where nothing is trained, "
            "those of the table's last export."
        ),
    ] = None,
    jobs: JobsOption = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    data_root: DataRootOption = DEFAULT_DATA_ROOT,
    results: ResultsOption = DEFAULT_RESULTS,
    registry: RegistryOption = None,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch", help="Do without pretrained weights; recorded as a deviation."
        ),
    ] = False,
    rows: Annotated[
        str | None, typer.Option(help="Train only the rows whose id fits, e.g. 'seaformer-b-*'.")
    ] = None,
    gpus: Annotated[
        int, typer.Option(min=1, help="GPUs that train one run together, on the same batch.")
    ] = 1,
    accumulation: Annotated[
        int | None,
        typer.Option(min=1, help="Micro-batches a step, for a GPU that the batch does not fit."),
    ] = None,
    remake_stale: Annotated[
        bool,
        typer.Option(
            "--remake-stale",
            help="Train runs anew whose code has changed since; their records are kept beside.",
        ),
    ] = False,
    launcher: Annotated[
        Where, typer.Option(help="Where runs go: this machine, or jobs of a Slurm cluster.")
    ] = Where.local,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="With --launcher slurm: partition, account, hours, …; may be given again.",
        ),
    ] = None,
    log: Annotated[
        Log | None, typer.Option(help="Follow runs with it while they train; docs/training.md.")
    ] = None,
) -> Request:
    """The call that the shared options describe; each verb has those that :func:`asks` names.

    Raises:
        typer.BadParameter: seeds or a device that mean nothing here.
        UnknownNameError: no such profile.
        RegistryError: a declarative file that is not valid.
    """
    from experiments.declare.load import load_registry
    from experiments.plan.request import Request, parse_seeds, without_weights

    loaded = load_registry(registry or [])
    chosen, deviations = loaded.profile(profile), tuple[str, ...]()
    if from_scratch:
        chosen, deviations = without_weights(chosen)
    try:
        wanted = parse_seeds(seeds, chosen)
        if launcher is Where.slurm:
            where, wide = choose_on_cluster(device.value, jobs, gpus, chosen)
        else:
            where = choose_device(device.value)
            wide = choose_jobs(jobs, where, gpus)
        cluster = parse_cluster(slurm or [], launcher.value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    workspace = Workspace(results=results.resolve(), data_root=data_root.resolve())
    shared = (rows, gpus, accumulation, remake_stale, launcher.value, cluster)
    followed = log.value if log else None
    return Request(
        *(loaded, chosen, wanted, workspace, wide, where, deviations, *shared, followed),
        asked=seeds is not None,
    )


#: the options of a verb that looks at what is stored
STORED = ("profile", "seeds", "data_root", "results", "registry", "from_scratch")
#: those of a verb that trains, besides
TRAINING = (
    *("jobs", "device", "rows", "gpus", "accumulation", "remake_stale"),
    *("launcher", "slurm", "log"),
)
#: of one that chooses the seeds itself
SEEDLESS = tuple(name for name in STORED if name != "seeds")


def asks(*shared: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a verb of a function of a :class:`Request` and of the verb's own options.

    The verb has the options of :func:`make_request` named ``shared``, in the order that they have
    there, then its own.
    """

    def to_verb(function: Callable[..., None]) -> Callable[..., None]:
        def verb(**given: Any) -> None:
            chosen = {name: given.pop(name) for name in shared}
            chosen.setdefault("device", Device.cpu)  # a verb without --device computes nothing
            function(make_request(**chosen), **given)

        _, *own = _parameters(function)
        asked = [option for option in _parameters(make_request) if option.name in shared]
        signature = inspect.Signature([*asked, *own])
        verb.__signature__ = signature  # type: ignore[attr-defined]  # typer reads it
        verb.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        verb.__name__, verb.__doc__ = function.__name__, function.__doc__
        return verb

    return to_verb


@cache
def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(function, localns={"Request": Any}, include_extras=True)
    return [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
    ]


def parse_duration(text: str) -> float:
    """``45m``, ``2h``, ``1h30m``, ``90s`` → seconds.

    Raises:
        ValueError: something else, or nothing.
    """
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    number = r"\d+(?:\.\d+)?"
    parts = re.findall(rf"({number})([hms])", text)
    seconds = sum(float(amount) * units[unit] for amount, unit in parts)
    if not re.fullmatch(rf"(?:{number}[hms])+", text) or not seconds:
        raise ValueError(f"--budget takes a duration (45m, 2h, 1h30m, 90s), not '{text}'.")
    return seconds


def table_style(style: Style | None) -> str | None:
    """The style of a table.

    Raises:
        typer.BadParameter: a style that only figures have.
    """
    if style in (None, Style.paper):
        return style.value if style else None
    raise typer.BadParameter(f"--style {style.value} is for figures; tables take --style paper.")


def figure_style(style: Style | None) -> Width | None:
    """The style of a figure.

    Raises:
        typer.BadParameter: a style that only tables have.
    """
    if style is Style.paper:
        raise typer.BadParameter("--style paper is for tables; figures take column or text.")
    return "column" if style is Style.column else "text" if style else None


def choose_device(name: str) -> str:
    """``auto`` → cuda where there is a device, else cpu.

    Raises:
        ValueError: cuda is asked for where there is none.
    """
    if name == "cpu" or (name == "auto" and not may_have_gpu()):
        return "cpu"
    import torch

    usable = torch.cuda.is_available()
    if name == "cuda" and not usable:
        raise ValueError(
            "--device cuda was given, but torch sees no CUDA device; try --device cpu."
        )
    return "cuda" if usable else "cpu"


def choose_on_cluster(
    device: str, jobs: int | None, gpus: int, profile: Profile
) -> tuple[str, int]:
    """Device and jobs at once on a cluster, by what is declared: this machine says nothing of it.

    Raises:
        ValueError: several GPUs for a run that trains on a CPU.
    """
    from experiments.launch.needs import needs_of

    where = needs_of(profile).device if device == "auto" else device
    if gpus > 1 and where != "cuda":
        raise ValueError(
            f"--gpus {gpus} was given, but the profile {profile.name} trains on the CPU; leave "
            "--gpus out, or give it with --device cuda."
        )
    return where, jobs or CLUSTER_JOBS


def parse_cluster(given: Sequence[str], launcher: str) -> tuple[tuple[str, str], ...]:
    """``["partition=gpu"]`` → (("partition", "gpu"),).

    Raises:
        ValueError: no KEY=VALUE, a key that is not known, or no cluster.
    """
    if given and launcher != "slurm":
        raise ValueError("--slurm was given without --launcher slurm, and runs stay here.")
    if not given:
        return ()
    from experiments.launch.slurm import PASSED, SETTABLE

    pairs = [tuple(each.partition("=")[::2]) for each in given]
    for word, (key, value) in zip(given, pairs):
        if key not in (*PASSED, *SETTABLE) or not value:
            known = ", ".join(f"{name}=…" for name in (*PASSED, *SETTABLE))
            raise ValueError(f"--slurm takes {known}; not '{word}'.")
    return tuple((key, value) for key, value in pairs)


def choose_jobs(jobs: int | None, device: str, gpus: int = 1) -> int:
    """As given; else one run each ``gpus`` GPUs, or one a processor (at most eight) on a CPU.

    Raises:
        ValueError: more GPUs a run than there are.
    """
    if gpus > 1 and device != "cuda":
        raise ValueError(
            f"--gpus {gpus} was given, but this call trains on the CPU; leave --gpus out, or give "
            "it with --device cuda on a machine with as many GPUs (`./run_all.sh doctor`)."
        )
    devices = num_devices(device)
    if gpus > devices:
        raise ValueError(f"--gpus {gpus} was given, but torch sees only {devices} of them.")
    if jobs is not None:
        return jobs
    return devices // gpus if device == "cuda" else min(cpu_count(), 8)
