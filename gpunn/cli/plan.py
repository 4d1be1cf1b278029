"""How a training would scale to many ranks, on paper: ``gpunn plan``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gpunn.backend import check_device, default_device
from gpunn.cli import help, quantities
from gpunn.cli.output import table, tell
from gpunn.cli.progress import measuring
from gpunn.distributed.cost import FLOAT, Link, Network, Plan, Step, at_batch
from gpunn.distributed.cost import plan as plan_step
from gpunn.errors import ArgumentError, FileError, check

_HEAD = "ranks", "step", "waiting", "communication", "hidden", "exposed", "memory a rank", "samples/s", "efficiency"


def add_to(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    from gpunn import plot
    from gpunn.recipes.scaling import NETWORKS, OPTIMIZERS, find, measure

    def names() -> list[tuple[str, str]]:
        return [(name, known.text) for name, known in NETWORKS.items()]

    @app.command(
        rich_help_panel=help.MACHINE,
        epilog=help.examples(
            "gpunn plan resnet50 --ranks 8..4096 --link 50GB/s --step 120ms",
            "gpunn plan vgg16 --ranks 4,16,64 --link 25Gbit/s --per-node 4 --inner-link 12GB/s --png vgg16.png",
            "gpunn plan alexnet --link 12.5GB/s --sharded --json",
        ),
    )
    def plan(
        model: Annotated[
            str, typer.Argument(metavar="MODEL", help=f"One of {', '.join(NETWORKS)}.", autocompletion=names)
        ],
        link: Annotated[
            str,
            typer.Option(
                metavar="RATE", help="What each rank (with --per-node: each node) sends, as 50GB/s, 25Gbit/s."
            ),
        ],
        ranks: Annotated[
            str, typer.Option(metavar="NUMBERS", help="8..4096, each twice the one before, or a list as 1,2,4.")
        ] = "8..4096",
        latency: Annotated[str, typer.Option(metavar="TIME", help="Of a message.")] = "5us",
        per_node: Annotated[int, typer.Option(min=1, max=10**6, help="Ranks of a node, which share its link.")] = 1,
        inner_link: Annotated[
            str | None, typer.Option(metavar="RATE", help="What each rank sends within its node.")
        ] = None,
        algorithm: Annotated[
            Literal["auto", "ring", "tree"], typer.Option(help="Of the all-reduce; auto is the faster of the others.")
        ] = "auto",
        batch: Annotated[int, typer.Option(min=1, max=10**6, help="Samples of a step, a rank.")] = 32,
        step: Annotated[
            str | None,
            typer.Option(metavar="TIME", help="Of a step of one rank alone on your device.", show_default="from here"),
        ] = None,
        optimizer: Annotated[Literal["adam", "sgd"], typer.Option(help="sgd is with momentum.")] = "adam",
        sharded: Annotated[
            bool, typer.Option("--sharded", help="Each rank keeps 1/n of the optimizer's states.")
        ] = False,
        bucket: Annotated[str, typer.Option(metavar="SIZE", help="Gradients that are reduced at once.")] = "4MiB",
        no_overlap: Annotated[
            bool, typer.Option("--no-overlap", help="Reduce gradients when backward is done.")
        ] = False,
        spread: Annotated[
            float, typer.Option(help="Standard deviation of the time a rank computes, as a part of it.")
        ] = 0.02,
        precision: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option(help="What is measured here.")] = "fp32",
        device: Annotated[
            str | None,
            typer.Option(help="Where it is measured.", autocompletion=help.devices, show_default="the default device"),
        ] = None,
        png: Annotated[Path | None, typer.Option(metavar="FILE", help="A PNG file for a plot.")] = None,
    ) -> None:
        """Say on paper how training would scale: time a step, communication hidden and exposed, memory, efficiency.

        A step of the network is measured here on random samples, few if it takes long, and brought to --batch on a
        line; with --step to the time on your device, each layer with its share of the time here. From that and what an
        all-reduce costs on the link, a step of each number of ranks is put together. What is taken for granted is
        printed with it; nothing is run on more than one rank.

        The rate of a link should be what is reached, not what it is sold as: published runs reach about four fifths.
        """
        find(model)
        counts = quantities.ranks("--ranks", ranks)
        network = _network(link, latency, per_node, inner_link, algorithm, counts)
        lasts = None if step is None else quantities.seconds("--step", step)
        check(lasts is None or lasts > 0, ArgumentError, "plan", "--step must be above 0", step=step)
        at_once = quantities.size("--bucket", bucket)
        check(0 <= spread < 1, ArgumentError, "plan", "--spread must be at least 0 and below 1", spread=spread)
        where = default_device() if device is None else check_device(device)
        if png is not None and not png.absolute().parent.is_dir():  # not after minutes
            raise FileError(f"{png}: the figure cannot be written: No such folder: {png.parent}")

        with measuring() as on_progress:
            measured = measure(model, batch, where, precision, optimizer, on_progress)
        here = measured[-1]
        alone = here if here.batch == batch else at_batch(measured[0], here, batch)
        if lasts is not None:
            alone = alone.lasting(lasts)
        states = OPTIMIZERS[optimizer][1]
        settings: dict[str, Any] = {"bucket": at_once, "overlap": not no_overlap, "sharded": sharded, "states": states}
        plans = [plan_step(alone, count, network, spread=spread, **settings) for count in counts]

        assumptions = [
            *_of_step(here, alone, where, precision, optimizer, lasts is not None),
            *_of_network(network),
            *_of_ranks(alone, at_once, no_overlap, sharded, spread),
            _of_memory(plans[0], states, sharded),
        ]
        words = [f"{model}, {find(model).text}: {alone.parameters:,} parameters, {batch} samples a rank", ""]
        words += [table([_HEAD, *map(_row, plans)], ">" * len(_HEAD)), "", "This takes for granted:"]
        words += [f"- {line}" for line in assumptions]
        facts = {"model": model, "parameters": alone.parameters, "batch": batch, "step_seconds": alone.seconds}
        facts |= {"plans": [each.as_dict() for each in plans], "assumptions": assumptions}
        if png is not None:
            plot.scaling(plans, png, f"{model}, {batch} samples a rank, {link}")
            words += ["", f"plot: {png}"]
        tell("\n".join(words), facts | {"plot": png})


def _network(
    link: str, latency: str, per_node: int, inner_link: str | None, algorithm: str, counts: list[int]
) -> Network:
    both = (per_node > 1) == (inner_link is not None)
    rule = "--inner-link goes with a --per-node of at least 2, and that with it"
    check(both, ArgumentError, "plan", rule, per_node=per_node, inner_link=inner_link)
    lasts = quantities.seconds("--latency", latency)
    outer = Link(quantities.rate("--link", link), lasts)
    inner = None if inner_link is None else Link(quantities.rate("--inner-link", inner_link), lasts)
    for count in counts:
        whole = count <= per_node or count % per_node == 0
        check(whole, ArgumentError, "plan", "--per-node must divide --ranks", ranks=count, per_node=per_node)
    return Network(outer, per_node, inner, algorithm)


# ---- what is taken for granted --------------------------------------------------------------------------------------


def _of_step(here: Step, alone: Step, where: str, precision: str, optimizer: str, elsewhere: bool) -> list[str]:
    measured = (
        f"{_time(here.seconds)} for {here.batch} sample{'s' * (here.batch > 1)} on {where} in {precision}, {optimizer}"
    )
    parts = f"forward {_time(alone.forward)}, backward {_time(alone.backward)}, update {_time(alone.update)}"
    lines = [f"a step alone takes {_time(alone.seconds)}: {parts}"]
    if elsewhere:
        lines.append(f"that is your --step; the shares of its parts and layers are as measured here: {measured}")
    else:
        lines.append(f"measured here: {measured}")
    if here.batch != alone.batch:
        half = here.batch // 2
        lines.append(
            f"forward, backward and activations grow with the batch on the line through {half} and {here.batch}"
        )
    return lines


def _of_network(network: Network) -> list[str]:
    whose = "a rank" if network.per_node == 1 else f"a node of {network.per_node} ranks"
    latency = _time(network.link.latency)
    lines = [f"{whose} sends {_rate(network.link.bandwidth)} and receives as much at once; {latency} a message"]
    if network.inner is not None:
        lines.append(
            f"in a node each rank sends {_rate(network.inner.bandwidth)}; reduce-scatter in nodes, all-reduce between "
            "them, all-gather in nodes"
        )
    ways = {
        "ring": "ring all-reduce: 2 (n-1)/n bytes/rate + 2 (n-1) latencies",
        "tree": "tree all-reduce: 2 bytes/rate + 2 log2(n) latencies",
        "auto": "the faster of a ring, 2 (n-1)/n bytes/rate + 2 (n-1) latencies, and trees, 2 bytes/rate + 2 log2(n)",
    }
    return [*lines, ways[network.algorithm]]


def _of_ranks(alone: Step, bucket: int, no_overlap: bool, sharded: bool, spread: float) -> list[str]:
    sent = f"float32 gradients, {_size(FLOAT * alone.parameters)} in buckets of {_size(bucket)}"
    when = (
        "when backward is done"
        if no_overlap or sharded
        else "as backward fills them, one after the other, at no cost to it"
    )
    lines = [f"{sent}, reduced {when}"]
    if sharded:
        lines.append("rings reduce-scatter the gradients; 1/n is updated, and gathering the parameters is exposed")
    lines.append(
        f"the time a rank computes has a standard deviation of {100 * spread:g} %, and all wait for the slowest"
    )
    return [*lines, "data are there in time; the batch a rank is the same for any number of ranks"]


def _of_memory(plan: Plan, states: int, sharded: bool) -> str:
    kept = "1/n of " * sharded + f"{states} array{'s' * (states > 1)} of the optimizer's"
    beside = f"what a step has in use beside them, {_size(plan.memory.activations)}"
    return f"memory a rank is float32 parameters, as many gradients, {kept}, and {beside}"


# ---- the table ------------------------------------------------------------------------------------------------------


def _row(plan: Plan) -> list[str]:
    times = plan.seconds, plan.waiting, plan.communication, plan.hidden, plan.exposed
    figures = _size(plan.memory.total), f"{plan.samples_per_second:,.0f}", f"{100 * plan.efficiency:.1f} %"
    return [str(plan.ranks), *map(_time, times), *figures]


def _time(seconds: float) -> str:
    """
    >>> _time(1.5), _time(0.0123), _time(5e-6), _time(0)
    ('1.50 s', '12.3 ms', '5.0 us', '0')
    """
    if seconds >= 1:
        return f"{seconds:.2f} s"
    if seconds >= 1e-3:
        return f"{1e3 * seconds:.1f} ms"
    return f"{1e6 * seconds:.1f} us" if seconds > 5e-8 else "0"


def _size(count: float) -> str:
    """
    >>> _size(26214400), _size(3e9)
    ('26.2 MB', '3.00 GB')
    """
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _rate(bandwidth: float) -> str:
    return f"{bandwidth / 1e9:g} GB/s"
