"""The `adawm` command: the first word in, that command's module imported and run.

Commands are imported only when they run, so that `adawm --help` and `adawm doctor` work on an installation
that lacks torch, ROS or the simulator.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from adawm_planner.paths import install_extra

COMMANDS: dict[str, tuple[str, str]] = {
    "drive": ("adawm_planner.cli.drive:drive", "Drive in the real ROS stack: separate processes over DDS."),
    "story": ("adawm_planner.cli.story:story", "Drive, shift, adapt, recover, roll back: the whole story once."),
    "evaluate": ("adawm_planner.cli.evaluate:evaluate", "Drive the same closed loop in process, without ROS."),
    "collect": ("adawm_planner.cli.collect:collect", "Collect offline driving data."),
    "pretrain": ("adawm_planner.cli.pretrain:pretrain", "Train world model and policy from nothing."),
    "export": ("adawm_planner.cli.export:export", "Write the trained model as ONNX."),
    "adapt": ("adawm_planner.cli.adapt:adapt", "Find out what no longer fits, and repair only that."),
    "adapter": ("adawm_planner.cli.adapter:adapter", "Make, show and check signed adapter bundles."),
    "baseline": ("adawm_planner.cli.adapt:baseline", "Measure what a model's mismatch is compared with."),
    "benchmark": ("adawm_planner.cli.benchmark:benchmark", "Measure against a named peer in the same run."),
    "faults": ("adawm_planner.cli.faults:faults", "Inject faults into the stack, and measure how it stops."),
    "doctor": ("adawm_planner.cli.doctor:doctor", "Say what is missing or wrong in this installation."),
}
"""Name -> (module:attribute, one line of help)."""

EXTRA_OF = {
    "torch": "train",
    "peft": "train",
    "matplotlib": "train",
    "scipy": "train",
    "libsumo": "sim",
    "carla": "sim",
    "gymnasium": "sim",
    "highway_env": "dev",
    "psutil": "dev",
}
"""Which extra of the package brings a module that may be missing."""


NO_LIBRARY = "cannot open shared object file"
"""What the loader says of a module whose own libraries are not installed."""

LIBRARIES_FIX = "apt-get install libx11-6 libxext6 libxrender1 libgl1"
"""Brings what libsumo's wheel needs of the system, which a bare server or container lacks."""


class LazyGroup(click.Group):
    """A group that knows names and help lines, and imports a command when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), COMMANDS[cmd_name][0]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the user can put right is told in one line."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if ctx.params["debug"] or error.name is None or error.name.startswith("adawm_planner"):
                raise
            raise click.ClickException(missing(error.name)) from error
        except ImportError as error:
            if ctx.params["debug"] or NO_LIBRARY not in str(error):
                raise
            raise click.ClickException(f"{error}: {LIBRARIES_FIX}") from error
        except (ValueError, OSError) as error:
            if ctx.params["debug"]:
                raise
            raise click.ClickException(str(error)) from error


def missing(module: str) -> str:
    """One line that says which part of the installation lacks a module and how to get it."""
    top = module.split(".")[0]
    if top in EXTRA_OF:
        return f"module '{top}' is missing: {install_extra(EXTRA_OF[top])} (or make setup)"
    if top == "rclpy" or top.endswith(("_msgs", "_interfaces", "_types")):
        return (
            f"ROS module '{top}' is missing: write scripts/with_ros.sh before the command, or `source "
            "scripts/ros_env.sh` once per shell; after `make setup` or `make drive`"
        )
    return f"module '{top}' is missing: run `adawm doctor`"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error instead of one line.")
@click.version_option(package_name="adawm_planner")
def adawm(debug: bool) -> None:
    """A world-model driving stack for ROS 2: drive, evaluate, train, measure."""


def main() -> None:
    """Entry point of the console script."""
    adawm(prog_name="adawm")


if __name__ == "__main__":
    main()
