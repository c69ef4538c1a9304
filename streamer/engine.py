"""Where the heavy part of the analysis runs: in this thread, in several, or on a cluster."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import cv2

from streamer.errors import SettingsError
from streamer.settings import EngineSettings

P = ParamSpec("P")
T = TypeVar("T")


class InlineExecutor(Executor):
    """Runs what is submitted at once, in the calling thread."""

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `function` and return its finished future."""
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  (handed to whoever asks for the result)
            future.set_exception(error)
        return future


class ClusterExecutor(Executor):
    """Runs what is submitted on a Dask cluster that lives and ends with it.

    Parameters
    ----------
    client : distributed.Client
        Closed with `shutdown`, and with it a cluster that it started.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor: Executor = client.get_executor(pure=False)

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Send `function` to a worker."""
        return self._executor.submit(function, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Finish what was submitted, then end the cluster."""
        self._executor.shutdown(wait and not cancel_futures)   # Dask's own cancels when it does not wait
        self._client.close()


class Engine(Executor):
    """Measures frames, and does on the side what a later frame would have to wait for.

    Parameters
    ----------
    frames : Executor
        Where frames are measured.
    errands : Executor
        In this process, for what changes an object that is at hand; no frame waits behind it.
    """

    def __init__(self, frames: Executor, errands: Executor) -> None:
        self._frames = frames
        self._errands = errands

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `function` run where frames are measured."""
        return self._frames.submit(function, *args, **kwargs)

    def errand(self, function: Callable[[], object]) -> None:
        """Have `function` run beside the frames; who needs its result meanwhile waits for it, or does it first."""
        self._errands.submit(function)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Finish what was submitted, then end."""
        self._errands.shutdown(wait, cancel_futures=True)
        self._frames.shutdown(wait, cancel_futures=cancel_futures)


def worker_count(settings: EngineSettings) -> int:
    """Return how many frames are measured at the same time."""
    return 1 if settings.kind == "inline" else settings.workers or os.cpu_count() or 1


def open_engine(settings: EngineSettings) -> Engine:
    """Start the engine that the settings ask for; close it with ``shutdown``.

    Raises
    ------
    SettingsError
        If Dask is asked for and not installed.
    """
    # Frames beside each other use the cores better than threads within one frame, and the flow keeps to its own.
    cv2.setNumThreads(-1 if settings.kind == "inline" else 1)
    if settings.kind == "inline":
        return Engine(InlineExecutor(), InlineExecutor())
    if settings.kind == "threads":
        return Engine(ThreadPoolExecutor(worker_count(settings), thread_name_prefix="measure"), _one_thread())
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as error:
        raise SettingsError("setting engine.kind = 'dask' needs Dask, which is not installed; "
                            "install txm-live[cluster] or choose 'threads'") from error
    logging.getLogger("distributed").setLevel(logging.WARNING)   # it tells every step on standard error otherwise
    client = distributed.Client(n_workers=worker_count(settings), threads_per_worker=1, dashboard_address=None,
                                silence_logs="ERROR")
    return Engine(ClusterExecutor(client), _one_thread())


def _one_thread() -> Executor:
    return ThreadPoolExecutor(1, thread_name_prefix="errands")
