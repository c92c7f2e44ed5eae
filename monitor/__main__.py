"""`python -m monitor` is the `bearerwatch` command."""

from monitor.cli import main

main()
