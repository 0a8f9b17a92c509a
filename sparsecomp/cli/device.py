"""The option of commands that run an artifact on a CPU or a GPU."""

import click

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="What to run on; auto: a GPU where there is one that ARTIFACT has a program for.",
)
