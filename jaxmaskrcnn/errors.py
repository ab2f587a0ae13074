"""The one exception for what a user can put right."""


class UserError(ValueError):
    """A mistake in a file, a setting or a command line.

    The message is one sentence that names the file, field or id, what was found and what to
    do. Commands print it without a traceback and exit with code 2.
    """
