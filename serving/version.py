"""One loaded version: everything that a request meets between the queue and its answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from threading import Semaphore
from time import perf_counter_ns, time_ns

from export.contracts.errors import DeadlineExceeded, HardcaseError, InvalidRequest, ModelFailed
from export.contracts.privacy import policy_of
from export.package import Package
from monitoring.records.record import Outcome
from monitoring.records.writer import RecordLogWriter
from serving import effective
from serving.answer import AnswerPlans, BatchOutputs
from serving.batching import Batcher
from serving.capture import Capture, elapsed_ns, outcome_of
from serving.entry import Entry
from serving.execution import Execution, Watch, count, gather, joined, part_of, parts, run, wanted
from serving.gathering import waited_for
from serving.grpc.late import LateMessageParser
from serving.observers import Ended, Observer, tell
from serving.options import ServingOptions
from serving.preprocess import preprocessor_for
from serving.protocol import RequestParser
from serving.queueing.policy import bounded_rows, resolve
from serving.response_cache import cache_for, remember
from serving.runtime.base import Array, DeviceLost, Runtime
from serving.stats import ReleaseReason, VersionStats

_log = logging.getLogger("hardcase.serving")


class LoadedVersion:
    """A version that is in memory and answers.

    Args:
        package: What was loaded.
        runtime: What executes it.
        options: Limits, batching, capture.
        writer: The replica's record log; None records nothing.
        observers: Hear how each request ended.
        inline: Run batches on the event loop.
        batch_us: Time of a warm batch, microseconds, as measured before.
    """

    def __init__(
        self,
        *,
        package: Package,
        runtime: Runtime,
        options: ServingOptions,
        writer: RecordLogWriter | None,
        inline: bool,
        batch_us: float,
        observers: Sequence[Observer] = (),
    ) -> None:
        manifest = package.manifest
        self.package = package
        self.manifest = manifest
        self.model = manifest.name
        self.version = manifest.version
        self.signature = manifest.signature
        self.runtime = runtime
        self.inline = inline
        self.batch_us = batch_us
        self.stats = VersionStats()
        self.observers = tuple(observers)
        self.cache = cache_for(options.cache, self.model)
        self.mirror: Watch | None = None  # a shadow: sees a batch when its answers are out
        self.inspect: Watch | None = None  # a canary: sees a batch before they are
        self.turns: Semaphore | None = None  # taken for each run while a shadow runs it, too
        self._gated = writer is not None and waited_for(options.capture)
        named = (self.model, self.version, package.digest, self.signature)
        self.capture = Capture(writer, *named, policy_of(options.privacy, self.model), together=not self._gated)
        defaults = [i for i, s in enumerate(self.signature.outputs) if s.role.answered_by_default]
        self._always = self.capture.recorded if writer is not None else tuple(defaults)
        classes = manifest.task.class_names
        answers = AnswerPlans(self.model, self.version, self.signature, classes, options.non_finite, self._always)
        policy = resolve(options, self.model)
        self._preprocessor = preprocessor_for(self.signature, runtime, options.batch.decode_threads)
        self.parser = RequestParser(self.signature, options.limits, answers, policy)
        self.message_parser = LateMessageParser(manifest, options.limits, self._always, policy)
        max_rows = effective.max_rows(options.batch, manifest) if self.signature.batched else 1
        self.batcher: Batcher[Execution] = Batcher(
            execute=self.execute,
            execute_part=self.execute_part,
            join=partial(joined, max_rows=max_rows, signature=self.signature),
            finish=self.finish,
            drop=self.drop,
            max_rows=max_rows,
            queue_rows=bounded_rows(options.batch, self.signature),
            inline=inline,
            depth=runtime.concurrency,
            policy=policy,
            batch_us=batch_us,
        )

    def execute(self, entries: list[Entry]) -> Execution:
        """Gather a batch's inputs, run it, check what comes out. On the batcher's thread or the loop; never raises."""
        return self._executed(entries, sum([e.plan.rows for e in entries]))

    def execute_part(self, entry: Entry, start: int, stop: int) -> Execution:
        """`execute` for some rows of a request that has more of them than the largest batch."""
        return self._executed([part_of(entry, start, stop)], stop - start, start)

    def _executed(self, entries: list[Entry], rows: int, first_row: int = 0) -> Execution:
        execution = Execution(begun_ns=perf_counter_ns())
        try:
            tensors: Sequence[Array] = gather(entries, rows, self.signature, self.runtime)
            execution.inputs = tensors
            if self._preprocessor is not None:
                entries, tensors, rows = self._preprocessor.prepare(entries, execution, first_row)
                if not entries:
                    return execution
            gathered_ns = perf_counter_ns()
            execution.input_ns = gathered_ns - execution.begun_ns
            indices = wanted(entries, self._always)
            outputs = run(self.runtime, tensors, rows, indices, self.batcher.max_rows, self.signature, self.turns)
            execution.infer_ns = perf_counter_ns() - gathered_ns
            execution.outputs = BatchOutputs(self.signature.outputs, outputs, rows, self.signature.batched)
        except HardcaseError as error:
            execution.error = error
            if isinstance(error, InvalidRequest):
                execution.inputs = ()  # what is refused is recorded without its payload
        except Exception:
            _log.exception("batch of %s/%s failed", self.model, self.version)
            execution.error = ModelFailed("the model failed on this batch")
        return execution

    def run_beside(self, inputs: Sequence[Array], rows: int) -> BatchOutputs:
        """Run on inputs that were gathered for another version, for nobody's answer. On any thread; may raise."""
        if self._preprocessor is not None:
            inputs = self._preprocessor.decoded(inputs)
        limit = self.batcher.max_rows
        outputs = run(self.runtime, inputs, rows, self._always, limit, self.signature, self.turns)
        return BatchOutputs(self.signature.outputs, outputs, rows, self.signature.batched)

    def finish(self, entries: list[Entry], execution: Execution, reason: ReleaseReason) -> None:
        """Answer every request of a batch and offer its records. On the loop."""
        if execution.refused:
            for index, refusal in execution.refused.items():
                self.drop([entries[index]], refusal)
            if not (entries := [e for i, e in enumerate(entries) if i not in execution.refused]):
                return
        if isinstance(execution.error, DeviceLost):
            return  # an earlier batch broke it: this process ends at once, and another one is asked (`serving.replica`)
        if self.inspect is not None:
            self.inspect(entries, execution)
        if execution.error is not None or execution.outputs is None:
            count(self.stats, execution, sum([e.plan.rows for e in entries]), reason)
            self.drop(entries, execution.error, inputs=execution.inputs)
            return
        begun_ns, outputs = perf_counter_ns(), execution.outputs
        answers: list[tuple[Entry, bytes, bytes]] = []
        spoiled: list[tuple[int, Entry, HardcaseError]] = []
        start = 0
        for entry in entries:
            try:
                answers.append((entry, *self.rendered(entry, outputs, start)))
            except (InvalidRequest, ModelFailed) as error:
                spoiled.append((start, entry, error))
            start += entry.plan.rows
        split = spoiled or any(e.answered for e in entries) or any(e.variant is not entries[0].variant for e in entries)
        now = perf_counter_ns()
        count(self.stats, execution, start, reason, now - begun_ns)
        if split:
            self._finish_split(entries, answers, spoiled, execution)
        else:
            self.hand_over(answers, entries, execution, outputs, execution.inputs, start, now - begun_ns)
        if self.mirror is not None:
            self.mirror(entries, execution)

    def rendered(self, entry: Entry, outputs: BatchOutputs, start: int) -> tuple[bytes, bytes]:
        """Header lines and body of one request's answer; its rows begin at `start`."""
        headers, body = entry.plan.answer.render(outputs, entry.id_json, start, entry.plan.rows)
        return (headers if entry.trace is None else entry.trace.header + headers), body

    def hand_over(
        self,
        answers: list[tuple[Entry, bytes, bytes]],
        entries: list[Entry],
        execution: Execution,
        outputs: BatchOutputs,
        inputs: Sequence[Array],
        rows: int,
        output_ns: int,
    ) -> None:
        """The common end: all requests of the batch were answered by the same variant, with success."""

        def send() -> None:
            for entry, headers, body in answers:
                if not entry.answered:
                    entry.answered = True
                    entry.reply.answer(entry, headers, body)

        self.capture.received(len(entries))
        if not self._gated:
            send()
        total_ns = elapsed_ns(entries)
        queue_ns = [execution.begun_ns - e.received_ns for e in entries]
        self.stats.succeeded(
            entries[0].variant,
            rows,
            queue_ns,
            total_ns,
            input_ns=execution.input_ns,
            infer_ns=execution.infer_ns,
            output_ns=output_ns,
            now_ms=time_ns() // 1_000_000,
        )
        self.capture.offer(
            entries,
            Outcome.OK,
            total_ns=total_ns,
            queue_ns=queue_ns,
            compute_ns=execution.infer_ns,
            inputs=inputs,
            outputs=outputs,
            on_durable=self.batcher.on_loop(send) if self._gated else None,
        )
        if self.cache is not None:
            remember(self.cache, entries, outputs, self.signature.batched)
        if self.observers:
            times = (execution.input_ns, execution.infer_ns, output_ns)
            ended = Ended(self.model, self.version, Outcome.OK, entries, time_ns(), total_ns, queue_ns, *times)
            tell(self.observers, ended)

    def _finish_split(
        self,
        entries: list[Entry],
        answers: list[tuple[Entry, bytes, bytes]],
        spoiled: list[tuple[int, Entry, HardcaseError]],
        execution: Execution,
    ) -> None:
        """The rare end: requests of one batch differ in outcome or variant, so each is finished on its own."""
        rendered = {id(entry): (entry, headers, body) for entry, headers, body in answers}
        errors = {id(entry): error for _, entry, error in spoiled}
        for entry, inputs, part in parts(entries, execution, self.signature):
            if entry.answered:  # its deadline passed while the model ran; it was counted then
                continue
            if id(entry) in errors:
                self.drop([entry], errors[id(entry)], inputs=inputs, outputs=part)
            else:
                self.hand_over([rendered[id(entry)]], [entry], execution, part, inputs, entry.plan.rows, 0)

    def drop(
        self,
        entries: list[Entry],
        error: HardcaseError | None,
        *,
        inputs: Sequence[Array] = (),
        outputs: BatchOutputs | None = None,
    ) -> None:
        """Answer requests with an error (None: the client is gone), count them, and offer their records."""
        live = [e for e in entries if not e.answered]
        if not live:
            return
        if len(live) != len(entries) or isinstance(error, DeadlineExceeded):
            inputs, outputs = (), None
        outcome = outcome_of(error)
        self.capture.received(len(live))
        total_ns = elapsed_ns(live)
        for entry, spent in zip(live, total_ns, strict=True):
            entry.answered = True
            self.stats.refused(entry.variant, outcome, spent)

        def send() -> None:
            for entry in live:
                if error is not None:
                    entry.reply.fail(entry, error)

        if not self._gated:
            send()
        self.capture.offer(
            live,
            outcome,
            total_ns=total_ns,
            inputs=inputs,
            outputs=outputs,
            error=error.message if error is not None else None,
            on_durable=self.batcher.on_loop(send) if self._gated else None,
        )
        if self.observers:
            tell(self.observers, Ended(self.model, self.version, outcome, live, time_ns(), total_ns, error=error))

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs, in the shadow either."""
        return self.batcher.idle and self.turns is None

    def close(self) -> None:
        """Let go of queue, threads and weights."""
        self.batcher.close()
        self.capture.close()
        if self._preprocessor is not None:
            self._preprocessor.close()
        self.runtime.close()
