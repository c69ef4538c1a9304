"""Live analysis of transmission X-ray microscopy frames: frames in, results out."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("txm-live")
except PackageNotFoundError:   # run from a source tree that was never installed
    __version__ = "0+unknown"
