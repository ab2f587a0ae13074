"""The command line: `main`, and one module a command, named as the user types it."""
