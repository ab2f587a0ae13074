"""The exception for mistakes that a user can correct."""


class UserError(ValueError):
    """A mistake in a file, a setting or a command line.

    The message is one sentence that names the file, field or id, what was found and what to
    do. Commands print it without a traceback and exit with code 2.

    Example:
        >>> try:
        ...     jmr.model_config("torchvision/maskrcnn_resnet50")
        ... except jmr.UserError as error:
        ...     print(error)  # doctest: +ELLIPSIS
        There is no model named 'torchvision/maskrcnn_resnet50'; did you mean ...
    """
