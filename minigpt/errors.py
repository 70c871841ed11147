"""The one exception that means "the input is at fault, not the program"."""


class InputError(ValueError):
    """Bad input from outside: an option, a file, a folder.

    The message is one sentence: what was wrong, what was got and what is expected.
    Command lines print it and exit with code 2; notebooks see it as a ValueError.
    """
