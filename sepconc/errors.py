"""The exceptions of sepconc.

One root, and every child also inherits the builtin that people expect::

    SepConcError
    ├── BadParameter (ValueError)              a parameter of an estimator, a network or a transform
    │   └── UnknownArchitecture (LookupError)  no architecture of that name
    ├── BadInput (ValueError)                  images or labels that can't be used
    ├── ConfigError (ValueError)               config.yml
    ├── DatasetNotFound (FileNotFoundError)    a known data set that isn't where it was looked for
    ├── UnknownDataset (LookupError)           no data set of that name
    ├── BadName (ValueError)                   a classifier's name or status that can't be one
    ├── ClassifierNotFound (LookupError)       no such row in the registry
    ├── ClassifierExists (FileExistsError)     the row is there already, and overwriting wasn't asked
    ├── ParameterMismatch (ValueError)         a stored classifier was made with other parameters
    ├── NotResumable (ValueError)              a stored classifier that can't go on training
    ├── CorruptFile (OSError)                  a file that isn't what was recorded
    │   └── UnsafeFile                         a file that could run code, or reach outside the registry
    ├── RegistryError (OSError)                the registry can't be read or written
    │   ├── RegistryBusy (TimeoutError)        somebody holds the lock
    │   └── NoSpace                            the disk is full
    ├── PullError (ConnectionError)            a classifier couldn't be fetched from another machine
    │   └── HostKeyError                       that machine's key is unknown or has changed
    ├── ScoreExists (ValueError)               that measurement is stored already
    ├── DeviceUnavailable (RuntimeError)       the device that was asked for isn't here
    ├── EngineUnavailable (RuntimeError)       the scattering engine that was asked for isn't here
    ├── MissingPackage (ImportError)           an optional package is needed
    ├── TrainingDiverged (ArithmeticError)     the loss became NaN or infinite
    └── TrainingInterrupted (KeyboardInterrupt)  a signal stopped the training, after a checkpoint
"""


class SepConcError(Exception):
    """Root of every exception that sepconc raises on purpose."""


class BadParameter(SepConcError, ValueError):
    """A parameter has a value outside its range, or doesn't fit the images."""


class UnknownArchitecture(BadParameter, LookupError):
    """No architecture has that name."""


class BadInput(SepConcError, ValueError):
    """Images or labels have a form or values that can't be used."""


class ConfigError(SepConcError, ValueError):
    """The configuration file can't be read, or a key of it is wrong."""


class DatasetNotFound(SepConcError, FileNotFoundError):
    """A known data set, or a store of features, isn't where it was looked for."""


class UnknownDataset(SepConcError, LookupError):
    """No data set has that name."""


class BadName(SepConcError, ValueError):
    """A string can't be the name or the status of a classifier."""


class ClassifierNotFound(SepConcError, LookupError):
    """The registry has no such classifier."""


class ClassifierExists(SepConcError, FileExistsError):
    """The registry has that classifier already."""


class ParameterMismatch(SepConcError, ValueError):
    """A stored classifier, or a store of features, was made with other parameters than the ones given."""


class NotResumable(SepConcError, ValueError):
    """A stored classifier has no state that its training could go on from."""


class CorruptFile(SepConcError, OSError):
    """A file doesn't hold what was recorded, or can't be read safely."""


class UnsafeFile(CorruptFile):
    """A file holds something that could run code, or names places outside the registry."""


class RegistryError(SepConcError, OSError):
    """The registry can't be read or written."""


class RegistryBusy(RegistryError, TimeoutError):
    """Another process holds the lock of the registry, or writes the same features."""


class NoSpace(RegistryError):
    """There is no space left where the registry writes."""


class PullError(SepConcError, ConnectionError):
    """A classifier couldn't be fetched from another machine."""


class HostKeyError(PullError):
    """The key of another machine is unknown, or isn't the one that is known."""


class ScoreExists(SepConcError, ValueError):
    """The same measurement is stored already."""


class DeviceUnavailable(SepConcError, RuntimeError):
    """The device that was asked for isn't available."""


class EngineUnavailable(SepConcError, RuntimeError):
    """The scattering engine that was asked for isn't available."""


class MissingPackage(SepConcError, ImportError):
    """An optional package is needed and isn't installed."""


class TrainingDiverged(SepConcError, ArithmeticError):
    """The loss became NaN or infinite."""


class TrainingInterrupted(SepConcError, KeyboardInterrupt):
    """A signal stopped the training, after a checkpoint was stored; ``signal`` is its number."""

    signal: int | None = None
