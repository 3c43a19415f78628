"""The gRPC parser of a version, made with its first gRPC request: who serves HTTP only never imports protobuf."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from export.contracts.manifest import Manifest
from serving.grpc.scan import InferMessage
from serving.options import Limits
from serving.protocol import ParsedRequest
from serving.queueing.policy import QueuePolicy


class LateMessageParser:
    """Stands in for a `serving.grpc.parser.MessageParser` until it is needed.

    Args:
        manifest: The version's.
        limits: Rows and elements.
        always: Indices of the outputs that every batch runs anyway.
        policy: What priorities and time limits mean.

    Attributes:
        parse: `MessageParser.parse`.
    """

    __slots__ = ("_always", "_limits", "_manifest", "_policy", "parse")

    def __init__(self, manifest: Manifest, limits: Limits, always: Sequence[int], policy: QueuePolicy) -> None:
        self._policy = policy
        self._manifest = manifest
        self._limits = limits
        self._always = tuple(always)
        self.parse: Callable[[InferMessage], ParsedRequest] = self._first

    def _first(self, given: InferMessage) -> ParsedRequest:
        from serving.grpc.answer import MessageAnswers
        from serving.grpc.parser import MessageParser

        known = self._manifest
        answers = MessageAnswers(known.name, known.version, known.signature, known.task.class_names, self._always)
        self.parse = MessageParser(known.signature, self._limits, answers, self._policy).parse
        return self.parse(given)
