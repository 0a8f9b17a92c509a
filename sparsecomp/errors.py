"""The one error a user sees."""


class SparsecompError(Exception):
    """A user's mistake or a limit of the compiler, told in one line.

    The message says what is wrong, where (file, module path, op), and what would work.
    The command line prints it as it is; every other exception is a bug and keeps its traceback.
    """
