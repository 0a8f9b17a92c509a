"""The verbs, gathered. Each one's module imports its work only when called."""

import click

import sparsecomp
from sparsecomp.cli.bench import bench_verb
from sparsecomp.cli.compile import compile_verb
from sparsecomp.cli.eval import eval_verb
from sparsecomp.cli.inspect import inspect_verb
from sparsecomp.cli.opt import opt_verb
from sparsecomp.cli.passes import passes_verb
from sparsecomp.cli.run import run_verb


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(sparsecomp.__version__, message="sparsecomp %(version)s")
@click.pass_context
def verbs(context: click.Context) -> None:
    """Compile a decoder-only model to a native program, and run it."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _verb in (compile_verb, run_verb, eval_verb, bench_verb, inspect_verb, opt_verb, passes_verb):
    verbs.add_command(_verb)
