"""The story of one attempt: from the claim to what is reported about it."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from redis.exceptions import RedisError

from script_runner.core.artifacts import ArtifactStore
from script_runner.core.command import FileInput, build_argv, load_inputs
from script_runner.core.config import Config
from script_runner.core.errors import (
    AttemptError,
    InputError,
    NotFoundError,
    ScriptError,
    UnavailableError,
)
from script_runner.core.redis_pipe import is_transient
from script_runner.core.redis_queue import (
    FIRST_PAUSE_SECONDS,
    LAST_PAUSE_SECONDS,
    Claim,
    Ending,
    RedisQueue,
)
from script_runner.core.redis_records import dump_outcome
from script_runner.core.retry import Policy, retry_delay
from script_runner.core.settings import Settings
from script_runner.core.task import TaskFault, TaskOutcome, TaskState, artifact_prefix
from script_runner.worker.attachments import collect_attachments
from script_runner.worker.beneath import Beneath
from script_runner.worker.environment import script_environment
from script_runner.worker.keeper import Keeper
from script_runner.worker.output import AttemptOutput
from script_runner.worker.pipes import OutputPipes
from script_runner.worker.process import Exit, ScriptProcess, exit_fault
from script_runner.worker.results import collect_results
from script_runner.worker.rundir import Rundir, Rundirs
from script_runner.worker.running import RunningAttempt, RunningAttempts, StopReason

log = logging.getLogger(__name__)

Made = TypeVar("Made")


@dataclass(frozen=True)
class Workshop:
    """What every attempt of this worker needs."""

    config: Config
    settings: Settings
    policy: Policy
    queue: RedisQueue
    artifacts: ArtifactStore
    running: RunningAttempts
    rundirs: Rundirs
    environ: Mapping[str, str]


def run_attempt(shop: Workshop, claim: Claim) -> Ending:
    """Run the script of *claim* and return how that ended; never raises."""
    running = RunningAttempt(claim, shop.settings.stop_grace_seconds)
    shop.running.add(running)
    try:
        outcome = _attempt(shop, claim, running)
    except ScriptError as error:
        outcome = _fault(TaskState.FAILED, error.task_code, error.detail)
    except AttemptError as error:
        outcome = _fault(TaskState.ERRORED, error.task_code, error.detail)
    except InputError:
        detail = "the worker's config.json does not accept the inputs that the API accepted"
        outcome = _fault(TaskState.ERRORED, "config_changed", detail)
    except (UnavailableError, NotFoundError):
        detail = "the artifact store could not be used"
        outcome = _fault(TaskState.ERRORED, "storage_unavailable", detail)
    except Exception:
        # The edge of the worker: whatever it was, the task must come to an end.
        log.exception("event=attempt_fault task=%s attempt=%d", claim.id, claim.attempt)
        outcome = _fault(TaskState.ERRORED, "internal", "the worker had an internal error")
    finally:
        shop.running.remove(running)
    return settle(outcome, claim, shop.policy)


def settle(outcome: TaskOutcome, claim: Claim, policy: Policy) -> Ending:
    """Return what is reported about *outcome*: the end of the task, or another attempt."""
    if outcome.state is TaskState.QUEUED:
        return Ending(claim, TaskState.QUEUED, reason="drained", charge=False)
    delay = retry_delay(policy, outcome.state.value, claim.charged_attempts + 1)
    if delay is not None:
        milliseconds = int(delay * 1000)
        return Ending(claim, TaskState.QUEUED, delay_ms=milliseconds, reason=outcome.state.value)
    kept = [*outcome.attachments, *(result.artifact for result in outcome.results)]
    stored = sum(artifact.size for artifact in kept) + sum(outcome.output_sizes.values())
    return Ending(claim, outcome.state, dump_outcome(outcome), stored)


def _attempt(shop: Workshop, claim: Claim, running: RunningAttempt) -> TaskOutcome:
    config = shop.config
    patience = shop.settings.storage_patience_seconds
    inputs = load_inputs(config, claim.inputs)
    uploads = {name: value for name, value in inputs.items() if isinstance(value, FileInput)}
    with shop.rundirs.make(claim) as rundir:
        files = {}
        for name, upload in uploads.items():
            fetch = partial(rundir.fetch, name, upload, shop.artifacts)
            files[name] = _insist(fetch, running, patience)
        argv = build_argv(config, inputs, rundir=rundir.path, files=files)
        output = AttemptOutput(claim, rundir.output_fds, shop.queue, shop.artifacts)
        with closing(output):
            end = _run_script(shop, argv, rundir, running, output)
            outcome = _insist(lambda: _judge(shop, running, rundir, end), running, patience)
            # Before the report: whoever sees the end of the task can read everything.
            _insist(output.finish, running, patience)
            return replace(outcome, output_sizes=output.sizes())


def _run_script(
    shop: Workshop,
    argv: list[str],
    rundir: Rundir,
    running: RunningAttempt,
    output: AttemptOutput,
) -> Exit:
    config = shop.config
    environment = script_environment(
        shop.settings, config, rundir.path, running.claim, shop.environ
    )
    pipes = OutputPipes(
        rundir.output_fds,
        shop.settings.max_output_bytes,
        on_output=output.note,
        on_limit=lambda: running.stop(StopReason.OUTPUT_LIMIT),
    )
    with closing(pipes):
        process = ScriptProcess.start(
            argv,
            cwd=rundir.working_directory,
            env=environment,
            stdin=None,
            stdout=pipes.writers["stdout"],
            stderr=pipes.writers["stderr"],
            resources=config.resources,
        )
        try:
            pipes.close_writers()
            running.started(process, output, config.timeout_seconds)
            pipes.pump(process.handle)
        finally:
            # Whatever happened here, nothing of the script is left behind.
            running.ended()
            end = process.finish()
        pipes.drain()
        return end


def _judge(shop: Workshop, running: RunningAttempt, rundir: Rundir, end: Exit) -> TaskOutcome:
    """Say how the script did; what it was told to do outweighs how it then ended."""
    claim = running.claim
    if running.stop_reason is not None:
        return _stopped(running.stop_reason, end, shop)
    fault = exit_fault(end)
    if fault is not None:
        return TaskOutcome(TaskState.FAILED, exit_code=end.code, fault=fault)
    outputs = shop.config.outputs
    if not outputs.results and not outputs.attachments:
        return TaskOutcome(TaskState.SUCCEEDED, exit_code=end.code)
    prefix = artifact_prefix(claim.id, claim.attempt, claim.lease_owner)
    keep = Keeper(shop.artifacts, prefix)
    try:
        with Beneath(Path(rundir.path)) as beneath:
            return TaskOutcome(
                TaskState.SUCCEEDED,
                exit_code=end.code,
                results=collect_results(outputs, rundir.output_paths, beneath, keep, shop.settings),
                attachments=collect_attachments(outputs, beneath, keep, shop.settings),
            )
    except ScriptError as error:
        _discard(keep)
        return replace(_fault(TaskState.FAILED, error.task_code, error.detail), exit_code=end.code)
    except (AttemptError, UnavailableError):
        _discard(keep)
        raise


def _discard(keep: Keeper) -> None:
    """Remove what was kept before the collection failed: no record names it."""
    with suppress(UnavailableError):  # retention removes it with the task
        keep.discard()


def _stopped(stopped: StopReason, end: Exit, shop: Workshop) -> TaskOutcome:
    if stopped is StopReason.TIMED_OUT:
        detail = f"the script was stopped after {shop.config.timeout_seconds:g} seconds"
        return replace(_fault(TaskState.TIMED_OUT, "timeout", detail), exit_code=end.code)
    if stopped is StopReason.OUTPUT_LIMIT:
        limit = shop.settings.max_output_bytes
        detail = f"the script wrote more than {limit} bytes to stdout or stderr"
        return _fault(TaskState.FAILED, "output_limit", detail)
    if stopped is StopReason.CANCELED:
        return TaskOutcome(TaskState.CANCELED, exit_code=end.code)
    # Drained, or fenced: then the report will be refused, whatever it says.
    return TaskOutcome(TaskState.QUEUED)


def _insist(action: Callable[[], Made], running: RunningAttempt, patience: float) -> Made:
    """Return what *action* makes, trying again while a service is away.

    Redis is waited for without end: the report that follows needs it anyway.
    The artifact store is given *patience* seconds, so that an hour's work is
    not thrown away for a short outage. After a lost lease nobody will look.
    """
    deadline = time.monotonic() + patience
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except (RedisError, UnavailableError) as error:
            if isinstance(error, RedisError):
                if not is_transient(error):
                    raise
            elif time.monotonic() >= deadline:
                raise
            if running.stop_reason is StopReason.FENCED:
                raise UnavailableError("the lease was lost") from error
        time.sleep(pause)
        pause = min(2 * pause, LAST_PAUSE_SECONDS)


def _fault(state: TaskState, code: str, detail: str) -> TaskOutcome:
    return TaskOutcome(state, fault=TaskFault(code, detail))
