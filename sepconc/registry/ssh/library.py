"""paramiko, the library that speaks SSH: imported here only, and why its errors happened, on one line."""

import warnings

from sepconc.errors import MissingPackage
from sepconc.registry.names import shown

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ciphers that it won't offer much longer
        import paramiko
except ImportError as error:
    _missing = 'Pulling needs paramiko, which isn\'t installed; install it with: pip install "sepconc[remote]"'
    raise MissingPackage(_missing) from error

__all__ = ["paramiko", "reason"]


def reason(error: BaseException) -> str:
    """Why, on one line."""
    text = (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
    return shown(text)[1:-1].rstrip(".")
