"""bearerwatch without Salesforce: `simulate` and `demo`."""

from pathlib import Path
from typing import Annotated

import typer

from monitor.commands.cli.arguments import settings_of
from monitor.commands.cli.exits import log_errors_alone, port_taken, say


def simulate(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Create an org for each connection in this file.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 for a free one.")] = 8899,
    host: Annotated[str, typer.Option(help="Address. Default: loopback.")] = "127.0.0.1",
    speed: Annotated[
        float, typer.Option(min=0, help="Simulated seconds per second: 86400 is a day per second.")
    ] = 1,
) -> None:
    """Run the simulator: orgs that answer as Salesforce does, with a control API.

    Example: `bearerwatch simulate --config config.example.yaml`
    """
    from monitor.commands import demo

    with port_taken(f"{host}:{port}", "Choose another with --host or --port."):
        settings = settings_of(config) if config else None
        demo.simulate(settings, host=host, port=port, speed=speed, say=say)


def run_demo(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port of the status page.")] = 9877,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Run the simulated weeks as fast as possible.")
    ] = False,
) -> None:
    """Run the simulator and the daemon together: weeks of simulated time in a minute.

    Needs no configuration and no Salesforce, and leaves no files behind.
    """
    from monitor.commands import demo

    log_errors_alone()
    with port_taken(f"127.0.0.1:{port}", f"Choose another port: bearerwatch demo --port {port + 1}."):
        demo.demo(port=port, at_once=at_once, say=say)
