"""The command line.  Commands import what they need when they run, so that ``--help`` is quick."""

from __future__ import annotations

import csv
import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from llm4rec.app.commands import RunArgument, chat, converse, demo, keys, mcp, serve

app = typer.Typer(
    name="llm4rec",
    help="Language models in recommender systems, measured beside the strongest alternatives.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at data sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
store_app = typer.Typer(
    help="Publish the model calls of a run, or take over published ones.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(store_app, name="store")

Out = Annotated[Path | None, typer.Option(help="Run directory; by default runs/NAME of the specification.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")]


def main() -> None:
    """Run the command line: a user's error is one line on stderr and exit code 1, never a traceback."""
    warnings.filterwarnings("ignore")
    try:
        app()
    except KeyboardInterrupt:
        _fail("stopped; the same command continues")
    except Exception as error:
        from llm4rec.core import LLM4RecError

        if isinstance(error, LLM4RecError):
            _fail(str(error))
        if isinstance(error, OSError):  # a full disk, a directory that may not be written
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        if isinstance(error, MemoryError) or "allocate memory" in str(error):  # numpy; torch raises RuntimeError
            _fail(f"not enough memory ({' '.join(str(error).split())[:200]}); use smaller parameters or a larger machine")
        raise


def _fail(line: str) -> None:
    print(f"llm4rec: {line}", file=sys.stderr)
    raise SystemExit(1)


@app.command()
def run(
    spec: Annotated[Path, typer.Argument(help="The experiment, a TOML file.")],
    out: Out = None,
    replay: Annotated[bool, typer.Option("--replay", help="Answer LLM calls from the run's store alone.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the LLM again, whatever the store holds.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask nobody: estimate the LLM's calls, tokens, money and time.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run an experiment; the same command continues one that was stopped."""
    if replay + refresh + dry_run > 1:
        raise typer.BadParameter("--replay, --refresh and --dry-run exclude each other")
    from llm4rec.app.terminal import narrator, print_estimate, print_leaderboard
    from llm4rec.experiment.spec import read_spec

    resolved = read_spec(spec)
    out = out or Path("runs") / resolved.experiment.name
    with narrator(quiet) as tell:
        tell("loading libraries ...")
        if dry_run:
            from llm4rec.experiment.estimate import estimate

            found = estimate(resolved, out, tell=tell)
            print_estimate(*found)
            return
        from llm4rec.experiment.run import run as run_experiment

        report = run_experiment(resolved, out, mode="replay" if replay else "refresh" if refresh else "use", tell=tell)
    print_leaderboard(out)
    typer.echo(f"report: {report}")


@app.command()
def tune(
    spec: Annotated[Path, typer.Argument(help="The experiment, a TOML file, with a table [tune] if it likes.")],
    trials: Annotated[int | None, typer.Option(min=1, help="Trials of every system.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds of trials; with --trials, what comes first.")
    ] = None,
    systems: Annotated[str | None, typer.Option(help="Names, separated by commas; by default all that have ranges.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the draws of parameters.")] = None,
    sampler: Annotated[str | None, typer.Option(help="tpe or random.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the search; by default runs/NAME-tune.")] = None,
    quiet: Quiet = False,
) -> None:
    """Choose parameters on validation cases, with equal budgets; the same command continues one that was stopped."""
    from llm4rec.app.terminal import narrator, print_outcomes
    from llm4rec.experiment.spec import read_spec, tune_options

    given = {"trials": trials, "seconds": seconds, "seed": seed, "sampler": sampler}
    resolved = tune_options(read_spec(spec), {k: v for k, v in given.items() if v is not None})
    named = None if systems is None else [s.strip() for s in systems.split(",") if s.strip()]
    typed = {"trials": trials, "seconds": seconds, "systems": systems, "seed": seed, "sampler": sampler}
    command = " ".join(["llm4rec tune", str(spec), *(f"--{k} {v}" for k, v in typed.items() if v is not None)])
    with narrator(quiet) as tell:
        tell("loading libraries ...")
        from llm4rec.experiment.tune import tune as search

        found = search(
            resolved, out or Path("runs") / f"{resolved.experiment.name}-tune", systems=named, command=command, tell=tell
        )
    print_outcomes(found)
    typer.echo(f"tuned specification: {found.path}")
    if any(o.best is None for o in found.outcomes):
        raise SystemExit(1)


@app.command()
def ids(
    spec: Annotated[Path, typer.Argument(help="The experiment, a TOML file.")],
    scheme: Annotated[
        list[str] | None, typer.Option(help="A scheme by name, with its defaults, instead of those of the systems.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Build the item IDs of an experiment's generative systems and say what they are like; nothing is trained on them."""
    from llm4rec.app.terminal import narrator, print_ids
    from llm4rec.experiment.spec import read_spec

    resolved = read_spec(spec)
    with narrator(quiet) as tell:
        tell("loading libraries ...")
        from llm4rec.experiment.item_ids import inspect_ids

        found = inspect_ids(resolved, scheme or [], tell=tell)
    print_ids(found)


@app.command()
def report(run: RunArgument) -> None:
    """Write report.html of a finished run again, and print its leaderboard."""
    from llm4rec.app.terminal import print_leaderboard
    from llm4rec.experiment.report import write_report

    path = write_report(run)
    print_leaderboard(run)
    typer.echo(f"report: {path}")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories of one split and protocol.")],
    metric: Annotated[
        str | None,
        typer.Option(help="Such as recall@20, or several separated by commas; by default the first run's primary one."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="The system, or RUN/SYSTEM, that all others are tested against; by default the best.")
    ] = None,
    planned: Annotated[
        bool, typer.Option("--planned", help="Test each system against the one that its specification names (against = ...).")
    ] = False,
    slice_of: Annotated[
        str | None, typer.Option("--slice", help="Only these cases: head, tail, cold, short or long (history).")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Leave out the systems that ran on a sample of the cases.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Put the systems of one or several runs into one table, tested in pairs on the cases that they share."""
    from llm4rec.app.comparison import print_comparison, print_effects
    from llm4rec.core import SpecError
    from llm4rec.experiment.compare import compare as put_together
    from llm4rec.experiment.planned import effects

    if planned and against is not None:
        raise SpecError("--planned and --against both name what is tested against", todo="give one of them")
    metrics = [] if metric is None else [m.strip() for m in metric.split(",") if m.strip()]
    if planned or len(metrics) > 1:
        found = effects(runs, metrics=metrics, against=against, planned=planned, full=full, slice_of=slice_of)
        print_effects(found, markdown=markdown)
    else:
        rows = put_together(runs, metric=next(iter(metrics), None), against=against, full=full, slice_of=slice_of)
        print_comparison(rows, markdown=markdown)


@app.command()
def recommend(
    run: RunArgument,
    system: Annotated[str | None, typer.Option(help="System of the run; by default the best on all cases.")] = None,
    user: Annotated[str | None, typer.Option(help="A user of the data set, by outside id.")] = None,
    items: Annotated[
        str | None,
        typer.Option(help="A history instead: item ids, oldest first, separated by commas; in quotes if an id holds one."),
    ] = None,
    k: Annotated[int, typer.Option(min=1, help="Length of the list.")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Say why, where the system can.")] = False,
) -> None:
    """Recommend to a user of the run's data set, or to a history of items."""
    from llm4rec.app.terminal import print_recommendations
    from llm4rec.experiment.recommend import recommend as answer

    history = None if items is None else [i.strip() for i in next(csv.reader([items], skipinitialspace=True), []) if i.strip()]
    print_recommendations(answer(run, system=system, user=user, history=history, k=k, explain=explain))


for command in (serve, demo, keys, chat, mcp, converse):
    app.command()(command)


@app.command()
def audit(
    place: Annotated[Path, typer.Argument(help="The experiment, a TOML file; or a run directory.")],
    out: Annotated[
        Path | None, typer.Option(help="Where audit.json goes; by default the run, or runs/NAME of the specification.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fit nothing: check the data, the split and what lies there.")] = False,
    only: Annotated[str | None, typer.Option(help="Names of checks, separated by commas.")] = None,
    quiet: Quiet = False,
) -> None:
    """Look for leaks, unfair rules and fragile figures; exit code 1 if there is a leak."""
    from llm4rec.app.terminal import narrator, print_audit

    with narrator(quiet) as tell:
        tell("loading libraries ...")
        from llm4rec.experiment.audit.audit import audit as look
        from llm4rec.experiment.audit.subject import AuditConfig

        names = [n.strip() for n in (only or "").split(",") if n.strip()]
        found, path = look(place, out, config=AuditConfig(quick=quick), only=names, tell=tell)
    print_audit(found)
    typer.echo(f"audit: {path}")
    if found.count("leak"):
        raise SystemExit(1)


@app.command()
def doctor() -> None:
    """Check the machine, the libraries, the caches and the assets."""
    from llm4rec.app.doctor import examine
    from llm4rec.app.terminal import print_findings

    if not print_findings(examine()):
        raise SystemExit(1)


@app.command("import-recbole")
def import_recbole(
    source: Annotated[Path, typer.Argument(help="A RecBole YAML file, or a folder of atomic files (.inter, .item, .user).")],
    out: Annotated[Path | None, typer.Option(help="The specification to write; by default it is printed.")] = None,
) -> None:
    """Turn a RecBole configuration into a specification, and say line by line what cannot be honoured."""
    from llm4rec.experiment.recbole import import_recbole as translate

    text, remarks = translate(source, out)
    for remark in remarks:
        typer.echo(f"{'kept' if remark.honoured else 'NOT honoured'}: {remark.key}: {remark.line}", err=True)
    if out is None:
        typer.echo(text)
        return
    out.write_text(text, encoding="utf-8")
    typer.echo(f"specification: {out}")


@data_app.command("list")
def data_list() -> None:
    """List the named sets."""
    from llm4rec.app.terminal import print_sets
    from llm4rec.data import sets

    print_sets(sets())


@data_app.command("get")
def data_get(name: Annotated[str, typer.Argument(help="Name of a set or asset.")]) -> None:
    """Fetch a set, an encoder or a language model into the cache."""
    from llm4rec.app.terminal import narrator
    from llm4rec.assets import fetch

    with narrator(False) as tell:
        tell(f"fetching {name} ...")
        path = fetch(name)
    typer.echo(str(path))


@data_app.command("show")
def data_show(
    name: Annotated[str, typer.Argument(help="A named set, or a file of events.")],
    catalogue: Annotated[Path | None, typer.Option("--items", help="The catalogue's file, for a file of events.")] = None,
) -> None:
    """Describe a data set: size, density, time, histories, columns."""
    from llm4rec.app.terminal import print_facts
    from llm4rec.data import describe, load_set, read, sets

    known = {s.name for s in sets()}
    looks_like_file = Path(name).suffix or "/" in name or Path(name).exists()
    dataset: Any = read(Path(name), items=catalogue) if name not in known and looks_like_file else load_set(name)
    print_facts(describe(dataset))


@data_app.command("make")
def data_make(
    out: Annotated[Path, typer.Option(help="Folder for ratings.csv and movies.csv.")],
    shape: Annotated[str | None, typer.Argument(help="Known set to be as large as: ml-100k, ml-1m, ml-25m.")] = None,
    users: Annotated[int | None, typer.Option(help="Number of users.")] = None,
    items: Annotated[int | None, typer.Option(help="Number of items.")] = None,
    events: Annotated[int | None, typer.Option(help="Number of events.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any other parameter of a made world: --set sequence=0.5.")
    ] = None,
) -> None:
    """Make a world of any size with known tastes, and write it as MovieLens-25M is written."""
    from llm4rec.core import SpecError, did_you_mean
    from llm4rec.data.made import write
    from llm4rec.data.world import SHAPES, World, world_config

    if shape is not None and shape not in SHAPES:
        raise SpecError(f"unknown shape {shape!r}", where="data make", todo=did_you_mean(shape, SHAPES))
    given: dict[str, Any] = dict(SHAPES[shape]) if shape is not None else {}
    given |= {k: v for k, v in (("users", users), ("items", items), ("events", events)) if v is not None}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals:
            raise SpecError(f"{setting!r} is no NAME=VALUE", where="data make --set")
        given[name] = value
    config = world_config(given)
    write(World(config), out)
    typer.echo(f"{config.users:,} users, {config.items:,} items, {config.events:,} events: {out}")


@store_app.command("export")
def store_export(
    run: RunArgument, file: Annotated[Path, typer.Argument(help="The file to write, such as calls.jsonl.")]
) -> None:
    """Write every model call of a run into one text file; no key or header is in it."""
    from llm4rec.experiment.directory import RunDirectory
    from llm4rec.llm import Store
    from llm4rec.llm.jsonl import export_jsonl

    with Store(RunDirectory(run).store, readonly=True) as store:
        calls = export_jsonl(store, file)
    typer.echo(f"{calls:,} calls: {file}")


@store_app.command("import")
def store_import(
    run: Annotated[Path, typer.Argument(help="A run directory; made if it is not there.")],
    file: Annotated[Path, typer.Argument(help="A file that 'store export' wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Where both have an answer, take the file's.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Where both have an answer, keep the run's.")] = False,
) -> None:
    """Take published model calls into a run's store: 'run --replay' then needs no model."""
    if replace and keep:
        raise typer.BadParameter("--replace and --keep exclude each other")
    from llm4rec.experiment.directory import RunDirectory
    from llm4rec.llm import Store
    from llm4rec.llm.jsonl import import_jsonl

    directory = RunDirectory(run)
    directory.open()
    with directory.lock(), Store(directory.store) as store:
        done = import_jsonl(store, file, on_conflict="replace" if replace else "keep" if keep else "error")
    typer.echo(f"{done.calls:,} calls: {done.added:,} added, {done.replaced:,} replaced, {done.kept:,} kept")


logging.getLogger("llm4rec").addHandler(logging.NullHandler())

if __name__ == "__main__":
    main()
