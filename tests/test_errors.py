from ffebm.errors import FfebmError, Location


def test_a_message_says_where_what_is_allowed_and_what_to_change() -> None:
    assert str(FfebmError("found")) == "found"
    full = FfebmError("found", allowed="that", hint="do", location=Location("file", "node"))
    assert str(full) == "file:node: found; that\n  hint: do"
    assert str(FfebmError("found", location=Location("file"))) == "file: found"
