"""What the package raises when the user has to change something."""


class GluonAFFError(Exception):
    """Base of every error this package raises on purpose; its message is one line with the remedy."""


class InputError(GluonAFFError, ValueError):
    """An argument, a file or a directory that cannot be used as given (exit code 2 on the command line)."""


class DataError(InputError):
    """A data set that is missing, damaged or too small."""


class ParamsFileError(InputError):
    """A `.params` file that cannot be read or does not fit the network."""


class TrainingError(GluonAFFError):
    """A run that cannot go on, such as a loss that is not finite (exit code 1 on the command line)."""
