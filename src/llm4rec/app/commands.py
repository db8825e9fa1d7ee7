"""The commands that put a run to use: ``serve``, ``demo``, ``keys``, ``chat``, ``mcp``, ``converse``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

RunArgument = Annotated[Path, typer.Argument(help="A run directory.")]
Store = Annotated[
    str | None, typer.Option(help="File or URL of the database of events and memory; by default in the run directory.")
]
Compare = Annotated[
    list[Path] | None, typer.Option(help="A further run for the leaderboard; may be repeated. By default those beside the run.")
]
Agent = Annotated[
    Literal["rule", "plan", "react"],
    typer.Option(help="Who answers: by rules, or with a language model (plan first, or react: step by step)."),
]
Model = Annotated[
    str | None,
    typer.Option(help="Language model of the agent: an [llm.NAME] of the run, an asset's name, or a TOML file with one."),
]
System = Annotated[str | None, typer.Option(help="System that answers by default; else the best of the run.")]


def serve(
    run: RunArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; without --keys one of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    keys: Annotated[Path | None, typer.Option(help="File of API keys, which 'llm4rec keys' writes.")] = None,
    store: Store = None,
    system: System = None,
    compare: Compare = None,
    agent: Agent = "rule",
    llm: Model = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any other parameter of the server: --set timeout=5.")
    ] = None,
) -> None:
    """Serve a run over HTTP: pages for a browser, and an API for lists, reasons, search, events, memory, chat."""
    from llm4rec.app.server.command import start

    further = None if compare is None else tuple(compare)
    given = {"host": host, "port": port, "keys": keys, "store": store, "system": system, "compare": further}
    given |= {"agent": agent, "llm": llm}
    start(run, {k: v for k, v in given.items() if v is not None}, settings or [])


def demo(
    run_directory: Annotated[Path, typer.Argument(metavar="[RUN]", help="A run directory.")] = Path("runs/quickstart"),
    spec: Annotated[Path, typer.Option(help="The experiment that is run first where there is no such run.")] = Path(
        "experiments/quickstart.toml"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    compare: Compare = None,
    llm: Model = None,
) -> None:
    """Look at a run in the browser: the quickstart's unless another is named, made first if it is not there.

    In the chat agents answer by rules, or with a language model: the one that is named, else the first of the run.
    """
    from llm4rec.app.server.command import start
    from llm4rec.experiment.spec import read_spec

    if not (run_directory / "summary.json").is_file():
        from llm4rec.app.terminal import narrator

        resolved = read_spec(spec)
        with narrator(False) as tell:
            tell(f"there is no run in {run_directory}: making it from {spec} ...")
            from llm4rec.experiment.run import run

            run(resolved, run_directory, tell=tell)
    patient = {"llm_timeout": 60.0, "chat_timeout": 120.0}  # somebody looks on who would rather wait than be given a stand-in
    further = None if compare is None else tuple(compare)
    named = llm or next(iter(read_spec(run_directory / "spec.toml").llm), None)
    given = {"port": port, "compare": further, "llm": named, **patient}
    start(run_directory, {k: v for k, v in given.items() if v is not None}, [])


def keys(
    file: Annotated[Path, typer.Argument(help="The file of keys; made if it is not there.")],
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scopes: Annotated[str, typer.Option(help="What it may do: read, write, memory, metrics; separated by commas.")] = "read",
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute; by default the server's bound.")] = None,
) -> None:
    """Make an API key for 'llm4rec serve' and print it once; the file keeps its hash alone."""
    from llm4rec.app.server.keys import new_key

    typer.echo(new_key(file, name, [s.strip() for s in scopes.split(",") if s.strip()], per_minute))


def chat(
    run: RunArgument,
    user: Annotated[str | None, typer.Option(help="Who talks: a user of the data set, or a new one.")] = None,
    system: System = None,
    store: Store = None,
    agent: Agent = "rule",
    llm: Model = None,
    calls: Annotated[Path | None, typer.Option(help="File that keeps what the language model is asked and answers.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Answer from the file of calls alone; a miss is an error.")] = False,
) -> None:
    """Talk to a run: an agent answers through the run's systems, by rules or with a language model."""
    from llm4rec.app.chat import talk

    talk(run, user, system, store, agent, llm, calls, replay)


def mcp(
    run: RunArgument,
    user: Annotated[str | None, typer.Option(help="Whose session it is: a user of the data set, or a new one.")] = None,
    system: System = None,
    store: Store = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Let nothing be remembered or forgotten.")] = False,
) -> None:
    """Serve the tools of a run to a client of the Model Context Protocol, over stdin and stdout."""
    from llm4rec.app.mcp import serve_tools

    serve_tools(run, user, system, store, writes=not read_only)


def converse(
    spec: Annotated[Path, typer.Argument(help="The conversations, a TOML file.")],
    out: Annotated[Path | None, typer.Option(help="Directory; by default runs/NAME of the specification.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Answer LLM calls from the store alone.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the LLM again, whatever the store holds.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")] = False,
) -> None:
    """Let agents talk to simulated users and to dialogues of people; the same command continues what was stopped."""
    if replay and refresh:
        raise typer.BadParameter("--replay and --refresh exclude each other")
    from llm4rec.app.terminal import narrator

    with narrator(quiet) as tell:
        tell("loading libraries ...")
        from llm4rec.app.conversations.spec import read_conversations
        from llm4rec.app.conversations.talks import converse as hold

        resolved = read_conversations(spec)
        place = out or Path("runs") / resolved.conversations.name
        report = hold(resolved, place, mode="replay" if replay else "refresh" if refresh else "use", tell=tell)
    typer.echo((place / "table.md").read_text(encoding="utf-8"))
    typer.echo(f"report: {report}")
