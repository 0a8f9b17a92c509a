"""`python -m sparsecomp`: the command line."""

from sparsecomp.cli import main

main()
