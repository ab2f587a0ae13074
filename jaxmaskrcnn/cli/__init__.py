"""The command line: `main`, and one module per command, named as the user types it."""
