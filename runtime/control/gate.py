"""The one door to the control plane: no call passes without the run's token."""
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator

import grpc

KEY = "authorization"
_SHORTEST = 32


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    """What a client sends with every call."""
    return ((KEY, f"Bearer {token}"),)


class TokenGate:
    """A gRPC server interceptor that refuses every call without the token: UNAUTHENTICATED.

    It stands before the look-up of the method, so that a stranger does not even learn which
    methods there are; and it answers without reading the request.

    Raises:
        ValueError: the token is too short to be a secret.
    """

    def __init__(self, token: str) -> None:
        if len(token) < _SHORTEST:
            raise ValueError(f"a token has at least {_SHORTEST} characters, not {len(token)}")
        self._expected = metadata(token)[0][1].encode()

    def admits(self, pairs: Iterable[tuple[str, str | bytes]]) -> bool:
        """Whether the call's metadata has the token, once; the time tells nothing about it."""
        given = [value for key, value in pairs if key == KEY]
        if len(given) != 1:
            return False
        value = given[0].encode() if isinstance(given[0], str) else given[0]
        return hmac.compare_digest(value, self._expected)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Passes the call on, or to a handler that refuses it (``grpc.ServerInterceptor``)."""
        if self.admits(details.invocation_metadata or ()):
            return continuation(details)
        return grpc.stream_unary_rpc_method_handler(_refuse)


def _refuse(_requests: Iterator[bytes], context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "this run's token is needed for every call")
