"""Everything that can stop the flow; each message says in one line what was wrong, what was expected and what to do.

PipelineError
├── ConfigError      a preset cannot be found or does not make sense
├── FetchError       a data set cannot be had from anywhere
├── DataError        a data file is not what it should be
├── ArchitectureError  the network of a preset cannot be trained, evaluated or exported
├── DeviceError      the device asked for cannot be used
├── TrainingError    the training went astray
├── CheckpointError  a trained network cannot be read back
├── VerificationError  the ONNX file does not answer as PyTorch does
├── ChampionError    there is no version that a candidate could fairly be compared with
├── RehearsalError   the rehearsal could not be carried out, so it decides nothing
├── NoAnswerError    a server does not answer a call
├── ConfirmError     a server does not answer with what was published
├── PublishError     the model repository cannot be written
├── ScheduleError    a schedule does not make sense
└── BusyError        another run of the same model is in progress
"""


class PipelineError(Exception):
    """Stops the flow with a message for a person."""


class ConfigError(PipelineError):
    """A preset cannot be found or does not make sense."""


class FetchError(PipelineError):
    """A data set cannot be had from anywhere."""


class DataError(PipelineError):
    """A data file is not what it should be."""


class ArchitectureError(PipelineError):
    """The network of a preset cannot be trained, evaluated or exported."""


class DeviceError(PipelineError):
    """The device asked for cannot be used."""


class TrainingError(PipelineError):
    """The training went astray."""


class CheckpointError(PipelineError):
    """A trained network cannot be read back."""


class VerificationError(PipelineError):
    """The ONNX file does not answer as PyTorch does."""


class ChampionError(PipelineError):
    """There is no version that a candidate could fairly be compared with; the gates pass it and say so."""


class RehearsalError(PipelineError):
    """The rehearsal could not be carried out: nothing is known of the candidate, which is kept."""


class NoAnswerError(PipelineError):
    """A server does not answer a call, or with an error."""


class ConfirmError(PipelineError):
    """A server does not answer with what was published."""


class PublishError(PipelineError):
    """The model repository cannot be written."""


class ScheduleError(PipelineError):
    """A schedule does not make sense."""


class BusyError(PipelineError):
    """Another run of the same model is in progress."""
