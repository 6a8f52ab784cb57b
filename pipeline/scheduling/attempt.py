"""A run as a schedule needs it: alone in its model's folder, and heard of when it comes to nothing."""

from collections.abc import Callable

from pipeline.errors import BusyError
from pipeline.outcome import Outcome, Stopped
from pipeline.request import Request
from pipeline.run import Step, plain, run
from pipeline.scheduling.lock import only_run
from pipeline.scheduling.notify import Notice, notify
from pipeline.train import Progress


def attempt(
    request: Request,
    step: Step = plain,
    *,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    made_up_for: Callable[[], Stopped | None] = lambda: None,
) -> Outcome | Stopped:
    """Run, unless `made_up_for` says why not, or another run of the same model is in progress: then it is "Skipped".

    Whoever `request.notify_url` names is told of a refusal, and of a failure, which is then raised as ever.
    """
    try:
        if stopped := made_up_for():
            return stopped
        with only_run(request.repository / request.model):
            ended = run(request, step, on_progress=on_progress)
    except BusyError as busy:
        return Stopped("Skipped", str(busy))
    except Exception as error:
        notify(request.notify_url, Notice("failed", request.model, f"{type(error).__name__}: {error}"))
        raise
    if isinstance(ended, Outcome) and ended.publication is None:
        notify(request.notify_url, Notice("refused", request.model, str(ended.refusal)))
    return ended
