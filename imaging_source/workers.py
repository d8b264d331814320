"""Processes for work on pixels: what a hostile image breaks there harms nobody else.

Decoders are C libraries that meet bytes from anybody. Each job runs in a process of its own
kind, with bounded memory and time; one that crashes or takes too long costs its own job. A worker
ends with whoever started it. Jobs are named, their arguments are texts and numbers, their results
bytes: nothing is unpickled. One line of JSON goes each way, then the bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

# Address space of a worker: libraries take 1.5 GiB of it, a frame at most 1 GiB, twice.
MEMORY_BYTES = 6 * 1024 * 1024 * 1024

# A study's largest multi-frame object (2 GB at 100 MB/s) takes 20 s.
JOB_SECONDS = 120


class WorkFailed(Exception):
    """A job could not be done; the text holds nothing of what it was about."""


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    input: IO[bytes]
    output: IO[bytes]

    @classmethod
    def start(cls) -> _Worker:
        process = subprocess.Popen(
            [sys.executable, "-m", "imaging_source.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries may quote what they read
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # each thread of it reserves memory
        )
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        return cls(process, process.stdin, process.stdout)

    def run(self, job: str, arguments: tuple[Any, ...]) -> bytes:
        """Raises OSError or ValueError when the worker died, WorkFailed when it said no."""
        self.input.write(json.dumps([job, *arguments]).encode() + b"\n")
        self.input.flush()
        answer = json.loads(self.output.readline())
        if "error" in answer:
            raise WorkFailed(answer["error"])
        data = self.output.read(answer["size"])
        if len(data) != answer["size"]:
            raise EOFError
        return data

    def end(self) -> None:
        for stream in (self.input, self.output):
            with contextlib.suppress(OSError):
                stream.close()
        self.process.kill()
        self.process.wait()


class Workers:
    """As many workers as there are cores, started when there is work; safe for many threads."""

    def __init__(self, most: int | None = None) -> None:
        self._free = threading.Semaphore(most or os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []

    def run(self, job: str, *arguments: Any) -> bytes:
        """What the job gives: see ``_jobs``. Raises WorkFailed."""
        with self._free:
            worker = self._take()
            try:
                data = worker.run(job, arguments)
            except WorkFailed:
                self._give_back(worker)
                raise
            except (OSError, ValueError, EOFError) as error:
                worker.end()
                raise WorkFailed("the worker died") from error
            except BaseException:
                worker.end()
                raise
            self._give_back(worker)
            return data

    def close(self) -> None:
        """End the workers that have nothing to do."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def _take(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    return worker
                worker.end()
        return _Worker.start()

    def _give_back(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)


def _jobs() -> dict[str, Callable[..., bytes | None]]:
    from imaging_source.anonymous import anonymize
    from imaging_source.rendering import render
    from imaging_source.transcoding import transcode

    return {"transcode": transcode, "render": render, "anonymize": anonymize}


def main() -> None:
    """A worker: does what it reads from standard input until that ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    jobs = _jobs()
    for line in sys.stdin.buffer:
        name, *arguments = json.loads(line)
        signal.alarm(JOB_SECONDS)  # which ends the process
        answer, data = _done(jobs[name], arguments)
        signal.alarm(0)
        output.write(json.dumps(answer).encode() + b"\n" + data)
        output.flush()


def _done(job: Callable[..., bytes | None], arguments: list[Any]) -> tuple[dict[str, Any], bytes]:
    try:
        data = job(*arguments) or b""
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything in anybody's decoder
        return {"error": type(error).__name__}, b""
    return {"size": len(data)}, data


if __name__ == "__main__":
    main()
