"""What must be remembered between frames, one class a file, each with ``snapshot()`` and ``restore()``."""
