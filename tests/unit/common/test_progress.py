"""What a person, a pipe and a container see."""

import io
import json
import re

import pytest

from components.common.progress import (
    BarReporter,
    JsonReporter,
    LineReporter,
    QuietReporter,
    Reporter,
    make_reporter,
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def work(reporter: Reporter) -> None:
    reporter.info("model chosen", name="lenet", parameters=1234)
    reporter.warning("5 images were set aside", share=0.00277)
    with reporter.task("train", total=4, unit="images") as task:
        for _ in range(4):
            task.advance(1, accuracy=0.987654)


def test_a_pipe_gets_plain_lines() -> None:
    stream = io.StringIO()
    work(make_reporter(stream=stream))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "model chosen name=lenet parameters=1234"
    assert lines[1] == "warning: 5 images were set aside share=0.00277"
    assert re.fullmatch(r"train: 4/4 images at [\d.]+/s elapsed_s=[\d.]+ accuracy=0\.9877", lines[2])
    assert "\033" not in stream.getvalue()


def test_a_container_gets_one_json_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_LOG_FORMAT", "json")
    stream = Terminal()
    work(make_reporter(stream=stream))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning", "progress"]
    assert lines[0]["message"] == "model chosen"
    assert lines[0]["parameters"] == 1234
    assert lines[2] | {"done": 4, "total": 4, "unit": "images", "accuracy": 0.987654} == lines[2]
    assert all(line["time"].endswith("+00:00") for line in lines)


def test_a_json_line_is_strict_json() -> None:
    stream = io.StringIO()
    JsonReporter(stream).info("loss", value=float("nan"), other=float("inf"))
    assert "NaN" not in stream.getvalue()
    assert "Infinity" not in stream.getvalue()


def test_a_field_cannot_hide_time_level_or_message() -> None:
    stream = io.StringIO()
    JsonReporter(stream).info("real", level="fake", time="never")
    line = json.loads(stream.getvalue())
    assert line["level"] == "info"
    assert line["time"] != "never"


def test_a_terminal_gets_bars_and_the_messages_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVEYOR_LOG_FORMAT", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    reporter = make_reporter(stream=stream)
    assert isinstance(reporter, BarReporter)
    work(reporter)
    plain = re.sub(r"\033\[[\d;?]*[a-zA-Z]", "", stream.getvalue())
    assert "model chosen name=lenet parameters=1234" in plain
    assert "5 images were set aside" in stream.getvalue()


def test_no_color_takes_the_colour_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    make_reporter("bars", stream=stream).warning("look")
    assert "\033[33m" not in stream.getvalue()


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_reporter(stream=Terminal()), LineReporter)


def test_an_unknown_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.common.errors import InputError

    monkeypatch.setenv("CONVEYOR_LOG_FORMAT", "jsno")
    with pytest.raises(InputError, match="CONVEYOR_LOG_FORMAT"):
        make_reporter(stream=io.StringIO())


def test_quiet_says_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    work(QuietReporter())
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "warning: 5 images were set aside share=0.00277\n"


def test_quiet_in_a_container_still_writes_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEYOR_LOG_FORMAT", "json")
    stream = io.StringIO()
    work(make_reporter(stream=stream, quiet=True))
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["level"] == "warning"


@pytest.mark.parametrize("make", [LineReporter, JsonReporter, BarReporter])
def test_a_task_that_fails_lets_the_error_through(make: type[Reporter]) -> None:
    reporter = make(io.StringIO())  # type: ignore[call-arg]

    def fail() -> None:
        with reporter.task("work", total=2) as task:
            task.advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_nested_tasks_and_a_total_known_late() -> None:
    stream = Terminal()
    reporter = BarReporter(stream)
    with reporter.task("outer") as outer, reporter.task("inner", total=2) as inner:
        outer.set_total(3)
        inner.advance(2)
        outer.advance(1, loss=0.5)
    with reporter.task("after", total=1) as after:
        after.advance()


def test_lines_show_remaining_time_while_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.common.progress.LINE_INTERVAL_S", 0.0)
    stream = io.StringIO()
    with LineReporter(stream).task("decode", total=10) as task:
        task.advance(5)
    assert "eta_s=" in stream.getvalue().splitlines()[0]
