"""The one exception that means "the input is wrong": shown to users as a single line."""


class InputError(ValueError):
    """Bad input: the message names the file or key, what is wrong, and the cure, in one line.

    The command line prints it without a traceback and exits with 2.
    """
