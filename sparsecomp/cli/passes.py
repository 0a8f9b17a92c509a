"""`sparsecomp passes`: what the pipeline is made of."""

import json

import click


@click.command("passes")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def passes_verb(as_json: bool) -> None:
    """List the passes in pipeline order, a line each."""
    from sparsecomp.opt import list_passes

    rows = list_passes()
    if as_json:
        keys = ("stage", "name", "help")
        click.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
        return
    stage_width = max(len(stage) for stage, _, _ in rows)
    name_width = max(len(name) for _, name, _ in rows)
    for stage, name, help_line in rows:
        click.echo(f"{stage:{stage_width}}  {name:{name_width}}  {help_line}")
