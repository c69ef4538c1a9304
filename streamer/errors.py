"""The errors a user can meet. Every text names the thing, what was found, and what to do."""


class TxmError(Exception):
    """Root of the family; catch it to catch everything this project raises on purpose."""


class FrameError(TxmError, ValueError):
    """A frame that cannot be used: its shape, type or content."""


class ProtocolError(TxmError, ValueError):
    """A message that is not what its dialect says.

    Parameters
    ----------
    text : str
        What was found and what was expected.
    index : int, optional
        The frame number, when the header still gave one, so that the loss can be named.
    acquisition : str
        The acquisition, when the header still gave one.
    """

    def __init__(self, text: str, *, index: int | None = None, acquisition: str = "") -> None:
        super().__init__(text)
        self.index = index
        self.acquisition = acquisition


class RecordingError(TxmError, OSError):
    """A recording that cannot be opened or read."""


class SettingsError(TxmError, ValueError):
    """A setting that does not exist, or whose value is out of its range."""


class SessionError(TxmError, OSError):
    """A session on disk that cannot be opened, written or read."""


class CommandError(TxmError, ValueError):
    """A command that cannot be carried out."""


class ChannelError(TxmError, OSError):
    """An alert that could not be delivered, or results that cannot be shown to others."""


class LinkError(TxmError, OSError):
    """A socket that cannot be bound or connected, or a peer that does not answer."""
