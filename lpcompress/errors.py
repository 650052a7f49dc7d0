"""The exceptions that users of the package may see."""


class LpCompressError(ValueError):
    """Something could not be done; the message says where, what was expected and what to do."""


class PlanError(LpCompressError):
    """The command line or the configuration asks for something that makes no sense (exit code 2)."""


class UnsuitableError(LpCompressError):
    """A layer that the asked method is not for; other layers may do."""


class BudgetError(UnsuitableError):
    """Nothing that a method can build is as small as was asked."""


class CheckpointError(LpCompressError):
    """A checkpoint cannot be read, written or rebuilt."""


class MissingCheckpointError(CheckpointError):
    """There is no checkpoint of this name, neither here nor on the Hub."""


class NotConvergedWarning(UserWarning):
    """An iteration stopped at its limit; the result is usable but could be better."""


class NeedsTrainingWarning(UserWarning):
    """What was made is a start for training, and no good before."""
