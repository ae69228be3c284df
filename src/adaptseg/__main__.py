"""`python -m adaptseg`."""

from adaptseg.cli import main

main()
