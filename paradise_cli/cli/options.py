"""Options that mean the same in every command."""

from typing import Annotated

import typer

OverridesOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a value of the recipe; may be repeated."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
