"""Events of a story in, lines and a live panel on the console out.

Where the console is no terminal there is no panel, and every tenth episode has a line instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from adawm_planner.story.events import Driving, Drove, Event, Measured, Moved, Offered, Operated, Refused
from adawm_planner.story.phases import Phase, Tally, Turn
from adawm_planner.story.record import Kept, Record

EVERY = 10
"""Episodes between two lines where there is no panel."""

SHOWN = {"ready": "shadow", "probation": "bound", "reverting": "probation"}
"""Stage -> which of the planner's figures say something then, by a part of their names."""

TITLES = {
    Phase.NOMINAL: "1 nominal: the road and the vehicle that the model was trained on",
    Phase.SHIFTED: "2 shifted: the world is another one now, and nobody told the planner",
    Phase.ADAPTING: "3 adapting: what the finetuner made drives",
    Phase.RECOVERED: "4 recovered: fresh episodes with the adapters",
    Phase.ROLLED_BACK: "5 rolled back and pinned: the base model again, by the operator",
}


@dataclass(frozen=True)
class Now:
    """What the panel shows beside the record."""

    finetuner: str = ""
    swap: str = ""
    missed: int = 0  # ticks
    frames: int = 0


class View:
    """Shows one story; use as a context."""

    def __init__(self, console: Console, record: Record) -> None:
        """Show nothing yet."""
        self._console, self._record = console, record
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.start()
        self._say(f"[bold]{TITLES[Phase.NOMINAL]}[/]")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def event(self, kept: Kept) -> None:
        """Show what happened; an episode only where there is no panel."""
        event = kept.event
        if isinstance(event, Drove):
            chapter = self._record.chapters[-1]
            if self._live is None and len(chapter.results) % EVERY == 0:
                self._say(f"{at(kept)} {counted('newest episodes', self._record.newest(EVERY))}")
        else:
            self._say(f"{at(kept)} {line(event)}")

    def turn(self, turn: Turn, wall_s: float) -> None:
        """Show the end of a phase."""
        ended = self._record.chapters[-1 if turn.after is None else -2]
        self._say(f"[{wall_s:4.0f} s] {counted(f'phase {ended.phase.value} over', ended.tally)}; {escape(turn.reason)}")
        if turn.after is not None:
            self._say(f"[bold]{TITLES[turn.after]}[/]")

    def now(self, live: Now, wall_s: float) -> None:
        """Refresh the panel."""
        if self._live is not None:
            self._live.update(panel(self._record, live, wall_s))

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=self._live is None)


def at(kept: Kept) -> str:
    """When it happened, as markup."""
    return f"[dim]\\[{kept.wall_s:4.0f} s, episode {kept.episode:3d}][/]"


def counted(what: str, tally: Tally) -> str:
    """Successes in words."""
    if tally.episodes == 0:
        return f"{what}: no episode"
    low, high = tally.interval
    rate = f"{tally.rate:.2f} (95 % {low:.2f}-{high:.2f})"
    return f"{what}: success {tally.successes} of {tally.episodes}, {rate}"


def line(event: Event) -> str:
    """An event in one line of rich markup."""
    match event:
        case Measured():
            scores = (
                f"dynamics {event.dynamics:.2f} +- {event.dynamics_error:.2f}, "
                f"policy {event.policy:.2f} +- {event.policy_error:.2f}"
            )
            why = escape(event.reason)
            return f"[cyan]round {event.round}[/]: mismatch {scores} -> trained: [bold]{event.trained}[/] ({why})"
        case Offered():
            return f"[cyan]adapter pushed[/]: {event.name}, {event.size_bytes / 1e3:.0f} kB, {event.digest[:12]}"
        case Moved():
            figures = ", ".join(f"{key} {value}" for key, value in event.figures if SHOWN.get(event.stage, "-") in key)
            return f"[magenta]{event.part} {event.digest}: {event.stage}[/]{f' ({escape(figures)})' if figures else ''}"
        case Driving():
            return (
                f"[green]drives[/]: base model{''.join(f' + {name}' for name in event.adapters)}; {event.swaps} swaps"
            )
        case Refused():
            return f"[yellow]refused[/]: {escape(event.text)}"
        case Operated():
            how = "yes" if event.success else "no"
            return f"[bold]operator[/]: {event.service} ({escape(event.request)}) -> {how}: {escape(event.message)}"
        case Drove():
            return f"seed {event.result.seed}: {event.result.outcome.value}"


def panel(record: Record, live: Now, wall_s: float) -> Panel:
    """The state of the story, a few lines high."""
    window = record.setting.config.window
    rounds = record.events(Measured)
    rows = Table.grid(padding=(0, 2))
    rows.add_row("success", counted(f"newest {window} of this phase", record.newest(window)))
    rows.add_row("drives", "base model" + "".join(f" + {name}" for name in record.driving))
    if rounds:
        newest = rounds[-1].event
        assert isinstance(newest, Measured)
        rows.add_row("mismatch", f"dynamics {newest.dynamics:.2f}, policy {newest.policy:.2f} (round {newest.round})")
    rows.add_row("finetuner", Text(live.finetuner or "starts"))
    rows.add_row("planner", Text(live.swap or "starts"))
    rows.add_row("missed ticks", f"{live.missed} of {live.frames} frames; {record.waited} frames without a command")
    title = f"{TITLES[record.phase]} | episode {record.episodes}, {wall_s:.0f} s"
    return Panel(Group(rows), title=title, title_align="left")


def summary(document: dict[str, object]) -> Table:
    """One row per phase."""
    view = Table(title="the story", box=SIMPLE_HEAD, show_edge=False)
    for header in ("phase", "world", "episodes", "success (95 %)", "m/s", "adapters"):
        view.add_column(header, overflow="fold")
    phases = document["phases"]
    assert isinstance(phases, list)
    for row in phases:
        low, high = row["success_ci95"]
        view.add_row(
            row["phase"],
            f"{row['task']}, {row['vehicle']}",
            str(row["episodes"]),
            f"{row['success_rate']:.2f} ({low:.2f}-{high:.2f})",
            f"{row['mean_speed_mps']:.1f}",
            ", ".join(row["adapters"]) or "-",
        )
    return view


def verdict(document: dict[str, object]) -> str:
    """Whether success has recovered, and after how long; says so plainly where it has not."""
    recovery = document["recovery"]
    if not isinstance(recovery, dict):
        return "[bold yellow]success has not recovered in this story[/]"
    return (
        f"[bold green]recovered[/] {recovery['episodes']} episodes after the shift: {recovery['driving_s']:.0f} s of "
        f"driving, {recovery['wall_s']:.0f} s on the clock, {recovery['adapters']} adapters"
    )
