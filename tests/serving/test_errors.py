"""What a caller learns of an error."""

import pytest
from google.rpc import code_pb2, status_pb2

from serving import errors
from serving.errors import (
    DOMAIN,
    STATUSES,
    InvalidRequestError,
    NoModelError,
    OverloadedError,
    ServingError,
    UnavailableError,
    from_status,
    internal_error,
    to_status,
)


def subclasses(tree: type[ServingError]) -> set[type[ServingError]]:
    """Every class below `tree`."""
    return {deeper for child in tree.__subclasses__() for deeper in {child, *subclasses(child)}}


def test_every_error_that_a_caller_can_see_has_a_status() -> None:
    """The table and the tree cannot drift apart."""
    assert set(STATUSES) == subclasses(ServingError)


def test_every_reason_is_used_once() -> None:
    """A reason names one class, so that a client can raise it again."""
    reasons = [status.reason for status in STATUSES.values()]
    assert len(reasons) == len(set(reasons))


@pytest.mark.parametrize("error", list(STATUSES), ids=[error.__name__ for error in STATUSES])
def test_an_error_crosses_the_wire_whole(error: type[ServingError]) -> None:
    """Class, message, field, delay and metadata arrive as they were sent."""
    sent = error("too many", field="pixels", retry_after_s=0.25, metadata={"came": 3})
    came = from_status(status_pb2.Status.FromString(to_status(sent).SerializeToString()))
    assert type(came) is error
    assert (came.message, came.field, came.retry_after_s, came.metadata) == ("too many", "pixels", 0.25, {"came": "3"})


def test_an_error_carries_one_error_info_of_our_domain() -> None:
    """AIP-193: exactly one ErrorInfo."""
    status = to_status(OverloadedError("full", retry_after_s=0.1))
    infos = [detail for detail in status.details if detail.type_url.endswith("ErrorInfo")]
    assert len(infos) == 1
    assert DOMAIN.encode() in infos[0].value


def test_details_that_do_not_apply_are_left_out() -> None:
    """No field, no BadRequest; no delay, no RetryInfo."""
    status = to_status(InvalidRequestError("wrong"))
    assert [detail.type_url.rsplit(".", 1)[1] for detail in status.details] == ["ErrorInfo"]


def test_a_status_that_is_not_ours_is_told_by_its_code() -> None:
    """A proxy's UNAVAILABLE is an UnavailableError, though it has no reason of ours."""
    came = from_status(status_pb2.Status(code=code_pb2.UNAVAILABLE, message="upstream connect error"))
    assert type(came) is UnavailableError
    assert not isinstance(came, NoModelError)


def test_a_call_that_the_server_cancelled_is_unavailable() -> None:
    """The server went away with the call still in its socket: another one can answer it."""
    assert type(from_status(status_pb2.Status(code=code_pb2.CANCELLED, message="CANCELLED"))) is UnavailableError


def test_a_code_that_we_never_send_is_still_an_error_of_ours() -> None:
    """Whatever comes, a caller catches ServingError."""
    came = from_status(status_pb2.Status(code=code_pb2.DATA_LOSS, message="gone"))
    assert type(came) is ServingError


def test_an_internal_error_says_nothing_but_its_request_id() -> None:
    """The text of an unexpected exception never leaves the server."""
    error = internal_error("abc")
    assert error.metadata == {"request_id": "abc"}
    assert "abc" in error.message


def test_the_tree_in_the_docstring_is_the_tree_of_the_code() -> None:
    """Every class of the module stands in the drawing at its top."""
    drawn = errors.__doc__ or ""
    defined = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
    assert [name for name in defined if name not in drawn] == []
