"""What Telic raises."""

import gymnasium.error


class TelicError(Exception):
    """Base of every exception of Telic."""


class InputError(TelicError, ValueError):
    """An argument or a setting that cannot be used."""


class MissingFileError(TelicError, FileNotFoundError):
    """A dataset or a run that is not there."""


class NotResetError(TelicError, gymnasium.error.ResetNeeded):
    """An environment was stepped before its first reset."""
