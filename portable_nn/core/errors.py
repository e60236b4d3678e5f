"""One exception class per kind of fault; every message says what was given, what is needed, what to do."""


class PortableNNError(Exception):
    """Parent of every error raised by portable_nn on purpose."""


class ShapeError(PortableNNError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(PortableNNError, TypeError):
    """A dtype an op does not take, or dtypes that do not promote."""


class SettingError(PortableNNError, ValueError):
    """A setting (stride, axis, mode ...) outside its range."""


class OutOfRange(SettingError, IndexError):
    """An index outside its axis."""


class ArgumentError(PortableNNError, TypeError):
    """An argument of the wrong kind: not an array, an unknown keyword, mixed array libraries."""


class BackendError(PortableNNError, RuntimeError):
    """A backend or device that was asked for and is not there, or that failed."""


class NoKernel(PortableNNError, NotImplementedError):
    """A backend has no kernel for this op, dtype or size; nothing falls back silently."""


class NoGradient(PortableNNError, TypeError):
    """An op without a gradient rule, or a value that does not reach the loss."""


class StaleArray(PortableNNError, RuntimeError):
    """An array saved for the backward pass was mutated, or a tape was used after its backward pass."""


class CaptureError(PortableNNError, RuntimeError):
    """A step that cannot be captured, or a capture that does not fit what it is given."""


class DeviceValueError(PortableNNError, ValueError):
    """A value that only the device could see (a label, an index) was out of range."""


class DataError(PortableNNError, ValueError):
    """A data file that is missing, corrupt or of the wrong form."""


class RunError(PortableNNError, RuntimeError):
    """A training run that cannot start, continue or be read."""
