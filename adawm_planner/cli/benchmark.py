"""`adawm benchmark`: the name of a benchmark in, the command of its file under benchmarks/ run.

The benchmarks live beside the package, in the source checkout, because they compare with software that the
package itself does not need.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

import click

from adawm_planner.paths import share_dir

BENCHMARKS = {
    "latency": "Sensor message in to control out, by stage, against an empty echo node.",
    "experience": "What publishing an Experience costs the planner's tick.",
    "sidecar": "The planner's tick with a finetuner at full load beside it, and without.",
    "swap": "Adapter swaps while driving: missed ticks, mixed outputs, flip time, memory.",
    "attacks": "Hostile updates at a driving planner: refused or not, and what they cost its tick.",
    "reference": "All drivers on all built-in tasks, on seeds never used for tuning.",
    "identify": "Planted causes of mismatch against what the estimators say.",
    "table": "Tasks and vehicles against adaptation strategies, over seeds.",
    "story": "The whole story over shifts and seeds: success before, during, after; time to recovery.",
    "fuzz": "Random proposals and worlds through the safety gate, judged by an oracle of its own.",
    "mutation": "Small changes to the safety core, and how many of them its tests notice.",
    "promises": "What is promised, what was measured of it, and what is not shown.",
    "gate_step": "One step of the safety gate with 64 others around it.",
    "stopping": "Metres from 50 km/h to standstill when planner, inputs or gate are gone.",
    "gate": "The safety gate on the built-in tasks: what it costs and prevents, seed by seed.",
    "training": "Low-rank updates against updates of all weights.",
    "throughput": "Decisions per second of the environment, against highway-env.",
    "kills": "SIGKILL of the finetuner beside a driving planner: what is left on the disk, who notices.",
    "soak": "An hour of real-time driving with the sidecar: memory, processor, missed ticks, swaps.",
    "picture": "Write the README's picture: what the model sees, imagines, and what really came.",
    "page": "Write docs/performance.md from the committed results of these.",
}
"""Name, which is also that of the module and of its command -> one line of help."""


class BenchmarkGroup(click.Group):
    """Imports a benchmark when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(BENCHMARKS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the benchmark's module; None for an unknown name."""
        if cmd_name not in BENCHMARKS:
            return None
        command = getattr(import_benchmark(cmd_name), cmd_name)
        assert isinstance(command, click.Command), cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the benchmarks without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(BENCHMARKS.items()))


def import_benchmark(name: str) -> ModuleType:
    """Import a module of the folder benchmarks/.

    Raises:
        ClickException: this is not a source checkout.
    """
    root = share_dir()
    if not (root / "benchmarks" / f"{name}.py").is_file():
        raise click.ClickException(f"benchmarks are run from a source checkout; {root} has no benchmarks folder")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return import_module(f"benchmarks.{name}")


@click.group(cls=BenchmarkGroup)
def benchmark() -> None:
    """Measure against a named peer or floor in the same run, and write the pages of results."""
