"""The connection to Redis: in every control step a frame goes out and measurements come in."""

from __future__ import annotations

import json
from typing import Any, Mapping, Sequence

from cmg_ref.core.installation import check_installed
from cmg_ref.core.shorten import reason

_TIMEOUT = 0.2  # [s] a Redis that takes longer counts as gone


class LinkError(ConnectionError):
    """Redis does not answer; the message is one line."""


class RedisLink:
    """Writes and reads many keys in one round trip; connects again by itself.

    Args:
        host, port, database: Where Redis is.

    Raises:
        InstallationError: The package redis is missing.
        LinkError: Redis does not answer, or wants a password.
    """

    def __init__(self, host: str, port: int, database: int = 0) -> None:
        check_installed("redis")
        import redis

        self._errors = (redis.RedisError, OSError)
        self._address = f"{host}:{port}"
        # No retry: whoever waits here misses the time of the next frame.
        timeouts: dict[str, Any] = {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT, "retry": None}
        self._client: Any = redis.Redis(host=host, port=port, db=database, **timeouts)
        try:
            self._client.ping()
        except self._errors as error:
            raise LinkError(
                f"no Redis at {self._address} ({reason(error)}); start one with: redis-server --bind 127.0.0.1"
            ) from error

    def exchange(
        self, messages: Mapping[str, str], read: Sequence[str], taken: Sequence[str]
    ) -> dict[str, bytes | None]:
        """Write, then read.

        Args:
            messages: What to write under each key.
            read: Keys to read.
            taken: Keys to read and delete at once.

        Returns:
            The value of each key read or taken; None if there is none, or it is no string.

        Raises:
            LinkError: Redis does not answer.
        """
        pipeline = self._client.pipeline(transaction=True)  # so that no value comes between reading and deleting
        for key, message in messages.items():
            pipeline.set(key, message)
        for key in (*read, *taken):
            pipeline.get(key)
        if taken:
            pipeline.delete(*taken)
        try:
            results = pipeline.execute(raise_on_error=False)
        except self._errors as error:
            raise LinkError(f"Redis at {self._address} does not answer ({reason(error)})") from error
        refused = [result for result in results[: len(messages)] if isinstance(result, Exception)]
        if refused:  # such as a full memory, or a replica that is read-only
            raise LinkError(f"Redis at {self._address} takes no frames ({reason(refused[0])})")
        values = results[len(messages) :]
        return {key: value if isinstance(value, bytes) else None for key, value in zip((*read, *taken), values)}

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()


class DryLink:
    """Prints frames instead of sending them, to a low level that stands in the default pose and is always there."""

    def __init__(self, state_key: str, state: Sequence[float]) -> None:
        self._state_key, self._state, self._count = state_key, list(state), 0

    def exchange(
        self, messages: Mapping[str, str], read: Sequence[str], taken: Sequence[str]
    ) -> dict[str, bytes | None]:
        """As of :class:`RedisLink`."""
        for key, message in messages.items():
            print(f"{key} {message}")
        self._count += 1
        self._state[0] = 1e-6 * (1 + self._count % 2)  # of a gyroscope: no measurement is like the last
        values: dict[str, bytes | None] = dict.fromkeys((*read, *taken))
        values[self._state_key] = json.dumps(self._state).encode()
        return values

    def close(self) -> None:
        """Nothing to give back."""
